"""The groups of the commands in ``allocation --help``: one for each thing that people do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from typer.core import TyperGroup

from allocation.domain.events import Event
from allocation.service_layer.messages import field_rules

# In the order shown. The command of an event that is not named here is in the group of its subject.
GROUPS: Final[Mapping[str, Sequence[str]]] = {
    "Run": ("serve", "demo", "version"),
    "Stock": (),
    "Orders": ("move-up",),
    "Holds": (),
    "Ask": ("show", "availability", "explain", "cascade", "at"),
    "Files": ("import", "export"),
    "Maintain": ("migrate", "verify", "repair-counters", "tidy", "dead-letters", "webhooks", "flow"),
}
GROUP_OF: Final[Mapping[str, str]] = {name: group for group, names in GROUPS.items() for name in names}


def group_of_event(name: str, kind: type[Event]) -> str:
    """The group of an event's command: the one declared, or that of the hold, order or stock which its fields name."""
    fields = {rule.name for rule in field_rules(kind)}
    return GROUP_OF.get(name) or ("Holds" if "holdid" in fields else "Orders" if "orderid" in fields else "Stock")


class GroupedCommands(TyperGroup):
    """All commands, in the order of their groups; a command without a group is refused."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        commands: Mapping[str, Any] = self.commands
        for name, command in commands.items():
            command.rich_help_panel = GROUP_OF.get(name, command.rich_help_panel)
        self.commands = dict(sorted(commands.items(), key=_place))


def _place(named: tuple[str, Any]) -> tuple[int, int]:
    name, command = named
    declared = GROUPS[command.rich_help_panel]
    return list(GROUPS).index(command.rich_help_panel), declared.index(name) if name in declared else -1
