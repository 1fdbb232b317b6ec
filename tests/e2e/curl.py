"""What the documentation needs of curl, for machines that have none: ``python -m tests.e2e.curl URL …``.

Like curl it reads ``$CURL_HOME/.curlrc``, of which it knows ``connect-to`` only.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

import httpx

TIMEOUT_S = 30.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--json")
    parser.add_argument("--data-binary", metavar="@FILE")
    parser.add_argument("-H", dest="headers", action="append", default=[], metavar="NAME: VALUE")
    asked = parser.parse_args()
    headers = dict(re.split(r":\s*", header, maxsplit=1) for header in asked.headers)
    content = _content(asked.json, asked.data_binary)
    if asked.json is not None:
        headers.setdefault("Content-Type", "application/json")
    method = "GET" if content is None else "POST"
    response = httpx.request(method, _reached(asked.url), headers=headers, content=content, timeout=TIMEOUT_S)
    sys.stdout.write(response.text)


def _content(json: str | None, file: str | None) -> bytes | None:
    if file is not None:
        return Path(file.removeprefix("@")).read_bytes()
    return None if json is None else json.encode()


def _reached(url: str) -> str:
    """The URL with the address that ``connect-to`` puts in the place of the one it names."""
    rules = (Path(os.environ["CURL_HOME"]) / ".curlrc").read_text()
    for asked, reached in re.findall(r"^connect-to = ([^:]+:\d+):(\S+)$", rules, re.MULTILINE):
        url = url.replace(f"//{asked}/", f"//{reached}/")
    return url


if __name__ == "__main__":
    main()
