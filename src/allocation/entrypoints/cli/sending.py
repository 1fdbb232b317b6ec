"""One command for each event from outside, its options derived from the event's declaration."""

# ruff: noqa: PLC0415 - modules for the database are heavy, and loaded only when they are used
from __future__ import annotations

import inspect
import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import typer
from typer.core import TyperCommand

from allocation.config import Settings
from allocation.domain.events import Event
from allocation.entrypoints.cli.exits import DONE, log_to_stderr
from allocation.entrypoints.cli.groups import group_of_event
from allocation.entrypoints.cli.options import AsJson, DatabaseUrl, acting, dashed, settings_for
from allocation.entrypoints.intake.texts import event_from_texts
from allocation.service_layer.handlers import HANDLERS
from allocation.service_layer.messages import EVENTS, FieldRule, Message, Outcome, field_rules, incoming_types

ACTOR = "cli"
YES_OR_NO = "[true|false]"
SUBJECT = frozenset({"ref", "delivery", "holdid", "orderid", "sku"})  # the fields that identify it

Preview = Annotated[bool, typer.Option("--preview", help="Show the effect on orders, and change nothing.")]
Key = Annotated[
    str | None,
    typer.Option("--key", metavar="STR", help="Your id of this change; a repetition with the same id changes nothing."),
]


def add_commands(app: typer.Typer) -> None:
    """Add a command for every event that has a handler, named after the handler."""
    for name in incoming_types():
        kind = EVENTS[name]
        handler = HANDLERS[kind][0]
        summary = inspect.getdoc(handler)
        command = dashed(handler.__name__)
        group = group_of_event(command, kind)
        app.command(command, cls=EventCommand, help=summary, rich_help_panel=group)(_command(kind))


class EventCommand(TyperCommand):
    """A command whose options that take true or false need no value: ``--split`` is ``--split=true``.

    The subject may come first without its option: ``ship-line o1 RUG`` is ``ship-line --orderid=o1 --sku=RUG``.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        parameters: Sequence[Any] = self.get_params(ctx)
        switches = {name for each in parameters if each.metavar == YES_OR_NO for name in each.opts}
        flags = {name for each in parameters if each.is_flag for name in each.opts}
        named = _with_subject(args, [each.opts[0] for each in self._subject(ctx)])
        return super().parse_args(ctx, list(_with_values(named, switches, flags)))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*(f"[{each.name.upper()}]" for each in self._subject(ctx)), *super().collect_usage_pieces(ctx)]

    def _subject(self, ctx: Any) -> Sequence[Any]:
        parameters: Sequence[Any] = self.get_params(ctx)
        return [each for each in parameters if each.name in SUBJECT and each.required]


def _with_subject(args: Sequence[str], names: Sequence[str]) -> list[str]:
    """The arguments, with the names of the options for the values that come first."""
    first = list(itertools.takewhile(lambda arg: not arg.startswith("-"), args[: len(names)]))
    return [f"{name}={value}" for name, value in zip(names, first, strict=False)] + list(args[len(first) :])


def _with_values(args: Sequence[str], switches: Collection[str], flags: Collection[str]) -> Iterator[str]:
    """The arguments, with the value true for each switch that has none; flags never take a value."""
    left = deque(args)
    while left:
        arg = left.popleft()
        option, equals, _ = arg.partition("=")
        option = dashed(option)
        if option in switches and not equals and (not left or left[0].startswith("-")):
            yield f"{arg}=true"
            continue
        yield arg
        if option.startswith("--") and not equals and option not in flags and left:
            yield left.popleft()


def _command(kind: type[Event]) -> Callable[..., int]:
    names = [rule.name for rule in field_rules(kind)]

    def command(*, preview: bool, key: str | None, as_json: bool, database: str | None, **options: str | None) -> int:
        texts = {name: text for name in names if (text := options[name]) is not None}
        answer = foretell if preview else send
        return answer(event_from_texts(kind, texts), key, database, as_json=as_json)

    parameters = [_parameter(rule) for rule in field_rules(kind)]
    parameters += [
        _keyword("preview", Preview, default=False),
        _keyword("key", Key, None),
        _keyword("as_json", AsJson, default=False),
        _keyword("database", DatabaseUrl, None),
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by Typer
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _parameter(rule: FieldRule) -> inspect.Parameter:
    is_switch = rule.base is bool
    about = rule.meaning if is_switch else f"{rule.meaning} ({rule.shape})"
    metavar = YES_OR_NO if is_switch else rule.base.__name__.upper()
    option = typer.Option(f"--{dashed(rule.name)}", help=about, metavar=metavar, show_default=False)
    if rule.required:
        return _keyword(rule.name, Annotated[str, option], inspect.Parameter.empty)
    return _keyword(rule.name, Annotated[str | None, option], None)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def send(event: Event, key: str | None, database: str | None, *, as_json: bool) -> int:
    """Send the event, and print the answer and all consequences."""
    import asyncio

    from allocation.service_layer.messages import checked_message

    log_to_stderr()
    settings = settings_for(database)
    message = checked_message(event, acting(settings, ACTOR), key)
    outcome = asyncio.run(_handle(message, settings))
    repeated = outcome.message is not message
    typer.echo(_as_json(outcome, repeated=repeated) if as_json else _as_text(outcome, repeated=repeated))
    return DONE


def foretell(event: Event, key: str | None, database: str | None, *, as_json: bool) -> int:
    """Print the answer that the event would get, and its consequences."""
    import asyncio

    from allocation.entrypoints.cli.previewing import preview, print_effect
    from allocation.service_layer.messages import checked_message

    log_to_stderr()
    settings = settings_for(database)
    found = asyncio.run(preview(settings, checked_message(event, acting(settings, ACTOR), key)))
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        typer.echo("\n".join(_answer_lines(found.answer)))
        print_effect(found)
    return DONE


async def _handle(message: Message, settings: Settings) -> Outcome:
    from allocation.bootstrap import bootstrap

    async with bootstrap(settings) as service:
        return await service.writer.handle(message)


def _as_json(outcome: Outcome, *, repeated: bool) -> str:
    from allocation.entrypoints.answers import answer

    told = {
        "id": outcome.message.id,
        "repeated": repeated,
        "answer": answer(outcome),
        "raised": [{"type": type(event).__name__, **_fields(event)} for event in outcome.raised],
    }
    return msgspec.json.encode(told).decode()


def _as_text(outcome: Outcome, *, repeated: bool) -> str:
    from allocation.entrypoints.answers import answer

    lines = _answer_lines(answer(outcome))
    if outcome.raised:
        lines.append("It set off:")
        lines += [f"  {type(event).__name__}: {_listed(event)}" for event in outcome.raised]
    if repeated:
        lines.append("This key was used before for the same event, so this is the first answer; nothing was changed.")
    return "\n".join(lines)


def _answer_lines(members: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in members.items():
        if isinstance(value, list):
            lines += [f"{name}: {_as_change(each)}" for each in value] or [f"{name}: nothing"]
        else:
            lines.append(f"{name}: {_shown(value)}")
    return lines


def _as_change(change: Mapping[str, Any]) -> str:
    """The old and new batch of a line, or its old and new promised day, or the other fields of a change."""
    for before, after in (("from", "to"), ("before", "after")):
        if before in change:
            line = f"order {change['orderid']}, {change['qty']} of {change['sku']}"
            late = f", {change['late_days']} days late" if change.get("late_days") else ""
            return f"{line}: {change[before] or 'waiting'} → {change[after] or 'waiting'}{late}"
    return ", ".join(f"{name} {_shown(value)}" for name, value in change.items())


def _fields(event: Event) -> Mapping[str, Any]:
    return {rule.name: getattr(event, rule.name) for rule in field_rules(type(event))}


def _listed(event: Event) -> str:
    """Its fields, without optional fields that have their defaults."""
    usual = {rule.name: rule.default for rule in field_rules(type(event)) if not rule.required}
    fields = _fields(event).items()
    return ", ".join(f"{name} {_shown(value)}" for name, value in fields if name not in usual or value != usual[name])


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
