"""Numbers for pictures: positions in a bar, in a chart or on a time axis. Templates draw them as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple

from allocation.console_views.stock import Stock
from allocation.views import StockedBatch
from allocation.views.availability import Promisable

BAR_WIDTH = 100.0
CHART_HEIGHT = 40.0
AXIS_HEIGHT = 112.0
AXIS_WIDTH = 1200.0
WAREHOUSE_WIDTH = 150.0
LEAST_COLUMN = 6.0
MOST_COLUMN = 30.0
MOST_TICKS = 10
BEYOND = 1.15  # a curve continues after its last step by this factor
LEAST_DAYS = 14  # minimum time that a drawing looks ahead
LEAST_SEGMENT = 0.8  # of a bar's 100, so that small values remain visible


class Segment(NamedTuple):
    """A part of a bar; ``kind`` is a class of the style sheet."""

    kind: str
    start: float
    length: float
    qty: int


class Column(NamedTuple):
    """A batch on the time axis: the allocated quantity at the bottom, the available quantity above it."""

    batch: StockedBatch
    x: float
    width: float
    top: float
    height: float
    allocated_height: float


class Tick(NamedTuple):
    """A day on the time axis."""

    x: float
    day: date


class Curve(NamedTuple):
    """Availability by day: ``path`` is its upper edge, 100 wide and `CHART_HEIGHT` high, until ``last``."""

    path: str
    last: date
    scale: int


class TimeAxis(NamedTuple):
    """Batches over time. ``today`` is where today is, left of all ETAs to come."""

    columns: Sequence[Column]
    ticks: Sequence[Tick]
    today: float
    scale: int


def stock_bar(stock: Stock) -> Sequence[Segment]:
    """On-hand and incoming quantities, each with its allocated part, as shares of the total."""
    return _segments(
        [
            ("allocated", stock.on_hand_allocated),
            ("available", stock.on_hand - stock.on_hand_allocated),
            ("incoming-allocated", stock.incoming_allocated),
            ("incoming", stock.incoming - stock.incoming_allocated),
        ],
        stock.purchased,
    )


def batch_bar(batch: StockedBatch, largest: int) -> Sequence[Segment]:
    """One batch on the scale of the largest beside it."""
    allocated, available = ("allocated", "available") if batch.eta is None else ("incoming-allocated", "incoming")
    return _segments([(allocated, batch.allocated_quantity), (available, batch.available_quantity)], largest)


def chart(values: Sequence[float]) -> tuple[Sequence[tuple[int, float]], float]:
    """The height of each value that is not 0, and the value that is as high as the chart."""
    top = max(values, default=0.0)
    return [(place, max(1.0, value / top * CHART_HEIGHT)) for place, value in enumerate(values) if value], top


def time_axis(batches: Sequence[StockedBatch], today: date) -> TimeAxis:
    """The warehouse first, then every ETA on a scale of days."""
    on_hand = [batch for batch in batches if batch.eta is None]
    days = [batch.eta for batch in batches if batch.eta is not None]
    first, last = min([*days, today]), max([*days, today + timedelta(days=LEAST_DAYS)])
    span = max(1, (last - first).days)
    left, room = WAREHOUSE_WIDTH + 30, AXIS_WIDTH - WAREHOUSE_WIDTH - 80

    def place(day: date) -> float:
        return left + (day - first).days / span * room

    largest = max((batch.purchased_quantity for batch in batches), default=1) or 1
    pitch = min(MOST_COLUMN + 6, (WAREHOUSE_WIDTH - 10) / max(1, len(on_hand)))
    columns = [
        _column(batch, 10 + number * pitch, max(2.0, pitch - 4), largest) for number, batch in enumerate(on_hand)
    ]
    width = max(LEAST_COLUMN, min(MOST_COLUMN, room / (len(days) + 1) - 2))
    columns += [_column(batch, place(batch.eta), width, largest) for batch in batches if batch.eta is not None]
    step = max(1, -(-span // MOST_TICKS))
    ticks = [Tick(place(day), day) for day in (first + timedelta(days=n) for n in range(0, span + 1, step))]
    return TimeAxis(columns, ticks, place(today), largest)


def step_curve(promisable: Sequence[Promisable], today: date) -> Curve:
    """From today on, a step up on each day that there is more, and a while after the last of them."""
    days = [(each.date - today).days for each in promisable]
    span = max(LEAST_DAYS, round(max(days, default=0) * BEYOND))
    scale = max((each.quantity for each in promisable), default=0)
    path = "".join(
        f"{'H' if number else 'M'}{day / span * BAR_WIDTH:.2f}{'V' if number else ' '}"
        f"{CHART_HEIGHT * (1 - each.quantity / max(1, scale)):.2f}"
        for number, (day, each) in enumerate(zip(days, promisable, strict=True))
    )
    return Curve(f"{path}H{BAR_WIDTH:.0f}", today + timedelta(days=span), scale)


def _column(batch: StockedBatch, x: float, width: float, largest: int) -> Column:
    height = max(2.0, batch.purchased_quantity / largest * AXIS_HEIGHT)
    share = batch.allocated_quantity / batch.purchased_quantity if batch.purchased_quantity else 0
    return Column(batch, x, width, AXIS_HEIGHT - height, height, height * share)


def _segments(parts: Sequence[tuple[str, int]], whole: int) -> Sequence[Segment]:
    found: list[Segment] = []
    start = 0.0
    for kind, qty in parts:
        if qty:
            length = max(LEAST_SEGMENT, qty / whole * BAR_WIDTH)
            found.append(Segment(kind, start, length, qty))
            start += length
    shrink = BAR_WIDTH / start if start > BAR_WIDTH else 1.0
    return [Segment(kind, start * shrink, length * shrink, qty) for kind, start, length, qty in found]
