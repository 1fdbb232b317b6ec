"""The declared flow of events: proved to end, and drawn."""

import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import Any

import pytest

from allocation.domain import events
from allocation.domain.events import Event, Notice, Request
from allocation.domain.standing import EVOLVE
from allocation.service_layer import flow, handlers
from allocation.service_layer.flow import Flow, InvalidFlow

SVG = "{http://www.w3.org/2000/svg}"


class Asked(Request):
    """Something is asked."""


class Answered(Request):
    """It was answered."""


class Doubted(Notice):
    """The answer was doubted."""


def answer(event: Any, uow: Any) -> None:
    """Answer."""


def doubt(event: Any, uow: Any) -> None:
    """Doubt."""


def tell(event: Any) -> None:
    """Tell <everybody> & more."""


ENDING = Flow(
    {Asked: [answer], Answered: [doubt], Doubted: []},
    {answer: frozenset({Answered, Doubted}), doubt: frozenset({Doubted})},
    {Doubted: [tell]},
)
CYCLIC = ENDING._replace(raises={answer: frozenset({Answered}), doubt: frozenset({Asked})})


def test_the_flow_of_the_service_ends() -> None:
    """S14 (a) of the seed: one can tell when a message has come to an end."""
    flow.check()


def test_the_longest_chain_of_causes_is_known() -> None:
    names = [node.__name__ for node in flow.longest_path()]
    assert names[-6:-4] == ["MoveUpRequired", "move_up"]
    assert names[-4:] == ["AllocationRequired", "allocate", "OutOfStock", "send_out_of_stock_notification"]
    assert flow.longest_path(ENDING) == [Asked, answer, Answered, doubt, Doubted, tell]


def test_every_step_of_the_longest_chain_is_declared() -> None:
    assert set(pairwise(flow.longest_path())) <= set(flow.edges())


def test_a_cycle_is_refused_and_named_from_an_event_on() -> None:
    with pytest.raises(
        InvalidFlow, match=r"Asked → answer → Answered → doubt → Asked\.|Answered → doubt → Asked → answer → Answered\."
    ):
        flow.check(CYCLIC)


def test_an_event_that_its_own_handler_raises_is_a_cycle() -> None:
    with pytest.raises(InvalidFlow, match="Asked → answer → Asked"):
        flow.check(Flow({Asked: [answer]}, {answer: frozenset({Asked})}, {}))


def test_a_handler_that_does_not_declare_what_it_raises_is_refused() -> None:
    with pytest.raises(InvalidFlow, match="doubt handles Answered and has no row in RAISES"):
        flow.check(ENDING._replace(raises={answer: frozenset({Answered})}))


def test_a_raised_event_without_a_row_is_refused() -> None:
    with pytest.raises(InvalidFlow, match="may raise Doubted, which has no row in HANDLERS"):
        flow.check(ENDING._replace(handlers={Asked: [answer], Answered: [doubt]}, effects={}))


def test_an_effect_of_an_event_without_a_row_is_refused() -> None:
    with pytest.raises(InvalidFlow, match="Doubted is in EFFECTS without a row in HANDLERS"):
        flow.check(Flow({}, {}, {Doubted: [tell]}))


def test_edges_are_those_of_the_tables() -> None:
    found = flow.edges()
    assert (events.BatchCreated, handlers.add_batch) in found
    assert (handlers.change_batch_quantity, events.Deallocated) in found
    assert (events.OutOfStock, handlers.send_out_of_stock_notification) in found
    assert len(found) == sum(map(len, handlers.HANDLERS.values())) + sum(map(len, handlers.RAISES.values())) + sum(
        map(len, handlers.EFFECTS.values())
    )


def test_mermaid_has_every_name_and_every_arrow() -> None:
    drawn = flow.mermaid()
    assert drawn.startswith("flowchart LR\n")
    assert drawn.count("-->") == len(flow.edges())
    nodes: list[flow.Node] = [*handlers.HANDLERS, *handlers.RAISES, handlers.send_out_of_stock_notification]
    for node in nodes:
        assert f'"{node.__name__}"' in drawn


@pytest.mark.parametrize("some", [flow.DECLARED, ENDING, Flow({}, {}, {})], ids=["ours", "other", "empty"])
def test_svg_is_well_formed_and_has_every_box_and_arrow(some: Flow) -> None:
    picture = ET.fromstring(flow.svg(some))  # noqa: S314 - our own
    boxes = [group.find(f"{SVG}text") for group in picture.iter(f"{SVG}g")]
    names = {node.__name__ for edge in flow.edges(some) for node in edge}
    assert {box.text for box in boxes if box is not None} >= names
    assert len(list(picture.iter(f"{SVG}path"))) == 2 * len(flow.edges(some))  # a line and a tip each
    assert "prefers-color-scheme: dark" in (picture.findtext(f"{SVG}style") or "")


def test_no_box_of_the_picture_covers_another_or_leaves_the_page() -> None:
    picture = ET.fromstring(flow.svg())  # noqa: S314 - our own
    page_width, page_height = float(picture.attrib["width"]), float(picture.attrib["height"])
    found = [group.find(f"{SVG}rect") for group in picture.iter(f"{SVG}g")]
    boxes = [[float(box.attrib[name]) for name in ("x", "y", "width", "height")] for box in found if box is not None]
    for number, (x, y, width, height) in enumerate(boxes):
        assert x >= 0
        assert y >= 0
        assert x + width <= page_width
        assert y + height <= page_height
        for other_x, other_y, other_width, other_height in boxes[:number]:
            apart = x + width <= other_x or other_x + other_width <= x
            assert apart or y + height <= other_y or other_y + other_height <= y


def test_an_arrow_over_several_layers_bends_around_the_boxes_between() -> None:
    long = Flow(
        {Asked: [answer, doubt], Answered: [], Doubted: []},
        {answer: frozenset({Answered}), doubt: frozenset({Answered, Doubted})},
        {Asked: [tell]},
    )
    skipping = long._replace(effects={Asked: [tell], Answered: [tell]})
    picture = ET.fromstring(flow.svg(skipping))  # noqa: S314 - our own
    bends = [path.attrib["d"].count("C") for path in picture.iter(f"{SVG}path") if "class" not in path.attrib]
    assert max(bends) == 3  # Asked → tell, past the handlers' and the events' layers


def test_hints_are_escaped() -> None:
    assert "Tell &lt;everybody&gt; &amp; more." in flow.svg(ENDING)


def test_a_cyclic_flow_is_not_drawn() -> None:
    for draw in (flow.svg, flow.mermaid):
        with pytest.raises(InvalidFlow):
            draw(CYCLIC)


class Burnt(Event):
    """A fact that no table knows."""


@pytest.mark.parametrize(
    ("handlers_", "evolve", "message"),
    [
        ({Burnt: []}, EVOLVE, r"^Burnt has no row in standing\.EVOLVE"),
        ({Asked: [answer]}, {Asked: answer}, r"^Asked changes something by standing\.EVOLVE: declare it as an Event$"),
        ({events.BatchCreated: []}, EVOLVE, r"^BatchCreated is in standing\.GIVEN, and nothing handles it"),
        ({Burnt: [answer]}, {Burnt: answer}, r"^Burnt is a fact and has a handler: add it to standing\.GIVEN"),
    ],
)
def test_an_event_that_the_table_of_facts_does_not_fit_is_named(
    handlers_: dict[type[Event], list[Any]], evolve: dict[type[Event], Any], message: str
) -> None:
    raises: dict[Any, frozenset[type[Event]]] = {answer: frozenset()}
    with pytest.raises(InvalidFlow, match=message):
        flow.check(Flow(handlers_, raises, {}, evolve))
