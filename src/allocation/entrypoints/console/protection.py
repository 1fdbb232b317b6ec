"""Protects the console against other sites that use it through a visitor's browser.

Every answer has `SECURITY_HEADERS`: only our own files are loaded, no inline script or style runs, and no page is
framed. A form is accepted only with the token of a cookie that other sites cannot send, repeated in a hidden field, and
only from our own origin if the browser sends one.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import MutableHeaders, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from allocation.domain.errors import InvalidMessage, Refusal
from allocation.entrypoints.bodies import check_content_type, read_body
from allocation.entrypoints.refusals import Forged

COOKIE = "console"
FIELD = "token"
TOKEN_BYTES = 32
MAX_FIELDS = 100
FORM_TYPES = (b"application/x-www-form-urlencoded",)
UPLOAD_TYPES = (b"multipart/form-data",)
SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # with a stricter policy, browsers would not send a form's origin
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

Form = Mapping[str, str]
FormEndpoint = Callable[[Request, Form], Awaitable[Response]]


def guarded(app: ASGIApp) -> ASGIApp:
    """Add the headers to all answers of the application."""

    async def with_headers(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await app(scope, receive, send_guarded)

    return with_headers


def token_of(request: Request) -> str:
    """The visitor's token; a new one if there is none yet, which `keep_token` then has to give them."""
    return request.cookies.get(COOKIE) or secrets.token_urlsafe(TOKEN_BYTES)


def keep_token(request: Request, response: Response, token: str) -> None:
    """Give the visitor the token, unless they have it."""
    if request.cookies.get(COOKIE) != token:
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, token, path="/console", secure=secure, httponly=True, samesite="strict")


async def checked_form(request: Request) -> Form:
    """The fields of one of our forms; raises `Forged`, or `InvalidMessage` if the body is not a form."""
    headers = dict(request.scope["headers"])
    check_content_type(headers, FORM_TYPES)
    _check_origin(request)
    form = _parsed(await read_body(headers, request.receive))
    _check_token(request, form.get(FIELD, ""))
    return form


async def checked_upload(request: Request, name: str, most_bytes: int, too_large: Refusal) -> tuple[Form, UploadFile]:
    """The fields of one of our forms and the file with this name; also refuses a file that is too large.

    The file is on disk, and is deleted when it is closed.
    """
    headers = dict(request.scope["headers"])
    check_content_type(headers, UPLOAD_TYPES)
    _check_origin(request)
    if int(headers.get(b"content-length", b"0")) > most_bytes:
        raise too_large
    bounded = Request(request.scope, _bounded(request.receive, most_bytes, too_large))
    try:
        form = await bounded.form(max_files=1, max_fields=MAX_FIELDS)
    except HTTPException as error:
        raise InvalidMessage(f"The form cannot be read: {error.detail}", "Send it from the console.") from None
    fields = {key: value for key, value in form.items() if isinstance(value, str)}
    _check_token(request, fields.get(FIELD, ""))
    file = form.get(name)
    if not isinstance(file, UploadFile) or not file.filename:
        raise InvalidMessage("The form has no file", "Choose one.")
    return fields, file


def _bounded(receive: Receive, most: int, too_large: Refusal) -> Receive:
    read = 0

    async def receive_bounded() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > most:
            raise too_large
        return message

    return receive_bounded


def _check_token(request: Request, given: str) -> None:
    cookie = request.cookies.get(COOKIE, "")
    if not cookie or not hmac.compare_digest(cookie.encode(), given.encode()):
        raise Forged("The form does not carry the token of this browser")


def _check_origin(request: Request) -> None:
    """Check the origin, if the browser sends one. Behind a proxy the scheme is unknown; the host is enough."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise Forged(f"The form comes from {ascii(origin)[:100]}")
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Forged("The form comes from another site")


def _parsed(body: bytes) -> Form:
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as error:
        raise InvalidMessage(f"The form cannot be read: {error}", "Send it from the console.") from None
    return dict(fields)
