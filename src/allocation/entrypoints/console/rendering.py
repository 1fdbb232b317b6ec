"""Templates and their shared helpers: numbers, times and links in one form."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import allocation
from allocation import views
from allocation.console_views import stock
from allocation.console_views.overview import MOST_COUNTED
from allocation.entrypoints.console import ROOT, drawing
from allocation.entrypoints.console.assets import Asset
from allocation.service_layer.messages import EVENTS, field_rules

DOTS = {".", ".."}  # browsers remove these from a path, in any spelling
# The kind of page that a field links to, by the name of the field. These names are the same in every event.
LINKED = {"sku": "products", "ref": "batches", "batchref": "batches", "orderid": "orders"}
TONES = {
    **dict.fromkeys(("Allocated", "Shipped"), "good"),
    **dict.fromkeys(("Deallocated", "PromiseChanged", "Cancelled", "BatchExpired", "DeliveryOverdue"), "warn"),
    **dict.fromkeys(("Backordered", "OutOfStock", "LineBecameLate"), "bad"),
}
# The fields whose value is a moment, which JSON has as text.
MOMENTS = {rule.name for kind in EVENTS.values() for rule in field_rules(kind) if rule.base is datetime}
# The fields that may be left out: an empty one says nothing, unlike a ``batchref`` or a day that there no longer is.
OPTIONAL = {
    rule.name for kind in EVENTS.values() for rule in field_rules(kind) if not rule.required and not rule.default
}
NOTHING = Markup('<span class="faint">–</span>')
MOST_MOMENTS = 1_000  # formatted times in the cache: messages that are committed together share theirs
MOST_DAYS = 8  # of availability that are listed
AGES = ((86_400, "d"), (3_600, "h"), (60, "min"))


def environment(assets: Mapping[str, Asset]) -> Environment:
    templates = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    filters = (number, few, size, age, clock, stamp, shown)
    templates.filters |= {each.__name__: each for each in filters}
    templates.globals |= {
        "asset": lambda name: ROOT + assets[name].path,
        "url": url,
        "linked": LINKED,
        "optional": OPTIONAL,
        "tones": TONES,
        "version": allocation.__version__,
        "stock_bar": drawing.stock_bar,
        "batch_bar": drawing.batch_bar,
        "size_of": drawing.size_of,
        "chart": drawing.chart,
        "page_length": stock.PAGE,
        "most_counted": views.MAX_COUNTED,
        "most_days": MOST_DAYS,
        "chart_height": drawing.CHART_HEIGHT,
        "axis_height": drawing.AXIS_HEIGHT,
        "axis_width": drawing.AXIS_WIDTH,
        "warehouse_width": drawing.WAREHOUSE_WIDTH,
    }
    return templates


def url(place: str, key: str | None = None, **query: object) -> str:
    """Where a page is, and one about something: its name is the user's, so it may be anything."""
    asked = {name: value for name, value in query.items() if value not in ("", None)}
    path = f"{ROOT}/{place}"
    if key in DOTS:
        asked["key"] = key
    elif key is not None:
        path += f"/{quote(key, safe='')}"
    return f"{path}?{urlencode(asked)}" if asked else path


def number(value: int) -> str:
    return f"{value:,}"


def few(value: int) -> str:
    """A number that was not counted further than it is shown."""
    return f"{value:,}" if value <= MOST_COUNTED else f"{MOST_COUNTED:,}+"


def size(value: float) -> str:
    """A number rounded to its first digits."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"  # noqa: PLR2004 - two digits


def age(since: datetime) -> str:
    """How long ago, in its largest unit. It changes so seldom that live pages stay as they are."""
    seconds = (datetime.now(UTC) - since).total_seconds()
    return next((f"{seconds // unit:.0f} {name}" for unit, name in AGES if seconds >= unit), "< 1 min")


def clock(moment: datetime) -> Markup:
    """A moment of today by its time, an older one by its day too."""
    shown = moment.strftime("%H:%M:%S" if moment.date() == datetime.now(UTC).date() else "%Y-%m-%d %H:%M")
    return _time(moment, shown)


def stamp(moment: datetime) -> Markup:
    """A moment to the millisecond."""
    return _time(moment, f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}")


def shown(value: object, field: str = "") -> str:
    """A value of a message or a rule for people, by its type; for text, by the type of its field."""
    match value:
        case None:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case int():
            return number(value)
        case str() if field in MOMENTS:
            return clock(datetime.fromisoformat(value))
        case _:
            return str(value)


def context(values: Mapping[str, Any]) -> dict[str, Any]:
    """Add the helpers of all templates."""
    return {"now": datetime.now(UTC), **values}


@lru_cache(MOST_MOMENTS)
def _time(moment: datetime, shown: str) -> Markup:
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        moment.isoformat(), f"{moment:%Y-%m-%d %H:%M:%S.%f}", shown
    )
