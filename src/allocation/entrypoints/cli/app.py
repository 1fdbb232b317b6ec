"""The commands and their options. Each command is implemented in its own module, which is loaded only when it runs."""

# ruff: noqa: PLC0415 - heavy modules are loaded by the command that needs them, so that every command starts quickly
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import allocation
from allocation.config import PREFIX
from allocation.domain.fields import MAX_QUANTITY
from allocation.entrypoints.cli.dead_letters import dead_letters
from allocation.entrypoints.cli.exits import DONE, EXIT_CODES, INTERRUPTED, UsageError, log_to_stderr
from allocation.entrypoints.cli.exits import explain as explain_error
from allocation.entrypoints.cli.groups import GroupedCommands
from allocation.entrypoints.cli.options import (
    AsJson,
    DatabaseUrl,
    DryRun,
    EmptyEta,
    Format,
    Past,
    What,
    dashed,
    settings_for,
)
from allocation.entrypoints.cli.sending import add_commands
from allocation.entrypoints.cli.webhooks import webhooks

app = typer.Typer(
    name="allocation",
    help="Allocate order lines to batches of stock, and reallocate them when stock or orders change.",
    epilog="Exit codes:\n" + "\n".join(f"{code:>4}  {meaning}" for code, meaning in EXIT_CODES.items()),
    cls=GroupedCommands,
    context_settings={"token_normalize_func": dashed},  # so that --need_by still works, beside --need-by
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def run() -> int:
    """Run the command that the arguments name; return the exit code."""
    try:
        code = app(standalone_mode=False)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001 - every error is reported, bugs with their traceback
        code = explain_error(error)
    return code or DONE


@app.callback(invoke_without_command=True)
def allocation_(
    context: typer.Context,
    *,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show_version:
        typer.echo(f"allocation {allocation.__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port; 0 chooses a free one.", show_default="8000")
    ] = None,
    database: DatabaseUrl = None,
) -> int:
    """Serve HTTP until Ctrl-C. Also run effects, such as mails, including those of other commands."""
    from allocation.entrypoints.http.server import CannotListen
    from allocation.entrypoints.http.server import serve as serve_http

    settings = settings_for(database)
    if host is not None:
        settings = replace(settings, host=host)
    if port is not None:
        settings = replace(settings, port=port)
    try:
        serve_http(settings)
    except CannotListen as error:
        raise UsageError(
            str(error), "Choose another address with --host and --port; port 0 chooses a free one."
        ) from error
    return DONE


@app.command("import")
def import_(  # noqa: PLR0913 - the options of a command
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files to import; - is standard input.")],
    *,
    type_: Annotated[
        str | None, typer.Option("--type", metavar="EVENT", help="Event type of the rows of CSV files.")
    ] = None,
    refused: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File for refused lines; default: FILE.refused.jsonl beside each file."),
    ] = None,
    label: Annotated[
        str, typer.Option(help="Lines imported before under another label count as new lines.", show_default=False)
    ] = "",
    empty_eta: Annotated[
        EmptyEta | None,
        typer.Option(help="Stock without an ETA in a file that has ETAs; default: its rows are refused."),
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Show the result, and import nothing.")] = False,
    as_json: AsJson = False,
    database: DatabaseUrl = None,
) -> int:
    """Import events: JSON lines {"type": "BatchCreated", …}, or CSV with a header and --type.

    Refused lines are written to a file, with line number and reason; all other lines are imported. You can import a
    file again, also after an interruption or with lines added at its end: no line is applied twice.
    """
    from allocation.entrypoints.cli.importing import Request, import_files

    request = Request(files, type_, refused, label, as_json, preview, empty_eta.value if empty_eta else None)
    return import_files(settings_for(database), request)


@app.command()
def export(
    what: Annotated[What, typer.Argument(help="Table to export.")],
    *,
    format_: Annotated[
        Format | None, typer.Option("--format", help="Output format.", show_default="from the file name, or csv")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Output file; default: standard output.")
    ] = None,
    database: DatabaseUrl = None,
) -> int:
    """Export a table as of one moment."""
    from allocation.entrypoints.cli.exporting import export as export_table

    if format_ is None:
        format_ = Format.JSONL if output is not None and output.suffix == ".jsonl" else Format.CSV
    return export_table(settings_for(database), what, format_, output)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="SKU|ORDER|BATCH", help="Name to look up.")],
    *,
    as_json: AsJson = False,
    database: DatabaseUrl = None,
) -> int:
    """Show a product, an order or a batch: its stock, and the batch and state of each line."""
    from allocation.entrypoints.cli.showing import show as show_name

    return show_name(settings_for(database), name, as_json=as_json)


@app.command()
def availability(
    skus: Annotated[list[str], typer.Argument(metavar="SKU...", help="The products.")],
    *,
    qty: Annotated[int | None, typer.Option(min=1, max=MAX_QUANTITY, help="Quantity of an order line.")] = None,
    by: Annotated[
        str | None, typer.Option(metavar="DAY", help="Day by which it is needed, such as 2026-01-31.")
    ] = None,
    as_json: AsJson = False,
    database: DatabaseUrl = None,
) -> int:
    """Show how much of each product can be promised: now, by day, and for an order line of a quantity."""
    from allocation.entrypoints.cli.availability import show as show_availability

    return show_availability(settings_for(database), skus, qty, by, as_json=as_json)


@app.command()
def cascade(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of the message, or of any of its consequences.")],
    *,
    as_json: AsJson = False,
    database: DatabaseUrl = None,
) -> int:
    """Show the causes and all consequences of a message, with its pending and kept effects."""
    from allocation.entrypoints.cli.cascade import show as show_cascade

    return show_cascade(settings_for(database), id_, as_json=as_json)


@app.command()
def explain(
    orderid: Annotated[str, typer.Argument(metavar="ORDERID", help="Order or hold.")],
    sku: Annotated[str, typer.Argument(metavar="SKU", help="The product.")],
    *,
    as_json: AsJson = False,
    database: DatabaseUrl = None,
) -> int:
    """Explain why a line is on its batch or waits: the batches considered, and the line's history."""
    from allocation.entrypoints.cli.explaining import show as show_explanation

    return show_explanation(settings_for(database), orderid, sku, as_json=as_json)


@app.command("at")
def at_(
    time: Annotated[
        str, typer.Argument(metavar="TIME", help="Time, such as 2026-01-31T12:00Z or 2026-01-31T12:00+01:00.")
    ],
    what: Annotated[Past, typer.Argument(metavar="show", help="Show it.")],  # noqa: ARG001 - the only choice
    name: Annotated[str, typer.Argument(metavar="SKU|ORDER|BATCH", help="Name to look up.")],
    *,
    as_json: AsJson = False,
    database: DatabaseUrl = None,
) -> int:
    """Show a product, an order or a batch as it was at a time in the past, from the ledger."""
    from allocation.entrypoints.cli.past import show_past

    return show_past(settings_for(database), time, name, as_json=as_json)


@app.command()
def verify(
    *,
    repair: Annotated[bool, typer.Option("--repair", help="Correct wrong counters; change nothing else.")] = False,
    as_json: AsJson = False,
    database: DatabaseUrl = None,
) -> int:
    """Verify the books: compare every sum with its rows, and the rows with the ledger, as of one moment.

    It locks nothing. It lists each difference, with the last message about it. --repair corrects counters and records
    that in the ledger; it never allocates, moves or deletes a line.
    """
    from allocation.entrypoints.cli.verifying import verify as verify_books

    return verify_books(settings_for(database), repair=repair, as_json=as_json)


@app.command()
def tidy(
    *,
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="AGE", help="Minimum age, such as 400d; 30d or more.", show_default=f"{PREFIX}KEEP_CLOSED_DAYS"
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    database: DatabaseUrl = None,
) -> int:
    """Delete order lines that have been closed longer than the given age, with all messages about them.

    Their totals are kept, so that the books can still be verified. Lines are deleted in small batches, beside other
    writers. allocation serve does the same automatically if ALLOCATION_KEEP_CLOSED_DAYS is set.
    """
    from allocation.entrypoints.cli.tidying import tidy as tidy_lines

    return tidy_lines(settings_for(database), older_than, dry_run=dry_run, as_json=as_json)


@app.command()
def migrate(*, database: DatabaseUrl = None) -> int:
    """Migrate the database to the current version. Every other command does this too before it uses a database."""
    from allocation.adapters.database import parse_url
    from allocation.adapters.migrate import migrate as migrate_database

    log_to_stderr()
    url = parse_url(settings_for(database).database_url)
    before, after = migrate_database(url)
    where = url.render_as_string(hide_password=True)
    typer.echo(f"{where}: up to date at {after}" if before == after else f"{where}: {before or 'empty'} → {after}")
    return DONE


@app.command()
def flow(
    *,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Write an SVG picture to this file instead.")] = None,
) -> int:
    """Print the flow from events to handlers to further events, as a Mermaid flowchart."""
    from allocation.service_layer import flow as declared

    if svg is None:
        typer.echo(declared.mermaid(), nl=False)
    else:
        svg.write_text(declared.svg(), encoding="utf-8")
    return DONE


@app.command()
def demo() -> int:
    """Start the service on a free port, with a new database, and play two stories over HTTP."""
    from allocation.entrypoints.cli.demo import play

    return play()


@app.command()
def version() -> int:
    """Print the version."""
    typer.echo(f"allocation {allocation.__version__}")
    return DONE


app.add_typer(webhooks, name="webhooks")
app.add_typer(dead_letters)
add_commands(app)
