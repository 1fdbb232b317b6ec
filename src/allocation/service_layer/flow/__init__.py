"""The flow of events: the handlers of each event, and the events that each handler may raise. Proved to end, and drawn.

`check` runs at start. It guarantees that the number of consecutive steps of a message is at most the length of
`longest_path`, because no event can set itself off again.
"""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from allocation.domain.events import AllocationRequired, Event, Notice, Request
from allocation.domain.standing import EVOLVE, GIVEN
from allocation.service_layer.flow.drawing import Box, draw
from allocation.service_layer.handlers import EFFECTS, HANDLERS, RAISES, Effect, Handler

Node = type[Event] | Handler | Effect
Edge = tuple[Node, Node]

SHAPES = {"event": '(["{}"])', "fact": '("{}")', "handler": '["{}"]', "effect": '[/"{}"/]'}


class Flow(NamedTuple):
    """The tables of handlers, raised events and changes; without arguments those of the service."""

    handlers: Mapping[type[Event], Sequence[Handler]] = HANDLERS
    raises: Mapping[Handler, frozenset[type[Event]]] = RAISES
    effects: Mapping[type[Event], Sequence[Effect]] = EFFECTS
    evolve: Mapping[type[Event], Callable[..., Any]] = EVOLVE


DECLARED = Flow()


class InvalidFlow(ValueError):
    """The tables contradict each other, or an event could set itself off again."""


def check(flow: Flow = DECLARED) -> None:
    """Raise `InvalidFlow` unless every row is present and the consequences of every message end."""
    _check_facts(flow)
    for event, handlers in flow.handlers.items():
        for handler in handlers:
            _check_rows(flow, event, handler)
    for event in flow.effects:
        if event not in flow.handlers:
            raise InvalidFlow(f"{event.__name__} is in EFFECTS without a row in HANDLERS: give it one, [] if need be")
    _in_order(flow)


def edges(flow: Flow = DECLARED) -> list[Edge]:
    """The edges of the flow: events to their handlers and effects, handlers to the events that they may raise."""
    order = list(flow.handlers)
    found: list[Edge] = []
    for event, handlers in flow.handlers.items():
        found += [(event, handler) for handler in handlers]
        found += [(event, effect) for effect in flow.effects.get(event, ())]
        for handler in handlers:
            found += [(handler, raised) for raised in sorted(flow.raises[handler], key=order.index)]
    return list(dict.fromkeys(found))  # the edges of a handler of two events are listed once


def longest_path(flow: Flow = DECLARED) -> list[Node]:
    """The longest chain of causes, from an event to the last thing it can set off. The flow must be valid."""
    best: dict[Node, list[Node]] = {}
    for node in _in_order(flow):
        before = [best[cause] for cause, effect in edges(flow) if effect is node]
        best[node] = [*max(before, key=len, default=[]), node]
    return max(best.values(), key=len, default=[])


def mermaid(flow: Flow = DECLARED) -> str:
    """The flow as a Mermaid flowchart."""
    check(flow)
    names = {node: f"n{number}" for number, node in enumerate(_nodes(flow))}
    kinds = {node: _kind(node, flow) for node in names}
    longest = " → ".join(_name(node) for node in longest_path(flow))
    lines = ["flowchart LR", f"    %% It ends. The longest chain of causes: {longest}"]
    lines += [f"    {name}{SHAPES[kinds[node]].format(_name(node))}:::{kinds[node]}" for node, name in names.items()]
    lines += [f"    {names[cause]} --> {names[result]}" for cause, result in edges(flow)]
    lines += [
        "    classDef event fill:#dbe8ff,stroke:#2f62c4,color:#14213d",
        "    classDef fact fill:#dff3e4,stroke:#2a7a48,color:#12301d",
        "    classDef handler fill:#ffffff,stroke:#57606a,color:#1f2328",
        "    classDef effect fill:#fff0d6,stroke:#a86400,color:#3d2600,stroke-dasharray:4 3",
    ]
    return "\n".join(lines) + "\n"


def svg(flow: Flow = DECLARED, labels: Mapping[Edge, str] | None = None) -> str:
    """The flow as a picture for light and dark pages; with labels on its edges, as a part of a page that styles it."""
    check(flow)
    boxes = {node: Box(_name(node), _kind(node, flow), _hint(node)) for node in _nodes(flow)}
    arrows = {edge: (boxes[edge[0]], boxes[edge[1]]) for edge in edges(flow)}
    told = None if labels is None else {arrow: labels.get(edge, "") for edge, arrow in arrows.items()}
    return draw("The flow of events", list(boxes.values()), list(arrows.values()), told)


def _check_facts(flow: Flow) -> None:
    """Every event is a request, a notice, or a fact that the table of facts knows."""
    for event in flow.handlers:
        is_fact = not issubclass(event, Request | Notice)
        if is_fact and event not in flow.evolve:
            raise InvalidFlow(
                f"{event.__name__} has no row in standing.EVOLVE: add its change, or declare it as a"
                " Request or a Notice if it changes nothing"
            )
        if not is_fact and event in flow.evolve:
            raise InvalidFlow(f"{event.__name__} changes something by standing.EVOLVE: declare it as an Event")
    for event in GIVEN:
        if not flow.handlers.get(event, [check]):
            raise InvalidFlow(f"{event.__name__} is in standing.GIVEN, and nothing handles it: take it out")
    for event in flow.evolve.keys() - GIVEN - {AllocationRequired}:
        if flow.handlers.get(event):
            raise InvalidFlow(
                f"{event.__name__} is a fact and has a handler: add it to standing.GIVEN, so that it is handled only if"
                " it comes from outside"
            )


def _check_rows(flow: Flow, event: type[Event], handler: Handler) -> None:
    if handler not in flow.raises:
        raise InvalidFlow(
            f"{_name(handler)} handles {event.__name__} and has no row in RAISES:"
            " declare the events it may raise, frozenset() if none"
        )
    for raised in flow.raises[handler]:
        if raised not in flow.handlers:
            raise InvalidFlow(
                f"{_name(handler)} may raise {raised.__name__}, which has no row in HANDLERS:"
                " give it one, [] if nothing handles it"
            )


def _in_order(flow: Flow) -> list[Node]:
    """All nodes, causes first; raises `InvalidFlow`, naming the cycle, if there is no such order."""
    sorter: graphlib.TopologicalSorter[Any] = graphlib.TopologicalSorter(dict.fromkeys(_nodes(flow), ()))
    for cause, result in edges(flow):
        sorter.add(result, cause)
    try:
        return list(sorter.static_order())
    except graphlib.CycleError as error:
        cycle = _starting_with_an_event(error.args[1][:-1], flow)
        raise InvalidFlow(
            f"The consequences of a message might never end: {' → '.join(map(_name, [*cycle, cycle[0]]))}."
            " Take one of these events out of RAISES"
        ) from None


def _starting_with_an_event(cycle: list[Node], flow: Flow) -> list[Node]:
    first = next(place for place, node in enumerate(cycle) if node in flow.handlers)
    return cycle[first:] + cycle[:first]


def _nodes(flow: Flow) -> list[Node]:
    """Events, handlers and effects in the order of the tables, each once."""
    found: dict[Node, None] = {}
    for event, handlers in flow.handlers.items():
        found.update(dict.fromkeys([event, *handlers, *flow.effects.get(event, ())]))
    return list(found)


def _kind(node: Node, flow: Flow) -> str:
    if node in flow.handlers:
        return "event" if flow.handlers[node] else "fact"  # type: ignore[index]  # it is an event
    return "handler" if node in flow.raises else "effect"


def _name(node: Node) -> str:
    return node.__name__


def _hint(node: Node) -> str:
    return (node.__doc__ or "").strip().partition("\n")[0]
