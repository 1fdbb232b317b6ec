"""Compares what was sent and acknowledged with what is stored, and counts every fault; all counts have to be 0.

It trusts nobody: the ledger is played again from its beginning, beside the rows, the answers and the senders' clock.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.torture.history import Answer, Json, Line, Sent, Stored

CREATED = 201
ORDER = "/allocate"

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
    cascades = _cascades(stored.events)
    for faults in (
        _receipts(sent, cascades),
        _answers(sent, cascades),
        _line_rows(sent, stored.lines),
        _order(sent, stored.events),
        _promises(stored.events),
        _counters(stored),
        (("verify", "a difference") for _ in range(stored.differences)),
    ):
        for kind, sentence in faults:
            found[kind].append(sentence)
    return found


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
        if message.acknowledged_at is not None and message.key not in cascades:
            yield "lost", f"{message.key} {message.path} was acknowledged and is not in the ledger"
    for key, cascade in cascades.items():
        firsts = [event for event in cascade if event["causation_id"] is None]
        asked = by_key.get(key)
        if asked is None or not firsts or not asked.body.items() <= firsts[0]["body"].items():
            yield "unasked", f"{key} is in the ledger with {firsts and firsts[0]['body']}"
        if len(firsts) > 1 or len({event["id"] for event in cascade}) < len(cascade):
            yield "twice", f"{key} is in the ledger more than once"
        if not _is_whole(cascade):
            yield "torn", f"{key} has no whole cascade: {[event['id'] for event in cascade]}"


def _is_whole(cascade: Sequence[Json]) -> bool:
    """No step is missing, and the last thing that happened to each line called is that it stands or waits."""
    ids = [event["id"] for event in cascade]
    key = cascade[0]["correlation_id"]
    if set(ids) != {key, *(f"{key}~{step}" for step in range(1, len(ids)))}:
        return False
    about_lines = [event for event in cascade[1:] if "orderid" in event["body"] and event["type"] != "PromiseChanged"]
    last = {event["body"]["orderid"]: event["type"] for event in about_lines}
    return all(type_ in {"Allocated", "Backordered"} for type_ in last.values())


def _answers(sent: Iterable[Sent], cascades: Mapping[str, Sequence[Json]]) -> Iterator[Fault]:
    for message in sent:
        if message.acknowledged_at is None:
            yield "silent", f"{message.key} {message.path} was never acknowledged"
            continue
        statuses = {answer.status for answer in message.answers}
        if statuses != {CREATED}:
            yield "refused", f"{message.key} {message.path} {message.body}: {message.answers[0]}"
        elif any(answer != message.answers[0] for answer in message.answers):
            yield "answers", f"{message.key} was answered {message.answers}"
        elif message.path == ORDER and message.key in cascades:
            yield from _told_as_recorded(message, message.answers[0], cascades[message.key])


def _told_as_recorded(message: Sent, answer: Answer, cascade: Sequence[Json]) -> Iterator[Fault]:
    recorded = [event["body"].get("batchref") for event in cascade if event["type"] in {"Allocated", "Backordered"}]
    if recorded != [answer.body["batchref"]]:
        yield "answers", f"{message.key} was answered {answer.body}, and the ledger has {recorded}"


def _line_rows(sent: Iterable[Sent], lines: Iterable[Line]) -> Iterator[Fault]:
    """Each acknowledged line is stored once, with its quantity."""
    stored: dict[tuple[str, str], list[int]] = defaultdict(list)
    for line in lines:
        stored[line.orderid, line.sku].append(line.qty)
    for message in sent:
        if message.path != ORDER or message.acknowledged_at is None:
            continue
        orderid, sku, qty = message.body["orderid"], message.body["sku"], message.body["qty"]
        match stored.get((orderid, sku), []):
            case []:
                yield "lost", f"the line of {orderid} was acknowledged and stands nowhere"
            case [one] if one == qty:
                pass
            case [one]:
                yield "torn", f"the line of {orderid} has quantity {one}, not {qty}"
            case several:
                yield "twice", f"the line of {orderid} stands {len(several)} times"


def _order(sent: Iterable[Sent], events: Sequence[Json]) -> Iterator[Fault]:
    """What was sent after another was acknowledged comes after it in their product's ledger."""
    by_key = {message.key: message for message in sent}
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


def _promises(events: Iterable[Json]) -> Iterator[Fault]:
    """Played again, no line is promised twice and no batch promises more than it has, after any message."""
    books = _Books()
    for cascade in _cascades(events).values():
        for event in cascade:
            yield from books.enter(event["id"], event["type"], event["body"])
        yield from books.oversold(cascade)


class _Books:
    """What every batch has and has promised, and where every line stands, as the facts tell it."""

    def __init__(self) -> None:
        self._purchased: Counter[str] = Counter()
        self._promised: Counter[str] = Counter()
        self._stands: dict[tuple[str, str], str] = {}

    def enter(self, id_: str, type_: str, body: Json) -> Iterator[Fault]:
        match type_:
            case "BatchCreated":
                self._purchased.setdefault(body["ref"], body["qty"])
            case "BatchQuantityChanged":
                self._purchased[body["ref"]] = body["qty"]
            case "Allocated":
                line = body["orderid"], body["sku"]
                if line in self._stands:
                    yield "twice", f"{id_} allocates {line}, which stands on {self._stands[line]}"
                self._stands[line] = body["batchref"]
                self._promised[body["batchref"]] += body["qty"]
            case "Deallocated":
                if self._stands.pop((body["orderid"], body["sku"]), None) != body["batchref"]:
                    yield "twice", f"{id_} takes a line from {body['batchref']}, where it does not stand"
                self._promised[body["batchref"]] -= body["qty"]

    def oversold(self, cascade: Sequence[Json]) -> Iterator[Fault]:
        """Of the batches that the cascade named."""
        for ref in {event["body"].get("batchref") or event["body"].get("ref") for event in cascade} - {None}:
            if self._promised[ref] > self._purchased[ref]:
                promises = f"{self._promised[ref]} of {self._purchased[ref]}"
                yield "oversold", f"{ref} promises {promises} after {cascade[0]['id']}"


def _counters(stored: Stored) -> Iterator[Fault]:
    """The rows say the same as the lines, and no batch holds more than it has."""
    held: Counter[str] = Counter()
    for line in stored.lines:
        if line.batchref is not None:
            held[line.batchref] += line.qty
    for batch in stored.batches:
        if max(held[batch.ref], batch.allocated_quantity) > batch.purchased_quantity:
            yield "oversold", f"{batch.ref} holds {held[batch.ref]} of {batch.purchased_quantity}"
        elif held[batch.ref] != batch.allocated_quantity:
            yield "torn", f"{batch.ref} counts {batch.allocated_quantity} and holds {held[batch.ref]}"
