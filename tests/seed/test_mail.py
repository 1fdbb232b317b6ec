"""`email.send_mail`, as row S12 calls it: by SMTP where the settings name a server, into the log otherwise."""

from __future__ import annotations

import pytest
import structlog

from allocation.adapters import email
from allocation.config import PREFIX, Settings
from tests.mailserver import MailServer

TO, SUBJECT = "stock@made.com", "Out of stock for WOBBLY-STOOL"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"{PREFIX}SMTP_HOST", raising=False)


def test_without_settings_the_mail_is_written_to_the_log() -> None:
    with structlog.testing.capture_logs() as log:
        email.send_mail(TO, SUBJECT)
    assert log == [{"event": "mail", "to": TO, "subject": SUBJECT, "log_level": "info"}]


@pytest.mark.parametrize("where", ["passed", "in the environment"])
def test_with_a_server_in_the_settings_the_mail_is_sent(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with MailServer() as server:
        if where == "passed":
            email.send_mail(TO, SUBJECT, Settings(smtp_host="127.0.0.1", smtp_port=server.port))
        else:
            monkeypatch.setenv(f"{PREFIX}SMTP_HOST", "127.0.0.1")
            monkeypatch.setenv(f"{PREFIX}SMTP_PORT", str(server.port))
            email.send_mail(TO, SUBJECT)
    assert [(mail["To"], mail["Subject"]) for mail in server.mails] == [(TO, SUBJECT)]
