"""``allocation cascade``: all consequences of a message, as a tree."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
import typer
from rich.text import Text
from rich.tree import Tree

from allocation.config import Settings
from allocation.entrypoints.cli.exits import DONE
from allocation.entrypoints.cli.output import console
from allocation.entrypoints.cli.reading import read
from allocation.views import MAX_PAGE
from allocation.views.cascade import Cascade, CascadeDelivery, CascadeMessage, cascade


def show(settings: Settings, id_: str, *, as_json: bool) -> int:
    """Print the cascade that a message belongs to; return the exit code."""
    found = asyncio.run(read(settings, cascade, id_, limit=MAX_PAGE))
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        console().print(_tree(found))
    return DONE


def _tree(found: Cascade) -> Tree:
    first, *others = found.messages
    told = f"{first.recorded_at:%Y-%m-%d %H:%M:%SZ}, {first.actor}, {first.id}"
    tree = Tree(Text(f"{_line(first)}  ({told})"), guide_style="dim")
    nodes = {first.id: tree}
    _add_deliveries(tree, first)
    for each in others:
        node = nodes.get(each.causation_id or "", tree).add(Text(_line(each)))
        nodes[each.id] = node
        _add_deliveries(node, each)
    if found.next_after is not None:
        tree.add(Text("There are more messages: GET /events/{id}/cascade has all of them, page by page."))
    return tree


def _line(message: CascadeMessage) -> str:
    fields: Mapping[str, object] = msgspec.json.decode(message.body)
    return f"{message.type}: {', '.join(f'{name} {_shown(value)}' for name, value in fields.items())}"


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


def _add_deliveries(node: Tree, message: CascadeMessage) -> None:
    for each in message.deliveries:
        node.add(Text(_delivery(each)))


def _delivery(delivery: CascadeDelivery) -> str:
    attempts = f" after {delivery.attempts} attempts" if delivery.attempts else ""
    error = f": {delivery.error}" if delivery.error else ""
    return f"→ {delivery.effect}: {delivery.state}{attempts}{error}"
