"""Compares what was sent and acknowledged with what is stored, and counts every fault; all counts have to be 0.

It trusts nobody: the ledger is played again from its beginning, beside the rows, the answers and the senders' clock.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from tests.torture.history import Answer, Json, Line, Sent, Stored

CREATED = 201
ORDERS = ("/allocate", "/confirm_hold")
# The facts that tell what is answered.
TOLD_BY = {
    "/allocate": {"Allocated", "Backordered"},
    "/ship_line": {"Shipped"},
    "/hold_stock": {"Held"},
    "/confirm_hold": {"Allocated"},
}
# What may be declined, and why, as things stand.
MAY_BE_REFUSED = {
    "/change_batch_quantity": {"count-below-shipped"},
    "/change_batch_eta": {"batch-arrived"},
    "/receive_batch": {"nothing-due"},
    "/undo_receipt": {"not-arrived", "shipped-already"},
    "/adjust_batch": {"not-arrived", "not-on-hand"},
    "/ship_line": {"not-shippable", "line-closed"},
    "/cancel_allocation": {"line-closed"},
    "/change_line_quantity": {"line-closed"},
    "/pin_line": {"not-pinnable", "line-closed"},
    "/hold_stock": {"not-enough-stock"},
    "/confirm_hold": {"hold-ended"},
}
FACTS = {
    *("AllocationRequired", "Backordered", "Allocated", "Deallocated", "Resized", "Pinned", "Shipped", "Cancelled"),
    *("Held", "HoldEnded"),
}
STOCK = {"BatchCreated", "BatchQuantityChanged", "BatchReceived", "ReceiptUndone", "StockAdjusted"}
CALLED = {"Deallocated", "AllocationRequired"}  # a line of which this was said last has no place

# Every kind of fault, in the words of the table that is printed.
KINDS = {
    "lost": "acknowledged, and not in the ledger or among the lines",
    "twice": "applied more than once",
    "answers": "answered differently on a retry, or otherwise than the ledger has it",
    "order": "acknowledged before another was sent, and after it in the ledger of their product",
    "oversold": "more promised than there was",
    "torn": "done in part",
    "unasked": "in the ledger, and nobody sent it so",
    "refused": "neither done nor to be tried again",
    "silent": "not acknowledged within the senders' patience",
    "verify": "differences that `allocation verify` found",
}

Fault = tuple[str, str]  # its kind, and a sentence that names the message


def check(sent: Sequence[Sent], stored: Stored) -> Mapping[str, Sequence[str]]:
    """The faults by kind; a kind without any has an empty list."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    ids = {event["id"] for event in stored.events}
    removed = [event for event in stored.earlier if event["id"] not in ids]
    events = sorted([*stored.events, *removed], key=_place) if removed else stored.events
    cascades = _cascades(events)
    gone = {name for event in removed for name in _names(event)} - {(line.orderid, line.sku) for line in stored.lines}
    books = _Books()
    for faults in (
        _receipts(sent, cascades),
        _answers(sent, cascades, gone),
        _order(sent, events),
        _promises(cascades, books),
        _lines(sent, stored.lines, books.lines, gone),
        _removals(removed, books.lines, gone),
        _counters(stored, books.lines, gone),
        (("verify", "a difference") for _ in range(stored.differences)),
    ):
        for kind, sentence in faults:
            found[kind].append(sentence)
    return found


def _place(event: Json) -> tuple[int, int]:
    """In the ledger; those that are kept in a row come after its own, by their steps."""
    return event["position"], int(event["id"].partition("~")[2] or 0)


def _names(event: Json) -> Sequence[_Name]:
    """The line or hold that a message is about, or both."""
    return [(event["body"][key], event["sku"]) for key in ("orderid", "holdid") if key in event["body"]]


def _cascades(events: Iterable[Json]) -> Mapping[str, Sequence[Json]]:
    """Messages by the one from outside that set them off, in ledger order."""
    cascades: dict[str, list[Json]] = defaultdict(list)
    for event in events:
        cascades[event["correlation_id"]].append(event)
    return cascades


def _receipts(sent: Iterable[Sent], cascades: Mapping[str, Sequence[Json]]) -> Iterator[Fault]:
    """Each acknowledged message is in the ledger once, whole and as it was sent, and nothing else is."""
    by_key = {message.key: message for message in sent}
    for message in by_key.values():
        yield from _receipt(message, is_there=message.key in cascades)
    for key, cascade in cascades.items():
        firsts = [event for event in cascade if event["causation_id"] is None]
        asked = by_key.get(key)
        if asked is None or not firsts or not asked.body.items() <= firsts[0]["body"].items():
            yield "unasked", f"{key} is in the ledger with {firsts and firsts[0]['body']}"
        if len(firsts) > 1 or len({event["id"] for event in cascade}) < len(cascade):
            yield "twice", f"{key} is in the ledger more than once"
        if not _is_whole(cascade):
            yield "torn", f"{key} has no whole cascade: {[event['id'] for event in cascade]}"


def _receipt(message: Sent, *, is_there: bool) -> Iterator[Fault]:
    """One that was refused and had been sent before may be done nevertheless, by who was slower to answer."""
    if message.refusal is None and message.acknowledged_at is not None and not is_there:
        yield "lost", f"{message.key} {message.path} was acknowledged and is not in the ledger"
    if message.refusal is not None and message.attempts == 1 and is_there:
        yield "answers", f"{message.key} {message.path} was refused and is in the ledger"


def _is_whole(cascade: Sequence[Json]) -> bool:
    """No step is missing, and no line or hold is left without a place."""
    ids = [event["id"] for event in cascade]
    key = cascade[0]["correlation_id"]
    if set(ids) != {key, *(f"{key}~{step}" for step in range(1, len(ids)))}:
        return False
    last = {
        event["body"].get("orderid") or event["body"]["holdid"]: event["type"]
        for event in cascade[1:]
        if event["type"] in FACTS
    }
    return CALLED.isdisjoint(last.values())


def _answers(sent: Iterable[Sent], cascades: Mapping[str, Sequence[Json]], gone: AbstractSet[_Name]) -> Iterator[Fault]:
    for message in sent:
        if message.acknowledged_at is None:
            yield "silent", f"{message.key} {message.path} was never acknowledged"
            continue
        if _may_be_refused(message, gone):
            continue
        statuses = {answer.status for answer in message.answers}
        if statuses != {CREATED}:
            yield "refused", f"{message.key} {message.path} {message.body}: {message.answers[0]}"
        elif any(answer != message.answers[0] for answer in message.answers):
            yield "answers", f"{message.key} was answered {message.answers}"
        elif message.path in TOLD_BY and message.key in cascades:
            yield from _told_as_recorded(message, message.answers[0], cascades[message.key])


def _may_be_refused(message: Sent, gone: AbstractSet[_Name]) -> bool:
    """As things stood; that there is no such line is true of one that went when it had been closed long enough."""
    if message.refusal in {"unknown-line", "unknown-hold"}:
        return (message.body.get("holdid") or message.body["orderid"], message.sku) in gone
    return message.refusal in MAY_BE_REFUSED.get(message.path, ())


def _told_as_recorded(message: Sent, answer: Answer, cascade: Sequence[Json]) -> Iterator[Fault]:
    """What was done already is answered, and not recorded again."""
    recorded = [event["body"].get("batchref") for event in cascade if event["type"] in TOLD_BY[message.path]]
    if recorded != [answer.body["batchref"]] and (recorded or message.path in ORDERS):
        yield "answers", f"{message.key} was answered {answer.body}, and the ledger has {recorded}"


def _order(sent: Iterable[Sent], events: Sequence[Json]) -> Iterator[Fault]:
    """What was sent after another was acknowledged comes after it in their product's ledger."""
    by_key = {message.key: message for message in sent if message.refusal is None}
    earliest_later: dict[str, tuple[float, str]] = {}  # by SKU, the first acknowledgement of those further on
    for event in reversed(events):
        message = by_key.get(event["id"])
        if message is None:
            continue
        acknowledged_at, key = earliest_later.get(event["sku"], (float("inf"), ""))
        if acknowledged_at < message.sent_at:
            yield "order", f"{message.key} was sent after {key} was acknowledged, and comes before it"
        if message.acknowledged_at is not None and message.acknowledged_at < acknowledged_at:
            earliest_later[event["sku"]] = (message.acknowledged_at, message.key)


def _promises(cascades: Mapping[str, Sequence[Json]], books: _Books) -> Iterator[Fault]:
    """Played again, no line is promised twice and no batch promises more than it has, after any message."""
    for cascade in cascades.values():
        for event in cascade:
            yield from books.enter(event["id"], event["type"], event["body"])
        yield from books.oversold(cascade[0]["id"])


def _lines(
    sent: Iterable[Sent], lines: Iterable[Line], played: Mapping[_Name, _Played], gone: AbstractSet[_Name]
) -> Iterator[Fault]:
    """Every line stands where the ledger leads to, and every order that was acknowledged is a line."""
    rows: dict[_Name, list[Line]] = defaultdict(list)
    for line in lines:
        rows[line.orderid, line.sku].append(line)
    for name in (played.keys() | rows.keys()) - gone:
        yield from _as_stored(name, played.get(name), rows[name])
    for message in sent:
        ordered = message.path in ORDERS and message.acknowledged_at is not None and message.refusal is None
        if ordered and (message.body["orderid"], message.sku) not in played:
            yield "lost", f"the line of {message.body['orderid']} was acknowledged and stands nowhere"


def _removals(removed: Iterable[Json], played: Mapping[_Name, _Played], gone: AbstractSet[_Name]) -> Iterator[Fault]:
    """Only what is about lines and holds that were over is removed, and those with it."""
    for name in gone:
        if name in played and played[name].state not in {SHIPPED, CLOSED}:
            yield "lost", f"{name} went, and the ledger has {played[name]}"
    for event in removed:
        if event["type"] != "OutOfStock" and gone.isdisjoint(_names(event)):
            yield "lost", f"{event['id']} {event['type']} was removed"


def _as_stored(name: _Name, played: _Played | None, rows: Sequence[Line]) -> Iterator[Fault]:
    """A line is stored once, as the ledger leads to it; one that was cancelled, or a hold that ended, nowhere."""
    is_over = played is None or played.state == CLOSED
    if len(rows) > 1:
        yield "twice", f"{name} stands {len(rows)} times"
    elif not rows and not is_over:
        yield "lost", f"{name} stands nowhere, and the ledger has {played}"
    elif rows and (is_over or played != _Played(rows[0].qty, rows[0].batchref, _state(rows[0]))):
        yield "torn", f"{name} is stored as {rows[0]}, and the ledger has {played}"


def _state(line: Line) -> str:
    return line.state if line.state in {SHIPPED, HELD} else OPEN


_Name = tuple[str, str]  # the id of an order or a hold, and the SKU
OPEN, HELD, SHIPPED, CLOSED = "open", "held", "shipped", "closed"


class _Played(NamedTuple):
    """A line or a hold as the facts lead to it."""

    qty: int
    batchref: str | None = None
    state: str = OPEN


class _Books:
    """What every batch has and has promised, and where every line stands, as the facts tell it."""

    def __init__(self) -> None:
        self.lines: dict[_Name, _Played] = {}
        self._purchased: Counter[str] = Counter()
        self._arrived: dict[str, int] = {}  # of the batches of which something is due
        self._promised: Counter[str] = Counter()
        self._touched: set[str] = set()  # batches, by the cascade that is played

    def enter(self, id_: str, type_: str, body: Json) -> Iterator[Fault]:
        if type_ in STOCK:
            self._enter_stock(type_, body["ref"], body)
            self._touched.add(body["ref"])
        elif type_ in FACTS:
            yield from self._enter_fact(id_, type_, body)

    def _enter_stock(self, type_: str, ref: str, body: Json) -> None:
        purchased, arrived = self._purchased[ref], self._arrived.get(ref)
        match type_:
            case "BatchCreated" if ref not in self._purchased:
                purchased, arrived = body["qty"], 0 if body.get("eta") else None
            case "BatchQuantityChanged":
                purchased = body["qty"]
                arrived = None if arrived and purchased <= arrived else arrived
            case "BatchReceived" if arrived is not None and body.get("qty", purchased) < purchased - arrived:
                arrived += body["qty"]
            case "BatchReceived":
                purchased, arrived = (arrived or 0) + body.get("qty", purchased - (arrived or 0)), None
            case "ReceiptUndone":
                arrived = (purchased if arrived is None else arrived) - body["qty"]
            case "StockAdjusted":
                purchased += body["by"]
                arrived = arrived + body["by"] if arrived else arrived
        self._purchased[ref] = purchased
        self._arrived.pop(ref, None)
        if arrived is not None:
            self._arrived[ref] = arrived

    def _enter_fact(self, id_: str, type_: str, body: Json) -> Iterator[Fault]:
        """A fact says where its line stood or goes to; that is compared with where it stands."""
        name = body.get("orderid") or body["holdid"], body["sku"]
        known = self.lines.get(name)
        state, ref = known and known.state, known and known.batchref
        told = body.get("batchref")
        as_expected, after = {
            "AllocationRequired": (True, known or _Played(body["qty"])),
            "Backordered": (ref is None, _Played(body["qty"])),
            "Allocated": (ref is None and state in {None, OPEN}, _Played(body["qty"], told)),
            "Deallocated": (state in {OPEN, HELD} and ref == told, _Played(body["qty"], None, state or OPEN)),
            "Resized": (state == OPEN, _Played(body["qty"], ref)),
            "Pinned": (state == OPEN, known),
            "Shipped": (state == OPEN and ref == told, _Played(body["qty"], told, SHIPPED)),
            "Cancelled": (state == OPEN and ref == told, _Played(body["qty"], None, CLOSED)),
            "Held": (state in {None, HELD}, _Played(body["qty"], told, HELD)),
            "HoldEnded": (state == HELD, _Played(body["qty"], None, CLOSED)),
        }[type_]
        if as_expected:
            self._move(known, -1)
        else:
            yield "twice", f"{id_} {type_} {name} {told}, which is {known}"
        self._move(after, 1)
        if after is not None:
            self.lines[name] = after

    def _move(self, line: _Played | None, times: int) -> None:
        if line is not None and line.batchref is not None:
            self._promised[line.batchref] += times * line.qty
            self._touched.add(line.batchref)

    def oversold(self, id_: str) -> Iterator[Fault]:
        """Of the batches that the cascade was about."""
        for ref in self._touched:
            if self._promised[ref] > self._purchased[ref]:
                promises = f"{self._promised[ref]} of {self._purchased[ref]}"
                yield "oversold", f"{ref} promises {promises} after {id_}"
        self._touched.clear()


def _counters(stored: Stored, played: Mapping[_Name, _Played], gone: AbstractSet[_Name]) -> Iterator[Fault]:
    """The rows say the same as the lines, those that went among them, and no batch holds more than it has."""
    held: Counter[str] = Counter()
    for name in gone & played.keys():
        held[played[name].batchref or ""] += played[name].qty
    for line in stored.lines:
        if line.batchref is not None:
            held[line.batchref] += line.qty
    for batch in stored.batches:
        if max(held[batch.ref], batch.allocated_quantity) > batch.purchased_quantity:
            yield "oversold", f"{batch.ref} holds {held[batch.ref]} of {batch.purchased_quantity}"
        elif held[batch.ref] != batch.allocated_quantity:
            yield "torn", f"{batch.ref} counts {batch.allocated_quantity} and holds {held[batch.ref]}"
