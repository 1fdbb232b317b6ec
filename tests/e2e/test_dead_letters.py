"""Dead letters as operators meet them: over HTTP and on the command line, of a running service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
from typing import Any

import pytest

from allocation.adapters.database import parse_url
from allocation.entrypoints.cli.exits import INTERRUPTED
from tests.builders import change, select
from tests.e2e.program import PROGRAM, Done, run
from tests.services import Server, StartServer
from tests.waiting import wait_until

EFFECT = "tell_the_wholesaler"
SECOND_TRY_AFTER_S = 5.0


@pytest.fixture
def server(start_server: StartServer, database_url: str) -> Server:
    """With four dead letters: of an effect that nobody knows, for two lines of each of two products."""
    server = start_server(ALLOCATION_DATABASE_URL=database_url, ALLOCATION_LEASE_S="1")
    for sku in ("CHAIR", "TABLE"):
        server.add_batch(f"batch of {sku}", sku, 1)
        for orderid in ("o1", "o2"):
            server.allocate(orderid, sku, 2)
    wait_until(lambda: not rows(database_url, "SELECT 1 FROM deliveries"))  # the mails
    owed = (
        "INSERT INTO deliveries (correlation_id, step, effect, sku, type, body)"
        f" SELECT correlation_id, step, '{EFFECT}', sku, type, body FROM messages WHERE type = 'Backordered'"
        " ORDER BY position"
    )
    asyncio.run(change(parse_url(database_url), owed))
    wait_until(lambda: len(dead(server)) == 4)
    return server


def test_they_are_listed_page_by_page_and_by_filters(server: Server) -> None:
    pages = list(server.pages("/dead-letters", "after", limit=3))
    assert [len(page["dead_letters"]) for page in pages] == [3, 1]
    assert [each["sku"] for each in dead(server, sku="CHAIR")] == ["CHAIR", "CHAIR"]
    assert len(dead(server, effect=EFFECT)) == 4
    assert dead(server, effect="another") == dead(server, older_than="1d") == []
    assert server.client.get("/dead-letters", params={"older_than": "soon"}).json()["message"] == "older_than is 'soon'"


def test_one_is_shown_with_its_message_cause_and_stack(server: Server) -> None:
    found = dead(server)[0]
    shown = server.get(f"/dead-letters/{found['number']}")
    assert shown.items() >= found.items()
    message = server.get(f"/events/{shown['id']}")
    assert {name: shown[name] for name in ("body", "causation_id", "type", "sku")} == {
        name: message[name] for name in ("body", "causation_id", "type", "sku")
    }
    assert shown["error"] == f"Hopeless: unknown effect {EFFECT}; it may have been removed"
    assert "Hopeless" in shown["stack"]
    for unknown in ("999999", "x", "-1"):
        response = server.client.get(f"/dead-letters/{unknown}")
        assert (response.status_code, response.json()["type"]) == (404, "/problems/unknown-dead-letter")


def test_a_dry_run_changes_nothing_and_a_retry_keeps_the_messages(server: Server, database_url: str) -> None:
    before = dead(server)
    told = server.post("/dead-letters/retry", {"sku": "CHAIR", "dry_run": True})
    assert (told.status_code, told.json()) == (200, {"count": 2, "effects": {EFFECT: 2}, "dry_run": True})
    assert dead(server) == before
    assert server.post("/dead-letters/retry", {"sku": "CHAIR"}).json()["count"] == 2
    wait_until(lambda: len(dead(server)) == 4)  # they have failed again
    after = dead(server)
    names = ("number", "id", "correlation_id", "effect", "sku")
    assert [[each[name] for name in names] for each in after] == [[each[name] for name in names] for each in before]
    assert after[0]["died_at"] > before[0]["died_at"]


def test_what_is_dropped_is_gone(server: Server) -> None:
    number = dead(server)[0]["number"]
    assert server.post("/dead-letters/drop", {"number": number}).json()["count"] == 1
    assert server.post("/dead-letters/drop", {"number": number}).json()["count"] == 0
    assert len(dead(server)) == 3


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"older": "1d"}, "The body cannot be used: Object contains unknown field `older`"),
        ({"older_than": "1 day"}, "older_than is '1 day'"),
        ({"sku": ""}, "sku is ''"),
        ({"number": -1}, "number is -1"),
        ([], "The body cannot be used: Expected `object`, got `array`"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_changes_nothing(server: Server, body: Any, message: str) -> None:
    response = server.post("/dead-letters/drop", body)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["message"] == message
    assert len(dead(server)) == 4


def test_the_command_line_lists_shows_retries_and_drops(server: Server, database_url: str) -> None:
    def letters(*arguments: str, answer: str = "") -> Done:
        return run("dead-letters", *arguments, database=database_url, given=answer.encode())

    listed = [json.loads(line) for line in letters("list", "--json").output.splitlines()]
    assert listed == dead(server)
    table = letters("list", "--sku", "CHAIR").output
    assert "CHAIR" in table
    assert "TABLE" not in table
    assert letters("list", "--effect", "another").output == "There are no such dead letters.\n"

    number = str(listed[0]["number"])
    assert json.loads(letters("show", number, "--json").output) == server.get(f"/dead-letters/{number}")
    assert "unknown effect" in letters("show", number).output
    assert (letters("show", "999").code, letters("retry", "999").code) == (3, 3)
    assert letters("list", "--older-than", "soon").code == 2

    would = letters("retry", "--older-than", "0s", "--dry-run").output
    assert would == f"{EFFECT}: 4\n4 dead letters would be retried\n"
    assert json.loads(letters("retry", "--older-than", "1d", "--json").output)["count"] == 0

    assert letters("drop", "--sku", "CHAIR", answer="n\n").output.strip() == "Nothing was dropped."
    assert len(dead(server)) == 4
    assert letters("drop", "--sku", "CHAIR", "--json").code == 2
    assert letters("drop", "--sku", "CHAIR", answer="y\n").output.endswith("2 dead letters dropped\n")
    assert letters("drop", "--yes").output == f"{EFFECT}: 2\n2 dead letters dropped\n"
    assert dead(server) == []


def test_a_question_that_nobody_answers_changes_nothing(server: Server, database_url: str) -> None:
    question = "Drop 4 dead letters for good? [y/N]:\n"
    unanswered = f"{question}error: the question was not answered, and nothing was done\n"
    asked = run("dead-letters", "drop", database=database_url)  # its input ends at once
    assert (asked.code, asked.output.strip()) == (INTERRUPTED, "")
    assert asked.errors.startswith(unanswered)

    command = [*PROGRAM, "dead-letters", "drop", f"--database={database_url}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as asking:
        assert asking.stderr is not None
        seen = b""
        while not seen.endswith(b"]:"):
            seen += (read := asking.stderr.read(1))
            assert read, seen
        while asking.poll() is None:  # Python notices a signal just before it waits for input with the next one only
            asking.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                asking.wait(SECOND_TRY_AFTER_S)
        seen += asking.stderr.read()
        assert asking.returncode == INTERRUPTED
    assert seen.decode().startswith(unanswered)
    assert len(dead(server)) == 4


def dead(server: Server, **chosen: str) -> list[dict[str, Any]]:
    letters: list[dict[str, Any]] = server.get("/dead-letters", **chosen)["dead_letters"]
    return letters


def rows(database_url: str, query: str) -> list[tuple[Any, ...]]:
    return asyncio.run(select(parse_url(database_url), query))
