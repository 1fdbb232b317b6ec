"""Mail to people, by SMTP; into the log where no SMTP server is set.

SMTP promises that the server took the mail, not that anybody got it. When the connection breaks after the server took
it and before it said so, the mail is sent again.
"""

from __future__ import annotations

import os
import smtplib
import ssl
import uuid
from email.header import Header
from email.message import Message
from email.mime.text import MIMEText
from email.utils import formataddr, formatdate, make_msgid, parseaddr
from typing import Any

import structlog

from allocation.config import IMPLICIT, Settings
from allocation.service_layer.delivering.effects import Hopeless, Unreachable

SMTP_TIMEOUT_S = 10.0
MAX_HEADER_LENGTH = 500

log = structlog.get_logger(__name__)


def send_mail(to: str, subject: str, settings: Settings | None = None) -> None:
    """Send one mail by SMTP if ``smtp_host`` is set, otherwise write it into the log.

    ``None`` reads the settings from the environment, as `allocation serve` does. The errors are those of
    `SmtpNotifications.send_mail`.
    """
    notifications(settings or Settings.from_environment(os.environ)).send_mail(to, subject)


def notifications(settings: Settings) -> SmtpNotifications | LoggedNotifications:
    """SMTP if ``smtp_host`` is set, the log otherwise."""
    return SmtpNotifications(settings) if settings.smtp_host else LoggedNotifications()


class SmtpNotifications:
    """One connection per mail. With ``smtp_tls`` nothing is said before the server has proved who it is."""

    def __init__(self, settings: Settings, tls: ssl.SSLContext | None = None) -> None:
        """``tls`` decides which servers are trusted; the default is the system's trust store."""
        self._settings = settings
        self._tls = tls or ssl.create_default_context()

    def send_mail(self, to: str, subject: str, text: str = "", id_: str = "") -> None:
        """Send the mail to the server. Raises `Unreachable`, or an error of `smtplib` if the server declines it.

        Raises `Hopeless` if the server takes it for some of the addresses only: they would get every repeat.
        """
        mail = _mail(self._settings.mail_from, to, subject, text, id_)
        try:
            with self._connection() as server:
                self._introduce(server)
                refused = server.send_message(mail)
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError):  # of this mail
            raise
        except OSError as error:  # of the server: not there, not trusted, or it does not take our password
            address = f"{self._settings.smtp_host}:{self._settings.smtp_port}"
            raise Unreachable(f"{address}: {str(error) or type(error).__name__}") from error
        if refused:
            reasons = (f"{who}: {code} {said.decode(errors='replace')}" for who, (code, said) in refused.items())
            raise Hopeless(f"sent, but not to {', '.join(reasons)}")

    def _connection(self) -> smtplib.SMTP:
        host, port = self._settings.smtp_host, self._settings.smtp_port
        if self._settings.smtp_tls == IMPLICIT:
            return smtplib.SMTP_SSL(host, port, timeout=SMTP_TIMEOUT_S, context=self._tls)
        return smtplib.SMTP(host, port, timeout=SMTP_TIMEOUT_S)

    def _introduce(self, server: smtplib.SMTP) -> None:
        if self._settings.smtp_tls is True:
            server.starttls(context=self._tls)
        if self._settings.smtp_user:
            server.login(self._settings.smtp_user, self._settings.smtp_password)


class LoggedNotifications:
    """Writes each mail into the log: for trying things out, and where people read logs instead of mails."""

    def send_mail(self, to: str, subject: str, text: str = "", id_: str = "") -> None:
        more = {"text": text} if text else {}
        log.info("mail", to=to, subject=subject, **more)


def _mail(sender: str, to: str, subject: str, text: str, id_: str) -> Message[Any, Any]:
    for line in (sender, *to.split(","), subject):
        if not line.isprintable() or len(line) > MAX_HEADER_LENGTH:
            raise ValueError(f"{line[:MAX_HEADER_LENGTH]!r} must be one short line of printable characters")
    mail: Message[Any, Any] = MIMEText(text or f"{subject}.\n")
    mail["From"] = formataddr(parseaddr(sender))
    mail["To"] = to
    mail["Subject"] = _header(subject)
    mail["Date"] = formatdate(localtime=True)
    mail["Message-ID"] = _message_id(id_, parseaddr(sender)[1].rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"  # so that nobody's holiday is answered to us
    return mail


def _message_id(id_: str, domain: str) -> str:
    """The same for a repeat of the mail, so that mailboxes can drop it."""
    if not id_:
        return make_msgid(domain=domain or None)
    return f"<{uuid.uuid5(uuid.NAMESPACE_OID, id_)}@{domain or 'localhost'}>"


def _header(text: str) -> Header:
    """The text as RFC 2047 writes it.

    Text that looks encoded is encoded too, or readers would decode it: ``EmailMessage`` does so, and then writes the
    line breaks and headers that somebody hid in it.
    """
    plain = text.isascii() and "=?" not in text
    return Header(text, "us-ascii" if plain else "utf-8")
