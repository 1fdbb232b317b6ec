"""The OpenAPI document, the pages, and that the service does what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from allocation.domain.fields import Between
from allocation.entrypoints.http.actions import ACTIONS
from allocation.entrypoints.http.openapi import document
from allocation.entrypoints.http.posts import POSTS
from allocation.entrypoints.http.reads import READS
from allocation.entrypoints.http.webhooks import OPERATIONS
from allocation.entrypoints.refusals import KINDS
from allocation.service_layer.messages import decode, field_rules
from tests.services import Server

EXAMPLES = 25
SEED = 20_260_101
PROBES_S = 240
WRONG: list[Any] = ["", "x" * 256, "a\x00", "a\u200b", "a\u2028", -1, 10**9 + 1, 1.5, True, [], {}]


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(document())
    return plain


def test_every_route_is_in_the_document(server: Server, openapi: dict[str, Any]) -> None:
    assert server.get("/openapi.json") == openapi
    actions = [action.path for action in ACTIONS]
    named = {("post", path) for path in (*POSTS, *actions, "/bulk", "/preview", "/preview/{event}")}
    named |= {("get", path) for path in ("/healthz", "/readyz")}
    named |= {("get", read.path) for read in READS} | {(each.method.lower(), each.path) for each in OPERATIONS}
    assert {(method, path) for path, methods in openapi["paths"].items() for method in methods} == named


def test_every_reference_in_the_document_leads_somewhere(openapi: dict[str, Any]) -> None:
    references = set(re.findall(rb'"\$ref":"#/([^"]+)"', msgspec.json.encode(openapi)))
    assert references
    for reference in references:
        place = openapi
        for name in reference.decode().split("/"):
            place = place[name]


@pytest.mark.parametrize("path", POSTS)
def test_the_document_says_what_each_field_means(openapi: dict[str, Any], path: str) -> None:
    properties = openapi["components"]["schemas"][POSTS[path].__name__]["properties"]
    described = {name: schema["description"] for name, schema in properties.items()}
    assert described == {rule.name: f"{rule.meaning}. Takes {rule}." for rule in field_rules(POSTS[path])}


@pytest.mark.parametrize("path", POSTS)
def test_schemas_take_what_the_service_takes_and_refuse_what_it_refuses(openapi: dict[str, Any], path: str) -> None:
    kind = POSTS[path]
    schema = openapi["components"]["schemas"][kind.__name__]
    valid = jsonschema_rs.validator_for(schema, validate_formats=True).is_valid
    (example,) = schema["examples"]
    assert valid(example)
    decode(kind, msgspec.json.encode(example))
    for rule in field_rules(kind):
        assert valid({**example, rule.name: None}) is (not rule.required and rule.default is None)
        for wrong in (wrong for wrong in WRONG if type(wrong) is not rule.base or rule.base is not bool):
            if type(wrong) is int and isinstance(rule.limit, Between) and wrong >= rule.limit.least:
                continue  # a difference may be negative
            assert not valid({**example, rule.name: wrong}), (rule.name, wrong)
        if rule.required:
            assert not valid({name: value for name, value in example.items() if name != rule.name})
    assert not valid({**example, "more": 1})


def test_the_page_names_every_route_field_and_refusal_and_fetches_nothing(server: Server) -> None:
    response = server.client.get("/docs")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    page = response.text
    for path, kind in POSTS.items():
        assert path in page
        for rule in field_rules(kind):
            assert f"<code>{rule.name}</code></td><td>{rule.meaning}</td><td>{rule}</td>" in page
    assert all(read.path in page for read in READS)
    assert all(f"{each.about.replace('`', '')}." in page for each in OPERATIONS)
    assert all(action.path in page for action in ACTIONS)
    assert all(f'href="/problems/{kind.slug}"' in page for kind in KINDS)
    assert not re.search(r"<script|https?://|src=|``", page)


def test_every_kind_of_problem_has_a_page(server: Server) -> None:
    for kind in KINDS:
        told = server.get(f"/problems/{kind.slug}")
        assert (told["title"], told["status"]) == (kind.title, kind.status)
        page = server.client.get(f"/problems/{kind.slug}", headers={"Accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html")
        assert kind.title in page.text


@pytest.mark.served(ALLOCATION_ACTOR="anybody")  # a server apart: it adds webhooks whose deliveries stay pending
def test_schemathesis_finds_nothing(server: Server, tmp_path: Path) -> None:
    """Thousands of requests made up from the document: no 5xx, and no answer the document does not describe."""
    ended = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/openapi.json"),
            *("--checks", "all", "--max-examples", str(EXAMPLES), "--seed", str(SEED), "--generation-database", "none"),
            *("--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--no-color"),
            # A well-formed event may still be refused, and how to make JSON lines it does not know.
            *("--exclude-checks", "positive_data_acceptance", "--exclude-path-regex", "^/(bulk|preview)$"),
        ],
        capture_output=True,
        text=True,
        timeout=PROBES_S,
        check=False,
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
