"""examples/smtp.py on aiosmtpd: both sides' accounts agree, also when connections end in the middle of a mail."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests import kit, tls_end
from tests.certificates import Certificates
from tests.examples.swarms import USERS, swarm

LOGIN = ("connect", "greeting", "EHLO", "STARTTLS", "TLS handshake", "EHLO with TLS")


class MailServer(Controller):
    """A mail server in a thread of its own. It wants STARTTLS before any mail.

    Attributes:
        mails: The connection and the text of each mail.
        doomed: The connections that the server closes in the middle of their next mail.
    """

    def __init__(self, port: int, certificate: Path) -> None:
        self.mails: list[tuple[SMTP, bytes]] = []
        self.doomed: set[SMTP] = set()
        tls = tls_end.service(certificate)
        super().__init__(self, hostname="127.0.0.1", port=port, tls_context=tls, require_starttls=True)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a recipient, and return the reply. Called by aiosmtpd."""
        if server in self.doomed:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take a mail, and return the reply. Called by aiosmtpd."""
        assert isinstance(envelope.content, bytes)
        self.mails.append((server, envelope.content))
        return "250 OK"

    def senders(self) -> set[SMTP]:
        """Return the connections that a mail has come from."""
        return {connection for connection, _ in self.mails}


@contextlib.contextmanager
def mail_server(certificate: Path) -> Iterator[MailServer]:
    """Run a mail server for the length of a with-block."""
    running = MailServer(kit.free_port(), certificate)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def test_each_mail_is_one_event_and_a_cut_connection_one_failure(tmp_path: Path, files: Certificates) -> None:
    trust = {"SSL_CERT_FILE": str(files.ca)}
    with (
        mail_server(files.good) as server,
        swarm("smtp.py", port=server.port, folder=tmp_path, **trust) as locust,
    ):
        kit.eventually(lambda: len(server.senders()) == USERS)
        server.doomed = server.senders()
        kit.eventually(lambda: len(server.senders()) == 2 * USERS)
        locust.stop()
    requests, failed = locust.requests(), locust.failed()
    assert locust.exceptions() == []
    assert {name: requests[name] for name in LOGIN} == dict.fromkeys(LOGIN, 2 * USERS)
    assert set(requests) == {*LOGIN, "mail", "Aggregated"}
    assert locust.texts() <= {"reply: closed", "reply: reset"}
    assert failed == {"mail": USERS}
    assert requests["mail"] - USERS == len(server.mails)
    assert all(b"Subject: Load test" in mail and mail.endswith(b"\r\nHello\r\n") for _, mail in server.mails)
