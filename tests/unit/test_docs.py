"""The documentation against what it speaks of: what follows from the code is up to date, and what is named is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

from allocation.config import PREFIX, Settings
from allocation.entrypoints.cli.app import app
from allocation.entrypoints.refusals import KINDS
from allocation.service_layer import flow
from allocation.service_layer.handlers import HANDLERS
from allocation.service_layer.messages import EVENTS, field_rules, incoming_types
from docs import generate
from tests.servers import BINARIES_VARIABLE

ROOT = Path(__file__).parents[2]
MARKDOWN = sorted(str(page.relative_to(ROOT)) for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
DECISIONS = sorted(page.name for page in (ROOT / "docs/adr").glob("[0-9]*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
FENCE = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`|^    (.+)$|^\$ (.+)$", re.MULTILINE)
PATH = re.compile(r"(?:src|tests|docs|bench|journey)/[\w./-]*|\.ci/run")
MADE_LATER = ("bench/out", "bench/results.", "journey/.venv", "journey/data", "journey/out")


def read(page: str) -> str:
    return (ROOT / page).read_text()


def code_in(page: str) -> Iterator[str]:
    """What stands between backticks, in indented blocks, and after the prompt of a session."""
    for match in CODE.finditer(read(page)):
        yield next(text for text in match.groups() if text)


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(page.read_text()))
    return {heading.replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", generate.pages(), ids=str)
def test_what_is_written_from_the_code_is_up_to_date(path: Path) -> None:
    assert (ROOT / path).read_text() == generate.pages()[path], "run `make docs`"


def test_the_readme_has_every_setting() -> None:
    rows = [line for line in read("README.md").splitlines() if line.startswith(f"| `{PREFIX}")]
    assert [row.split("`")[1] for row in rows] == [PREFIX + each.name.upper() for each in fields(Settings)]


def test_a_setting_without_words_for_it_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(generate.SETTINGS, "port")
    with pytest.raises(KeyError, match="port"):
        generate.settings_table()


def test_the_readme_keeps_the_marks_of_its_table() -> None:
    with pytest.raises(ValueError, match="has lost the mark"):
        generate.with_settings("# allocation\n")


def test_the_reference_has_every_event_and_field() -> None:
    page = read("docs/reference/events.md")
    for name, kind in EVENTS.items():
        _, _, section = page.partition(f"### `{name}`\n")
        section, _, _ = section.partition("\n### ")
        for rule in field_rules(kind):
            assert f"| `{rule.name}` | {rule.meaning} | {rule} |" in section, name


def test_the_pages_of_http_and_of_the_command_line_say_what_each_field_means() -> None:
    for page, head in (("http", "### `POST /{name}`\n"), ("cli", "## `{name}`\n")):
        for name in incoming_types():
            handler = HANDLERS[EVENTS[name]][0].__name__
            head_of = head.format(name=handler if page == "http" else handler.replace("_", "-"))
            section = read(f"docs/reference/{page}.md").partition(head_of)[2].partition("\n## ")[0]
            for rule in field_rules(EVENTS[name]):
                assert rule.meaning in section, (page, name, rule.name)


def test_the_reference_has_every_refusal() -> None:
    page = read("docs/reference/refusals.md")
    for kind in KINDS:
        assert f"| `{kind.slug}` | {kind.status} | {kind.exit_code} |" in page


def test_the_reference_has_every_command() -> None:
    page = read("docs/reference/cli.md")
    for name in commands():
        assert f"\n### `{name}`\n" in page


def test_the_page_of_the_flow_shows_what_the_command_prints() -> None:
    assert f"```mermaid\n{flow.mermaid()}```" in read("docs/reference/flow.md")


@pytest.mark.parametrize("page", MARKDOWN)
def test_every_link_leads_somewhere(page: str) -> None:
    for link in LINK.findall(read(page)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", MARKDOWN)
def test_every_file_that_is_named_is_there(page: str) -> None:
    for code in code_in(page):
        for path in PATH.findall(code):
            assert (ROOT / path).exists() or path.startswith(MADE_LATER), path


@pytest.mark.parametrize("page", MARKDOWN)
def test_every_make_target_that_is_named_is_there(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):.* ## ", read("Makefile"), re.MULTILINE))
    for code in code_in(page):
        for target in re.findall(r"^make ([a-z][a-z0-9-]*)", code):
            assert target in targets or target.startswith("bench-"), target


@pytest.mark.parametrize("page", MARKDOWN)
def test_every_command_that_is_named_is_there(page: str) -> None:
    examples = {name.replace("_", "-") for name in re.findall(r"^ *def (\w+)", read(page), re.MULTILINE)}
    for code in code_in(page):
        for command in re.findall(r"^(?:\.venv/bin/)?allocation ([a-z][a-z-]*)", code):
            assert command in commands() | examples, command


@pytest.mark.parametrize("page", MARKDOWN)
def test_every_variable_that_is_named_is_a_setting(page: str) -> None:
    settings = {PREFIX + each.name.upper() for each in fields(Settings)} | {PREFIX, BINARIES_VARIABLE}
    assert set(re.findall(rf"{PREFIX}\w*", read(page))) <= settings


STANDS_ALONE = ("@", "def ", "from ")


@pytest.mark.parametrize("page", MARKDOWN)
def test_blocks_of_code_are_what_they_claim(page: str) -> None:
    for language, code in FENCE.findall(read(page)):
        match language:
            case "json":
                json.loads(code)
            case "python":
                assert code.lstrip().startswith(STANDS_ALONE) or code.rstrip().endswith(","), code
                compile(_whole(code), page, "exec")
            case _:
                assert language in {"console", "mermaid", "text"}, language


def _whole(code: str) -> str:
    """Python that stands by itself: indentation of a list removed, rows put into their table."""
    indent = len(code) - len(code.lstrip(" "))
    lines = "\n".join(line[indent:] for line in code.splitlines())
    return lines if lines.startswith(STANDS_ALONE) else f"{{{lines}}}"


def test_the_decisions_are_listed_and_say_why() -> None:
    index = read("docs/adr/README.md")
    for number, name in enumerate(DECISIONS, 1):
        text = read(f"docs/adr/{name}")
        title, *_ = text.splitlines()
        assert re.fullmatch(rf"# {number}\. .+", title), name
        assert f"{number}. [{title.partition('. ')[2]}]({name})" in index
        assert "**Decided.**" in text
        assert HEADING.findall(text)[1:] == ["Why", "Decision", "Consequences"], name


def commands() -> set[str]:
    group: Any = typer.main.get_command(app)
    return set(group.commands)
