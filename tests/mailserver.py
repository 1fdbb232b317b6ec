"""A real SMTP server for tests: it keeps what it takes, can decline, and can go down and come back."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.servers import free_port

TAKEN = "250 OK"


class MailServer:
    """On a loopback port of its own, which it keeps while it is down. ``options`` are those of aiosmtpd."""

    def __init__(self, **options: Any) -> None:
        self.mails: list[EmailMessage] = []
        self.encrypted: list[bool] = []  # for each mail, whether it came through TLS
        self.recipients: list[list[str]] = []  # for each mail, the addresses that it was taken for
        self.unknown: set[str] = set()  # addresses that are refused
        self.answer: Callable[[EmailMessage], str] = lambda _: TAKEN
        self.port = free_port()
        self._options = options
        self._controller: Controller | None = None  # None: down

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, **self._options)
        self._controller.start()

    def stop(self) -> None:
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    @property
    def subjects(self) -> list[str]:
        return [mail["Subject"] for mail in self.mails]

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.unknown:
            return "550 No such mailbox"
        envelope.rcpt_tos.append(address)
        return TAKEN

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        assert isinstance(envelope.content, bytes)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        answer = self.answer(mail)
        if answer == TAKEN:
            self.mails.append(mail)
            self.encrypted.append(session.ssl is not None or "ssl_context" in self._options)
            self.recipients.append(envelope.rcpt_tos)
        return answer
