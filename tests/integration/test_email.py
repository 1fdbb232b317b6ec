"""Mail by SMTP, to a real SMTP server."""

from __future__ import annotations

import dataclasses
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from allocation.adapters.email import LoggedNotifications, SmtpNotifications, notifications
from allocation.config import Settings
from allocation.domain.events import OutOfStock
from allocation.service_layer.delivering.effects import Hopeless, Unreachable, bind
from allocation.service_layer.handlers import EFFECTS
from allocation.testing import EffectTargetCompliance
from tests.fakes import FakeStockTeam
from tests.mailserver import TAKEN, MailServer

SUBJECT = "Out of stock for SPRINGY-MATTRESS"


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


def settings_for(server: MailServer, **others: Any) -> Settings:
    return Settings(smtp_host="127.0.0.1", smtp_port=server.port, mail_from="allocation@made.com", **others)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A key and the certificate that it signed for itself, as 127.0.0.1."""
    path = str(tmp_path_factory.mktemp("tls") / "server.pem")
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        path,
        "-out",
        f"{path}.crt",
        *subject,
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("openssl is not installed, and makes the server's certificate")
    with Path(path).open("a") as file:
        file.write(Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def server_tls(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_out_of_stock_is_told_to_the_stock_team(server: MailServer) -> None:
    send = bind(EFFECTS, notifications=notifications(settings_for(server)), stock_team=FakeStockTeam())
    send["send_out_of_stock_notification"](OutOfStock("SPRINGY-MATTRESS"))
    [mail] = server.mails
    assert mail["To"] == "stock@example.com"
    assert mail["From"] == "allocation@made.com"
    assert mail["Subject"] == SUBJECT
    assert mail.get_content().splitlines() == [f"{SUBJECT}."]
    assert mail["Date"].datetime.tzinfo is not None
    assert mail["Message-ID"].endswith("@made.com>")


@pytest.mark.parametrize(
    "sku",
    [
        "SOFA-äöü",
        "椅子",
        "🛋" * 255,
        "x" * 255,
        "a b  c",
        "=?utf-8?q?hi?=",
        "=?utf-8?q?a=0D=0ABcc:_spy@example.com?=",
        "=?",
        "a,b;c:d<e>@f",
        '"quoted"',
        "é" + "x" * 254,
    ],
    ids=lambda sku: f"{sku[:8]!a}-{len(sku)}",
)
def test_every_possible_sku_arrives_as_it_is(sku: str, server: MailServer) -> None:
    notifications(settings_for(server)).send_mail("stock@example.com", f"Out of stock for {sku}")
    [mail] = server.mails
    assert mail["Subject"] == f"Out of stock for {sku}"
    assert sku in mail.get_content()
    assert mail["Bcc"] is None


@pytest.mark.parametrize("subject", ["Out\r\nBcc: spy@example.com", "Out\nX: y", "Out\0", "x" * 10_000, "\ud800"])
def test_a_subject_that_is_not_one_line_is_refused(subject: str, server: MailServer) -> None:
    with pytest.raises(ValueError, match="must be one short line of printable characters"):
        notifications(settings_for(server)).send_mail("stock@example.com", subject)
    assert server.mails == []


def test_with_tls_the_mail_is_encrypted(server_tls: ssl.SSLContext, certificate: str) -> None:
    trusting = ssl.create_default_context(cafile=f"{certificate}.crt")
    with MailServer(tls_context=server_tls, require_starttls=True) as server:
        SmtpNotifications(settings_for(server, smtp_tls=True), trusting).send_mail("stock@example.com", SUBJECT)
    assert server.encrypted == [True]


@pytest.mark.parametrize("smtp_tls", [True, "implicit"])
def test_with_tls_a_stranger_gets_neither_mail_nor_password(server_tls: ssl.SSLContext, smtp_tls: bool | str) -> None:
    options = {"tls_context": server_tls} if smtp_tls is True else {"ssl_context": server_tls}
    with MailServer(**options) as server:
        settings = settings_for(server, smtp_tls=smtp_tls, smtp_user="alice", smtp_password="secret")
        with pytest.raises(Unreachable, match="certificate verify failed"):
            notifications(settings).send_mail("stock@example.com", SUBJECT)
    assert server.mails == []


def test_with_implicit_tls_the_connection_is_encrypted_from_its_first_byte(
    server_tls: ssl.SSLContext, certificate: str
) -> None:
    trusting = ssl.create_default_context(cafile=f"{certificate}.crt")
    with MailServer(ssl_context=server_tls) as server:
        settings = Settings.from_environment({"ALLOCATION_SMTP_TLS": "implicit"})
        settings = dataclasses.replace(settings, smtp_host="127.0.0.1", smtp_port=server.port)
        SmtpNotifications(settings, trusting).send_mail("stock@example.com", SUBJECT)
        assert server.subjects == [SUBJECT]
        plain = dataclasses.replace(settings, smtp_tls=False)
        with pytest.raises(Unreachable):
            SmtpNotifications(plain, trusting).send_mail("stock@example.com", SUBJECT)
    assert server.encrypted == [True]


@pytest.mark.parametrize(("smtp_tls", "reason"), [(True, "STARTTLS"), ("implicit", "(?i)wrong.version")])
def test_with_tls_nothing_is_sent_to_a_server_without_it(smtp_tls: bool | str, reason: str, server: MailServer) -> None:
    with pytest.raises(Unreachable, match=reason):
        notifications(settings_for(server, smtp_tls=smtp_tls)).send_mail("stock@example.com", SUBJECT)
    assert server.mails == []


@pytest.mark.parametrize(("password", "mails"), [("secret", 1), ("guess", 0)])
def test_logs_in_as_the_user(password: str, mails: int, server_tls: ssl.SSLContext, certificate: str) -> None:
    def authenticate(_: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
        return AuthResult(success=getattr(data, "password", None) == b"secret", handled=False)

    trusting = ssl.create_default_context(cafile=f"{certificate}.crt")
    with MailServer(tls_context=server_tls, authenticator=authenticate, auth_required=True) as server:
        settings = settings_for(server, smtp_tls=True, smtp_user="alice", smtp_password=password)
        adapter = SmtpNotifications(settings, trusting)
        if mails:
            adapter.send_mail("stock@example.com", SUBJECT)
        else:
            with pytest.raises(Unreachable, match="Authentication") as refusal:
                adapter.send_mail("stock@example.com", SUBJECT)
            assert password not in str(refusal.value)
    assert len(server.mails) == mails


def test_a_mail_that_is_declined_is_no_trouble_of_the_server(server: MailServer) -> None:
    server.answer = lambda _: "554 Not this one"
    with pytest.raises(smtplib.SMTPDataError, match="Not this one"):
        notifications(settings_for(server)).send_mail("stock@example.com", SUBJECT)


def test_one_mail_has_several_recipients(server: MailServer) -> None:
    notifications(settings_for(server)).send_mail("ann@example.com, ben@example.com", SUBJECT)
    assert server.recipients == [["ann@example.com", "ben@example.com"]]
    assert [mail["To"] for mail in server.mails] == ["ann@example.com, ben@example.com"]


def test_a_mail_that_only_some_get_is_given_up_and_names_the_others(server: MailServer) -> None:
    """A repeat would send it to the first ones again, and again."""
    server.unknown = {"ben@example.com"}
    with pytest.raises(Hopeless, match=r"^sent, but not to ben@example.com: 550 No such mailbox$"):
        notifications(settings_for(server)).send_mail("ann@example.com, ben@example.com", SUBJECT)
    assert server.recipients == [["ann@example.com"]]


def test_a_mail_that_nobody_gets_is_declined(server: MailServer) -> None:
    server.unknown = {"ann@example.com", "ben@example.com"}
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        notifications(settings_for(server)).send_mail("ann@example.com, ben@example.com", SUBJECT)
    assert server.mails == []


def test_a_repeat_of_a_mail_has_the_same_id_and_the_text_arrives_as_it_is(server: MailServer) -> None:
    text = "Sofa äöü 椅子\n.\nFrom here\n" + "x" * 900 + "\n"
    for id_ in ("m1~3", "m1~3", "m2", ""):
        notifications(settings_for(server)).send_mail("stock@example.com", SUBJECT, text, id_)
    first, repeat, other, unnamed = [mail["Message-ID"] for mail in server.mails]
    assert first == repeat
    assert len({first, other, unnamed}) == 3
    assert all(each.endswith("@made.com>") for each in (first, other, unnamed))
    for mail in server.mails:
        assert mail.get_content_type() == "text/plain"
        assert mail.get_content() == text
        assert mail["Auto-Submitted"] == "auto-generated"


def test_a_server_that_is_down_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and not listening
        port = taken.getsockname()[1]
        with pytest.raises(Unreachable, match=rf"127\.0\.0\.1:{port}: .*refused"):
            notifications(Settings(smtp_host="127.0.0.1", smtp_port=port)).send_mail("stock@example.com", SUBJECT)


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allocation.adapters.email.SMTP_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(Unreachable, match="timed out"):
            notifications(Settings(smtp_host="127.0.0.1", smtp_port=port)).send_mail("stock@example.com", SUBJECT)


def test_without_a_server_mails_are_logged() -> None:
    adapter = notifications(Settings())
    assert isinstance(adapter, LoggedNotifications)
    with structlog.testing.capture_logs() as lines:
        adapter.send_mail("stock@example.com", SUBJECT)
    assert lines == [{"event": "mail", "to": "stock@example.com", "subject": SUBJECT, "log_level": "info"}]


class TestSmtp(EffectTargetCompliance):
    @pytest.fixture(autouse=True)
    def _server(self, server: MailServer) -> None:
        self.server = server

    def send(self, text: str) -> None:
        notifications(settings_for(self.server)).send_mail("stock@example.com", text)

    def seen(self) -> Sequence[str]:
        return self.server.subjects

    def decline(self) -> None:
        self.server.answer = lambda _: "554 Not this one"

    def take_down(self) -> None:
        self.server.stop()

    def bring_back(self) -> None:
        self.server.answer = lambda _: TAKEN
        self.server.stop()
        self.server.start()
