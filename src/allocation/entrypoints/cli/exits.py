"""How a command ends: its exit code, and on stderr the problem and the cure. Bad input never causes a traceback."""

# ruff: noqa: PLC0415 - the modules with the errors are heavy, and loaded only after an error
from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping
from typing import Final

import typer

DONE = 0
USAGE = 2
UNKNOWN = 3
PARTLY = 5
DIFFERENT = 6
UNDELIVERED = 7
INTERRUPTED = 130

# The codes between are those of `entrypoints.refusals`, which a test compares.
EXIT_CODES: Final[Mapping[int, str]] = {
    DONE: "done",
    USAGE: "unusable: the command line, a setting, a file or a value is wrong",
    UNKNOWN: "unknown: no product, batch, order or webhook has that name",
    4: "conflict: the reference, line, key or webhook exists with other values",
    PARTLY: "partly done: an import refused some lines and took the others",
    DIFFERENT: "different: verify found differences and did not repair all of them",
    UNDELIVERED: "undelivered: the target of a webhook did not accept the test message",
    70: "a bug in this program",
    75: "unavailable: the database cannot be reached; repeating is safe",
    INTERRUPTED: "interrupted, or a question was not answered",
}


class UsageError(Exception):
    """The command cannot be carried out as given. The second argument is the cure."""

    def __init__(self, message: str, cure: str) -> None:
        super().__init__(message)
        self.cure = cure


def complain(message: str, cure: str = "") -> None:
    """Print the problem, and on a second line the cure."""
    typer.secho(f"error: {message.rstrip('.')}", err=True, fg="red")
    if cure:
        typer.echo(f"       {cure}", err=True)


def explain(error: Exception) -> int:
    """Print an error for a person; return the exit code."""
    if isinstance(error, typer.Abort):  # end of the input, or Ctrl-C, at a question
        typer.echo(err=True)
        complain("the question was not answered, and nothing was done", "Answer y or n, or add --yes.")
        return INTERRUPTED
    if isinstance(error, typer.TyperException):
        complain(error.format_message(), "Add --help to see how the command works.")
        return USAGE
    if isinstance(error, UsageError):
        complain(str(error), error.cure)
        return USAGE
    return _explain_ours(error)


def _explain_ours(error: Exception) -> int:
    from allocation.adapters.database import InvalidDatabaseUrl
    from allocation.adapters.migrate import DatabaseTooNew
    from allocation.config import InvalidSetting
    from allocation.domain.errors import Refusal
    from allocation.entrypoints.refusals import EXIT_FAILURE, EXIT_UNAVAILABLE, tell
    from allocation.service_layer.writing.store import StoreUnavailable
    from allocation.service_layer.writing.writer import Unavailable

    match error:
        case InvalidSetting() | InvalidDatabaseUrl():
            complain(str(error))
            return USAGE
        case Refusal():
            complain(error.message, error.cure)
        case StoreUnavailable() | Unavailable() | DatabaseTooNew():
            complain(str(error))
            return EXIT_UNAVAILABLE
        case OSError():
            complain(f"{error.filename or 'input or output'}: {error.strerror or error}")
            return USAGE
        case _:
            traceback.print_exception(error)
            complain("this is a bug in allocation; the traceback above shows the place")
            return EXIT_FAILURE
    return tell(error).kind.exit_code


def log_to_stderr() -> None:
    """Standard output is for answers. A one-off command logs only warnings and errors."""
    import structlog

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
