"""The pages, as a table: the parameters, the queries and the live fragments of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgspec

from allocation import views
from allocation.adapters.webhooks import all_webhooks
from allocation.bootstrap import Service
from allocation.console_views import deliveries, ledger, overview, product, steering, stock
from allocation.domain.errors import (
    Refusal,
    UnknownBatch,
    UnknownDeadLetter,
    UnknownMessage,
    UnknownOrder,
    UnknownSku,
)
from allocation.domain.fields import cleaned
from allocation.entrypoints.console.changes import CHANGES
from allocation.entrypoints.console.drawing import size_of, step_curve, time_axis
from allocation.entrypoints.console.imports import MAX_FILE_BYTES, Imports
from allocation.entrypoints.console.live import Hub, Topics
from allocation.entrypoints.console.pacing import Paced
from allocation.entrypoints.console.proof import Prover
from allocation.entrypoints.console.tally import Day, Tally
from allocation.entrypoints.intake.lines import ID
from allocation.entrypoints.parameters import FIRST, LAST, MAX_ID_LENGTH, Number, OneOf, Text
from allocation.entrypoints.previews import effect_for_pages
from allocation.entrypoints.refusals import UnknownImport
from allocation.service_layer import flow
from allocation.service_layer.handlers import EFFECTS
from allocation.service_layer.messages import EVENTS, field_rules, incoming_types
from allocation.service_layer.proving.audit import KINDS
from allocation.views.explain import Explanation, explain

CHART_S = 60
LEDGER = Topics(ledger=True)
ALWAYS = Topics(always=True)


@dataclass(frozen=True, slots=True)
class Console:
    """The sources of all pages."""

    service: Service
    totals: Paced[overview.Totals]
    tally: Tally
    prover: Prover
    hub: Hub
    imports: Imports


class Asked(NamedTuple):
    """The request for a page: its key, and the values of its parameters."""

    key: str
    values: Mapping[str, Any]


class Loaded(NamedTuple):
    """The content of a page. ``crumbs`` lead to it: the name and the place of each."""

    values: Mapping[str, Any]
    topics: Topics
    title: str
    crumbs: Sequence[tuple[str, str, str | None]] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """One page; ``place`` is its path below the console, which a key may follow. Its template has the same name."""

    place: str
    name: str
    load: Callable[[Console, Asked], Awaitable[Loaded]]
    fragments: Sequence[str] = ()
    parameters: Sequence[Text | Number | OneOf] = ()
    key: Text | None = None
    unknown: Callable[[str], Refusal] | None = None


async def load_overview(console: Console, _: Asked) -> Loaded:
    totals = await console.totals.get()
    day = await console.tally.today()
    seconds = console.service.writer.meter.last(CHART_S)
    counted = await console.service.reader.run(overview.deliveries)
    values = {
        "totals": totals.value,
        "as_of": totals.at,
        "day": day,
        "today": console.service.today(),
        "deliveries": counted,
        "rates": [second.messages for second in seconds],
        "sizes": [second.group_size for second in seconds],
        "groups": sum(second.groups for second in seconds),
        "chart_s": CHART_S,
    }
    return Loaded(values, ALWAYS, "Overview")


async def load_products(console: Console, asked: Asked) -> Loaded:
    search, only, after = (asked.values.get(name, "") for name in ("q", "only", "after"))
    sort = asked.values.get("sort", "sku")
    anywhere = asked.values.get("match") == "anywhere"
    if sort == "waiting":
        only = "waiting"
    about = {"search": search, "only": only, "sort": sort, "after": after, "today": console.service.today()}
    page = await console.service.reader.run_by_index(stock.products, anywhere=anywhere, **about)
    if search and not page.rows and not after and not anywhere:
        anywhere = True
        page = await console.service.reader.run_by_index(stock.products, anywhere=True, **about)
    values = {"page": page, "q": search, "only": only, "sort": sort, "after": after, "anywhere": anywhere}
    return Loaded(values, LEDGER, "Products")


async def load_product(console: Console, asked: Asked) -> Loaded:
    values, sku, today = asked.values, asked.key, console.service.today()
    found = await console.service.reader.run(
        product.look,
        sku,
        today,
        batches_after=values.get("batches_after", ""),
        waiting_after=values.get("waiting_after", FIRST),
        before=values.get("before", LAST),
    )
    shown = {
        **found._asdict(),
        "rules": found.rules or console.service.usual_rules,
        "axis": time_axis(found.product.batches, today.day),
        "curve": step_curve(found.promisable, today.day),
        "largest": max(map(size_of, found.product.batches), default=1),
        "today": today,
    }
    return Loaded(shown, Topics(skus=frozenset([sku])), sku, [_PRODUCTS])


async def load_batch(console: Console, asked: Asked) -> Loaded:
    before = asked.values.get("before", LAST)
    found = await console.service.reader.run(
        views.batch, asked.key, console.service.today(), before=before, limit=stock.PAGE
    )
    crumbs = [_PRODUCTS, (found.sku, "products", found.sku)]
    state = await console.service.reader.run(steering.batch_state, asked.key)
    values = {"batch": found, "state": state, "today": console.service.today()}
    return Loaded(values, Topics(skus=frozenset([found.sku])), asked.key, crumbs)


async def load_outcome(console: Console, asked: Asked) -> Loaded:
    found = await console.service.reader.run(steering.touched, asked.key, console.service.calendar)
    values = {"touched": found, "effect": effect_for_pages(found.lines, found.stock), "id": asked.key}
    verbs = {change.kind.__name__: change.verb for change in CHANGES.values()}
    return Loaded(values, Topics(), f"{verbs.get(found.type, found.type)}: done", _crumbs_to(found))


async def load_order(console: Console, asked: Asked) -> Loaded:
    orderid, after, explained = asked.key, asked.values.get("after", ""), asked.values.get("explain", "")
    lines = await console.service.reader.run(stock.order, orderid, after=after)
    before = asked.values.get("before", LAST)
    history = await console.service.reader.run(ledger.latest, orderid=orderid, before=before, limit=ledger.HISTORY)
    more = len(lines) > stock.PAGE
    shown = await console.service.reader.run(stock.with_parts, orderid, lines[: stock.PAGE])
    values = {
        "orderid": orderid,
        "lines": shown,
        "after": after,
        "next_after": lines[stock.PAGE - 1].sku if more else None,
        "history": history,
        "explanation": await _explanation(console, orderid, explained) if explained else None,
        "today": console.service.today(),
    }
    topics = Topics(orderids=frozenset([orderid, *(line.orderid for line in shown)]))
    return Loaded(values, topics, orderid, [("Orders", "orders", None)])


async def _explanation(console: Console, orderid: str, sku: str) -> Explanation:
    service = console.service
    rules, calendar = service.usual_rules, service.calendar
    return await service.reader.run(explain, orderid, sku, service.today(), usual_rules=rules, calendar=calendar)


async def load_orders(console: Console, _: Asked) -> Loaded:
    latest = await console.service.reader.run(ledger.latest, type_="AllocationRequired")
    return Loaded({"page": latest}, LEDGER, "Orders")


async def load_events(console: Console, asked: Asked) -> Loaded:
    type_, sku, orderid = (asked.values.get(name, "") for name in ("type", "sku", "orderid"))
    before = asked.values.get("before", LAST)
    about = {"type_": type_, "sku": sku, "orderid": orderid, "before": before}
    page = await console.service.reader.run(ledger.latest, **about)
    topics = Topics(skus=frozenset([sku])) if sku else Topics(orderids=frozenset([orderid])) if orderid else LEDGER
    values = {"page": page, "type": type_, "sku": sku, "orderid": orderid, "types": list(EVENTS), "before": before}
    return Loaded(values, topics if before == LAST else Topics(), "Events")


async def load_event(console: Console, asked: Asked) -> Loaded:
    found = await console.service.reader.run(ledger.cascade, asked.key)
    children: dict[int | None, list[ledger.Told]] = {}
    for told in found.messages:
        children.setdefault(told.cause, []).append(told)
    effects: dict[int, list[ledger.EffectOf]] = {}
    for effect in found.effects:
        effects.setdefault(effect.step, []).append(effect)
    first = found.messages[0]
    of_message = {
        told.type: [effect.__name__ for effect in EFFECTS.get(EVENTS[told.type], ())] for told in found.messages
    }
    values = {"cascade": found, "children": children, "effects": effects, "declared": of_message, "id": asked.key}
    return Loaded(values, Topics(skus=frozenset([first.sku])), asked.key, [("Events", "events", None)])


async def load_flow(console: Console, _: Asked) -> Loaded:
    day = await console.tally.today()
    labels = {edge: f"{_count(day, edge):,}" for edge in flow.edges()}
    longest = [node.__name__ for node in flow.longest_path()]
    return Loaded(
        {"picture": flow.svg(labels=labels), "day": day, "longest": longest},
        LEDGER if day.is_complete else ALWAYS,
        "Flow",
    )


async def load_deliveries(console: Console, asked: Asked) -> Loaded:
    effect, sku = asked.values.get("effect"), asked.values.get("sku")
    declared = {each.__name__ for several in EFFECTS.values() for each in several}
    rows = await console.service.reader.run(deliveries.effects, declared)
    letters = await console.service.reader.run(
        views.dead_letters, effect=effect, sku=sku, after=asked.values.get("after", FIRST), limit=stock.PAGE
    )
    hooks = {each.id: each.url for each in await _webhooks(console)}
    did, count = asked.values.get("did", ""), asked.values.get("count", 0)
    done = {"did": did, "count": count}
    values = {"effects": rows, "letters": letters, "effect": effect or "", "sku": sku or "", "webhooks": hooks, **done}
    return Loaded(values, ALWAYS, "Deliveries")


async def load_dead_letter(console: Console, asked: Asked) -> Loaded:
    letter = await console.service.reader.run(views.dead_letter, asked.key)
    values = {"letter": letter, "fields_of": msgspec.json.decode(letter.body)}
    return Loaded(values, Topics(), f"Dead letter {asked.key}", [("Deliveries", "deliveries", None)])


async def load_books(console: Console, _: Asked) -> Loaded:
    return Loaded({"proof": console.prover.last, "kinds": KINDS}, ALWAYS, "Books")


async def load_imports(_: Console, __: Asked) -> Loaded:
    return Loaded({"most": MAX_FILE_BYTES}, Topics(), "Import")


async def load_import(console: Console, asked: Asked) -> Loaded:
    found = console.imports.find(asked.key)
    kind = asked.values.get("type") or (found.kind.__name__ if found.kind else found.likely_type)
    values = {
        "found": found,
        "kind": kind,
        "types": incoming_types(),
        "fields": [*(rule.name for rule in field_rules(EVENTS[kind])), ID] if kind else (),
    }
    return Loaded(values, ALWAYS, found.name, [("Import", "import", None)])


_PRODUCTS = ("Products", "products", None)
_BEFORE = Number("before", "Begin before the message of this position", FIRST, LAST, LAST)
_SKU = Text("sku", "The product")
_ORDERID = Text("orderid", "The order")
_TYPED_SKU, _TYPED_ORDERID = replace(_SKU, is_typed=True), replace(_ORDERID, is_typed=True)

PAGES: Sequence[Page] = (
    Page("", "overview", load_overview, ("stock", "attention", "today", "busy")),
    Page(
        "products",
        "products",
        load_products,
        ("list",),
        (
            Text("q", "The beginning of the SKU", is_typed=True),
            OneOf("only", ("waiting", "short", "late", "overdue", "blocked", "retired")),
            OneOf("sort", ("sku", "-sku", "waiting")),
            OneOf("match", ("anywhere",)),
            Text("after", "Begin after this SKU"),
        ),
    ),
    Page(
        "products",
        "product",
        load_product,
        ("stock", "batches", "promisable", "waiting", "late", "holds", "rules", "history"),
        (
            Text("batches_after", "Begin after the batch with this reference"),
            Number("waiting_after", "Begin after the waiting line of this position", FIRST, LAST, FIRST),
            _BEFORE,
        ),
        _SKU,
        UnknownSku,
    ),
    Page(
        "batches",
        "batch",
        load_batch,
        ("deeds", "stock", "lines"),
        (Number("before", "Begin before the line of this position", FIRST, LAST, LAST),),
        Text("ref", "The batch"),
        UnknownBatch,
    ),
    Page("outcome", "outcome", load_outcome, (), (), Text("id", "The message", MAX_ID_LENGTH), UnknownMessage),
    Page("orders", "orders", load_orders, ("list",)),
    Page(
        "orders",
        "order",
        load_order,
        ("lines", "explanation", "history"),
        (Text("after", "Begin after this SKU"), _BEFORE, Text("explain", "The product whose line is explained")),
        _ORDERID,
        UnknownOrder,
    ),
    Page(
        "events", "events", load_events, ("list",), (OneOf("type", tuple(EVENTS)), _TYPED_SKU, _TYPED_ORDERID, _BEFORE)
    ),
    Page("events", "event", load_event, ("tree",), (), Text("id", "The message", MAX_ID_LENGTH), UnknownMessage),
    Page("import", "imports", load_imports),
    Page(
        "import",
        "import",
        load_import,
        ("progress",),
        (OneOf("type", tuple(incoming_types())),),
        Text("id", "The import"),
        lambda _: UnknownImport(),
    ),
    Page("flow", "flow", load_flow, ("picture",)),
    Page(
        "deliveries",
        "deliveries",
        load_deliveries,
        ("effects", "letters"),
        (
            Text("effect", "The effect"),
            _TYPED_SKU,
            Number("after", "Begin after this number", FIRST, LAST, FIRST),
            OneOf("did", ("retry", "drop")),
            Number("count", "How many were retried or dropped just now", FIRST, LAST, FIRST),
        ),
    ),
    Page(
        "deliveries",
        "dead_letter",
        load_dead_letter,
        (),
        (),
        Text("number", "The dead letter", len(str(LAST))),
        UnknownDeadLetter,
    ),
    Page("books", "books", load_books, ("proof",)),
)


def values_of(page: Page, items: Sequence[tuple[str, str]]) -> Mapping[str, Any]:
    """The given parameters, parsed; empty and unknown ones are ignored. Raises `InvalidMessage`."""
    known = {parameter.name: parameter for parameter in page.parameters}
    typed = {name for name, parameter in known.items() if isinstance(parameter, Text) and parameter.is_typed}
    given = [(name, cleaned(value) if name in typed else value) for name, value in items]
    return {name: known[name].parse(value) for name, value in given if value and name in known}


def _crumbs_to(touched: steering.Touched) -> Sequence[tuple[str, str, str | None]]:
    """The crumbs to the subject of a message."""
    orderid, ref = touched.fields.get("orderid"), touched.fields.get("ref")
    if orderid is not None:
        return [("Orders", "orders", None), (orderid, "orders", orderid)]
    if not touched.sku:  # a change of several products
        return [_PRODUCTS]
    to_product = [_PRODUCTS, (touched.sku, "products", touched.sku)]
    return to_product if ref is None else [*to_product, (ref, "batches", ref)]


async def _webhooks(console: Console) -> Sequence[Any]:
    return await console.service.reader.run(all_webhooks)


def _count(day: Day, edge: flow.Edge) -> int:
    """The number of times that the flow took this edge."""
    cause, result = edge
    if isinstance(cause, type):
        return day.total(cause.__name__)
    handled = [event for event, handlers in flow.DECLARED.handlers.items() if cause in handlers]
    return sum(day.pair(event.__name__, result.__name__) for event in handled)
