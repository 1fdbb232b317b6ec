"""Numbers for pictures: positions in a bar, in a chart or on a time axis. Templates draw them as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple

from allocation.views import StockedBatch
from allocation.views.availability import Promisable
from allocation.views.figures import Total

BAR_WIDTH = 100.0
CHART_HEIGHT = 40.0
AXIS_HEIGHT = 112.0
AXIS_WIDTH = 1200.0
WAREHOUSE_WIDTH = 150.0
UNKNOWN_WIDTH = 130.0
LEAST_COLUMN = 6.0
LEAST_BLOCK = 2.0
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


class Block(NamedTuple):
    """A part of a column; ``kind`` is a class of the style sheet."""

    kind: str
    top: float
    height: float


class Column(NamedTuple):
    """A batch on the time axis: its promised stock at the bottom."""

    batch: StockedBatch
    x: float
    width: float
    blocks: Sequence[Block]


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
    """Batches over time. ``today`` is where today is, left of all ETAs to come.

    ``unknown`` is the place of stock that is due on no known day; None: there is none.
    """

    columns: Sequence[Column]
    ticks: Sequence[Tick]
    today: float
    scale: int
    unknown: float | None


def stock_bar(stock: Total) -> Sequence[Segment]:
    """Stock on hand and incoming, each with its promised part, and the blocked stock, as shares of the total."""
    figures, shelf = stock
    return _segments(
        [
            ("allocated", shelf.on_hand_allocated),
            ("available", shelf.on_hand_available),
            ("blocked", figures.blocked_quantity),
            ("incoming-allocated", shelf.incoming_allocated),
            ("incoming", figures.incoming_quantity - shelf.incoming_allocated),
        ],
        figures.on_hand_quantity + figures.incoming_quantity,
    )


def batch_bar(batch: StockedBatch, largest: int) -> Sequence[Segment]:
    """One batch on the scale of the largest beside it."""
    return _segments(_parts(batch), largest)


def size_of(batch: StockedBatch) -> int:
    """The stock that a batch has or will have."""
    return batch.on_hand_quantity + batch.incoming_quantity


def _parts(batch: StockedBatch) -> Sequence[tuple[str, int]]:
    """The stock of a batch as in `stock_bar`. A batch in parts is drawn as if lines had its stock on hand first."""
    usable = batch.on_hand_quantity - batch.blocked_quantity
    here = min(batch.allocated_quantity, usable)
    due = min(batch.allocated_quantity - here, batch.incoming_quantity)
    return [
        ("allocated", here),
        ("available", usable - here),
        ("blocked", batch.blocked_quantity),
        ("incoming-allocated", due),
        ("incoming", batch.incoming_quantity - due),
    ]


def chart(values: Sequence[float]) -> tuple[Sequence[tuple[int, float]], float]:
    """The height of each value that is not 0, and the value that is as high as the chart."""
    top = max(values, default=0.0)
    return [(place, max(1.0, value / top * CHART_HEIGHT)) for place, value in enumerate(values) if value], top


def time_axis(batches: Sequence[StockedBatch], today: date) -> TimeAxis:
    """The warehouse first, then every ETA on a scale of days, then stock that is due on no known day."""
    on_hand = [batch for batch in batches if batch.eta is None and not batch.eta_unknown]
    unknown = [batch for batch in batches if batch.eta_unknown]
    days = [batch.eta for batch in batches if batch.eta is not None]
    first, last = min([*days, today]), max([*days, today + timedelta(days=LEAST_DAYS)])
    span = max(1, (last - first).days)
    beyond = AXIS_WIDTH - (UNKNOWN_WIDTH if unknown else 0)
    left, room = WAREHOUSE_WIDTH + 30, beyond - WAREHOUSE_WIDTH - 80

    def place(day: date) -> float:
        return left + (day - first).days / span * room

    largest = max(map(size_of, batches), default=1) or 1
    columns = [*_row(on_hand, 10, WAREHOUSE_WIDTH - 10, largest), *_row(unknown, beyond, UNKNOWN_WIDTH, largest)]
    width = max(LEAST_COLUMN, min(MOST_COLUMN, room / (len(days) + 1) - 2))
    columns += [_column(batch, place(batch.eta), width, largest) for batch in batches if batch.eta is not None]
    step = max(1, -(-span // MOST_TICKS))
    ticks = [Tick(place(day), day) for day in (first + timedelta(days=n) for n in range(0, span + 1, step))]
    return TimeAxis(columns, ticks, place(today), largest, beyond if unknown else None)


def _row(batches: Sequence[StockedBatch], begin: float, room: float, largest: int) -> Sequence[Column]:
    """Batches side by side."""
    pitch = min(MOST_COLUMN + 6, room / max(1, len(batches)))
    width = max(2.0, pitch - 4)
    return [_column(batch, begin + number * pitch, width, largest) for number, batch in enumerate(batches)]


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
    blocks, top = [], AXIS_HEIGHT
    for kind, qty in _parts(batch):
        if qty:
            height = max(LEAST_BLOCK, qty / largest * AXIS_HEIGHT)
            top -= height
            blocks.append(Block(kind, top, height))
    return Column(batch, x, width, blocks)


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
