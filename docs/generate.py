"""Generates the pages derived from the code: the reference, the picture of the flow, the table of settings.

`make docs` runs it; a test compares its output with the files.
"""
# ruff: noqa: INP001 - a script, not a package to import from

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer

from allocation import views
from allocation.config import LEAST_KEPT_DAYS, MAX_ADDRESSES, PREFIX, Settings
from allocation.domain.events import Event
from allocation.domain.fields import MAX_TEXT_LENGTH
from allocation.entrypoints.bodies import MAX_BODY_BYTES
from allocation.entrypoints.cli.app import app
from allocation.entrypoints.cli.exits import EXIT_CODES
from allocation.entrypoints.http import bulk, openapi, previews
from allocation.entrypoints.http.actions import ACTIONS, MEMBERS, Action
from allocation.entrypoints.http.pages import ABOUT
from allocation.entrypoints.http.posts import POSTS
from allocation.entrypoints.http.reads import READS, Parameter, Read
from allocation.entrypoints.http.webhooks import OPERATIONS, Operation
from allocation.entrypoints.previews import MAX_LINES
from allocation.entrypoints.refusals import KINDS
from allocation.service_layer import flow
from allocation.service_layer.handlers import EFFECTS, HANDLERS, RAISES
from allocation.service_layer.messages import EVENTS, MAX_ACTOR_LENGTH, field_rules

ROOT = Path(__file__).parent.parent
REFERENCE = Path("docs/reference")
PICTURE = Path("docs/img/flow.svg")
README = Path("README.md")
BEGIN = "<!-- begin: settings, written by `make docs` -->\n"
END = "<!-- end: settings -->"
WRITTEN = "Written by `make docs` from the code; change it there.\n"

SETTINGS: Mapping[str, str] = {
    "database_url": "`sqlite:///file.db` or `postgresql://user@host:5432/name`",
    "host": "the address that `allocation serve` listens on",
    "port": "its port; `0` chooses a free one and logs it",
    "actor": "your name on the command line; the ledger records it as `cli:anna` or `import:anna`. If empty, only the "
    "channel is recorded",
    "max_queued": "maximum number of pending messages; further ones are answered with 503",
    "adjustment_reasons": "the reasons that the console offers for an adjustment or a count, separated by commas; "
    "any other text is allowed, too",
    "strategy": "the order in which batches are considered, for products without rules of their own: "
    "`warehouse-first`, `first-expired` or `just-in-time`",
    "time_zone": "the time zone of the business, such as `Europe/Berlin`: its days begin at midnight there",
    "overdue_days": "number of days after today for which an overdue delivery is promised; `0`: for today",
    "max_previews": "maximum number of previews at the same time; further ones are answered with 503",
    "public_url": "the address at which people open the service, such as `https://stock.example.com`, for links in "
    "mails. If empty, `http://`, the host and the port",
    "stock_team": f"the addresses that mails are sent to, separated by commas, at most {MAX_ADDRESSES}. If empty, no "
    "mail is sent",
    "mail_digest_hour": "an hour of the business's day, 0 to 23: one mail a day, at this hour. If empty, mails are "
    "sent at once",
    "smtp_host": "the mail server; if empty, mails are written to the log",
    "smtp_port": "its port",
    "smtp_user": "the user name at the mail server; if empty, there is no login",
    "smtp_password": "the password of that user",
    "smtp_tls": "`starttls` or `true` encrypts the connection by STARTTLS, `implicit` from its first byte (port 465); "
    "both check the server's certificate",
    "mail_from": "the sender of every mail",
    "webhooks_allow_private": "`true` allows webhooks to addresses in your own network, and without TLS",
    "lease_s": "seconds without a sign of life after which other processes take over the deliveries of a process",
    "max_attempts": "number of attempts before a delivery becomes a dead letter",
    "dead_letters_hold": "`true`: later deliveries of the same effect and SKU wait for a dead letter",
    "keep_done_days": "days for which done and dropped deliveries are kept",
    "keep_dead_days": "days for which dead letters are kept",
    "keep_closed_days": f"days for which a closed line and its messages in the ledger are kept; {LEAST_KEPT_DAYS} or "
    "more. If empty, nothing is deleted",
}

SEND = f"""\
A running service shows the same at `/docs`, and as OpenAPI at `/openapi.json`.

## Send events

One JSON object of at most {MAX_BODY_BYTES:,} bytes, as `application/json`. The answer is 201, given when everything
that the event set off is durable. With an `Idempotency-Key` a repeated request gets its first answer. With
a header `Actor: anna`, of 1 to {MAX_ACTOR_LENGTH} printable characters, the ledger records the sender as `http:anna`.
The name is not checked. `{bulk.PATH}` takes the header too, for all its lines.
"""
NAMES = f"""\
## Names

References, SKUs, ids of orders and holds, locations and reasons are texts of 1 to {MAX_TEXT_LENGTH} printable
characters, in Unicode's normal form C (NFC), without white space at either end. So neither a space behind a SKU nor
another way to write É makes a second product. In files, and in the forms of the console, a text is trimmed and
normalised. Over HTTP, on the command line and from Python (`new_message`) another text is refused, and the refusal has
the right spelling. Case matters: `bed` and `BED` are two products, and the refusal of an unknown SKU names its
look-alikes.

Earlier versions also stored other texts, such as `BED` with a space behind it. They are kept and can be read by their
exact text; so can be their history, and they expire and are verified like all others. Requests that name them are
refused, except those from the console, whose pages name a product, batch or order exactly as it is stored. To get rid
of such a SKU, open its page in the console, ship or cancel its lines there, change the quantity of its batches to the
quantity shipped, and add the rest of the stock under the right name.
"""
BULK = f"""\
### `POST {bulk.PATH}`

Many events, one JSON object per line (at most {bulk.MAX_LINE_BYTES:,} bytes), as `{bulk.JSON_LINES}`. Each has a
`type`, and an `id` if a repeat must be recognised. Every line is answered by a line with `line` and `status`, in
order, while you are still sending: read while you send.
"""
PREVIEW = f"""\
## Preview

Nothing is changed, and the writer does not wait. Both answer `summary` (the number of lines that would be `moved`,
`waiting`, `served`, `late`, or promised `earlier` or `later`), `lines` (at most `limit` of them, 100 by default) and
`more`. [How](../howto/preview.md).

### `POST {previews.EVENT_PATH}`

Shows the effect of one event. `event` is the name of its route, and the body is the same. `answer` is the answer that
the event would get. If the event would be refused, so is the preview.

### `POST {previews.PATH}`

At most {MAX_LINES:,} events, one after the other, as lines of `{bulk.JSON_LINES}`. `answers` are the same as for
`{bulk.PATH}`.
"""
READ = f"""\
## Read

A page has {views.DEFAULT_PAGE:,} entries, or up to {views.MAX_PAGE:,} with `limit`. A member `next_…` is the value of
the parameter with that name for the next page; it is null on the last page. A name is looked up exactly as it is given;
if there is nothing, it is looked up trimmed and normalised, as [names](events.md#names) are written.
"""
WEBHOOKS = """\
## Webhooks

Signed events are posted to URLs of other systems: [how](../howto/webhooks.md).
"""
OPERATE = """\
## Operate

One JSON object, as `application/json`; `{}` selects all. Answers `count`, `effects` (the number for each effect) and
`dry_run`.
"""
HEALTH = """\
### `GET /healthz`

The process is alive.

### `GET /readyz`

The database answers, messages are accepted, and the last ones were written; otherwise 503. A failed write counts for
10 s, because on a full disk a database still answers.
"""
FACTS = """\
## Facts

Facts are raised by handlers and kept in the ledger; senders cannot send them.
"""
PROBLEMS = """\
Over HTTP a refusal is `application/problem+json` with `type` (`/problems/` and the slug), `title`, `status`, `message`
(the problem) and `detail` (the problem and the cure). It changes nothing.
"""
FLOW = f"""\
No chain leads back to its beginning, so the consequences of every message end; otherwise the service would not start.
`allocation flow` prints this chart, `allocation flow --svg FILE` writes [the picture](../img/{PICTURE.name}).
"""


def pages() -> Mapping[Path, str]:
    """Every generated file with its text, by its path below the root."""
    return {
        REFERENCE / "events.md": events_page(),
        REFERENCE / "http.md": http_page(),
        REFERENCE / "refusals.md": refusals_page(),
        REFERENCE / "settings.md": _page("Settings", settings_table()),
        REFERENCE / "cli.md": cli_page(),
        REFERENCE / "flow.md": flow_page(),
        PICTURE: flow.svg(),
        README: with_settings((ROOT / README).read_text()),
    }


def main() -> None:
    for path, text in pages().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text)


def events_page() -> str:
    asked = [kind for kind in EVENTS.values() if HANDLERS[kind]]
    facts = [kind for kind in EVENTS.values() if not HANDLERS[kind]]
    return _page("Events", NAMES, "## Requests\n", *map(_asked, asked), FACTS, *map(_fact, facts))


def http_page() -> str:
    posts = [f"### `POST {path}`\n\n{_post(kind)}" for path, kind in POSTS.items()]
    operate = [OPERATE, *map(_action, ACTIONS), WEBHOOKS, *map(_operation, OPERATIONS)]
    return _page("HTTP", SEND, *posts, BULK, PREVIEW, READ, *map(_read, READS), HEALTH, *operate)


def refusals_page() -> str:
    kinds = [(f"`{kind.slug}`", kind.status, kind.exit_code, ABOUT[kind]) for kind in KINDS]
    return _page(
        "Refusals",
        PROBLEMS,
        _table(("slug", "status", "exit code", "meaning and cure"), kinds),
        "## Exit codes of the command line\n",
        _table(("code", "meaning"), EXIT_CODES.items()),
    )


def settings_table() -> str:
    defaults = Settings()
    rows = [
        (f"`{PREFIX}{each.name.upper()}`", _default(getattr(defaults, each.name)), SETTINGS[each.name])
        for each in fields(Settings)
    ]
    return _table(("environment variable", "default", "meaning"), rows)


def with_settings(readme: str) -> str:
    """The README with the current table of settings."""
    before, _, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{README} has lost the mark {BEGIN.strip()!r} or {END!r}: put both back")
    return f"{before}{BEGIN}{settings_table()}{END}{after}"


def cli_page() -> str:
    group: Any = typer.main.get_command(app)
    by_group: dict[str, list[str]] = {}
    for name, command in group.commands.items():
        by_group.setdefault(command.rich_help_panel, []).extend(_commands(name, command))
    parts = [part for heading, commands in by_group.items() for part in (f"## {heading}\n", *commands)]
    return _page("Command line", "`allocation COMMAND --help` prints the same.\n", *parts)


def flow_page() -> str:
    path = " → ".join(f"`{node.__name__}`" for node in flow.longest_path())
    return _page(
        "The flow of events", f"The longest chain of causes: {path}.\n", FLOW, f"```mermaid\n{flow.mermaid()}```\n"
    )


def _page(title: str, *parts: str) -> str:
    return "\n".join([f"# {title}\n", WRITTEN, *parts])


def _asked(kind: type[Event]) -> str:
    handlers = HANDLERS[kind]
    raised = sorted({event.__name__ for handler in handlers for event in RAISES[handler]})
    path = next(path for path, each in POSTS.items() if each is kind)
    command = path.removeprefix("/").replace("_", "-")
    return "\n".join(
        [
            f"### `{kind.__name__}`\n\n{_doc(kind)}\n",
            f"Over HTTP `POST {path}`, on the command line `allocation {command}`. May raise {_list(raised)}.\n",
            _fields(kind),
        ]
    )


def _fact(kind: type[Event]) -> str:
    effects = [effect.__name__ for effect in EFFECTS.get(kind, ())]
    after = f"After the commit: {_list(effects)}.\n" if effects else ""
    return "\n".join(filter(None, [f"### `{kind.__name__}`\n\n{_doc(kind)}\n", after, _fields(kind)]))


def _fields(kind: type[Event]) -> str:
    rows = [
        (f"`{rule.name}`", rule.meaning, str(rule), "required" if rule.required else "optional")
        for rule in field_rules(kind)
    ]
    return _table(("field", "meaning", "takes", ""), rows)


def _post(kind: type[Event]) -> str:
    answer = openapi.answer_type(kind)
    members = _list(answer.__annotations__)
    head = f"[`{kind.__name__}`](events.md#{kind.__name__.lower()}). Answers {members}: {_plain(answer.__doc__)}\n"
    return f"{head}\n{_fields(kind)}"


def _read(read: Read) -> str:
    return "\n".join(filter(None, [f"### `GET {read.path}`\n\n{read.about}.\n", _parameters(read.parameters)]))


def _operation(operation: Operation) -> str:
    words = [f"{operation.about}."]
    if operation.takes:
        words.append(f"Takes {_list(operation.takes.__struct_fields__)}: {_plain(operation.takes.__doc__)}")
    if operation.answers:
        words.append(f"Answers {_list(operation.answers.__struct_fields__)}: {_plain(operation.answers.__doc__)}")
    head = f"### `{operation.method} {operation.path}`\n\n{' '.join(words)}\n"
    return "\n".join(filter(None, [head, _parameters(operation.parameters)]))


def _parameters(parameters: Sequence[Parameter]) -> str:
    rows = [(f"`{each.name}`", each.about, each.rule) for each in parameters]
    return _table(("parameter", "meaning", "takes"), rows) if rows else ""


def _commands(name: str, command: Any) -> Iterator[str]:
    """The command and its subcommands."""
    if not hasattr(command, "commands"):
        yield _command(name, command)
        return
    yield f"### `{name}`\n\n{_paragraphs(command.help)}\n"
    for each, below in command.commands.items():
        yield f"#{_command(f'{name} {each}', below)}"


def _action(action: Action) -> str:
    members = _table(("member", "means"), [(f"`{name}`", about) for name, about in MEMBERS.items()])
    return f"### `POST {action.path}`\n\n{action.about}.\n\n{members}"


def _command(name: str, command: Any) -> str:
    context = typer.Context(command)
    usage = " ".join(["allocation", name, *command.collect_usage_pieces(context)])
    records = [parameter.get_help_record(context) for parameter in command.params]
    rows = [(f"`{spelled}`", about) for spelled, about in records]
    table = _table(("", "meaning"), rows) if rows else ""
    return "\n".join(filter(None, [f"### `{name}`\n\n    {usage}\n", f"{_paragraphs(command.help)}\n", table]))


def _default(value: object) -> str:
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value not in {"", None, ()} else "empty"


def _doc(documented: Callable[..., Any]) -> str:
    return _paragraphs(inspect.getdoc(documented) or "")


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.replace("``", "`").split("\n\n"))


def _plain(text: str | None) -> str:
    return " ".join((text or "").replace("``", "`").split())


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
