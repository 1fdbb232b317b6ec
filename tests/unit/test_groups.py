"""The groups of commands: every command is in one, also that of an event that nobody put into a group."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from allocation.domain.events import AllocationCancelled, BatchReleased, Event, HoldConfirmed, MoveUpRequired
from allocation.entrypoints.cli.app import app
from allocation.entrypoints.cli.groups import GROUP_OF, GROUPS, GroupedCommands, group_of_event

COMMANDS: Any = typer.main.get_command(app)


def test_every_command_is_in_a_group_and_every_group_has_commands() -> None:
    assert list(dict.fromkeys(each.rich_help_panel for each in COMMANDS.commands.values())) == list(GROUPS)
    assert GROUP_OF.keys() <= COMMANDS.commands.keys()


@pytest.mark.parametrize(
    ("name", "kind", "group"),
    [
        ("sell-again", BatchReleased, "Stock"),
        ("give-up", AllocationCancelled, "Orders"),
        ("order-cart", HoldConfirmed, "Holds"),
        ("move-up", MoveUpRequired, "Orders"),
    ],
)
def test_the_fields_of_an_event_say_its_group(name: str, kind: type[Event], group: str) -> None:
    assert group_of_event(name, kind) == group


def test_a_command_without_a_group_is_refused() -> None:
    own = typer.Typer(cls=GroupedCommands)
    own.command("stroll")(lambda: None)
    own.command("serve")(lambda: None)
    with pytest.raises(KeyError):
        typer.main.get_command(own)
