"""SMTP with STARTTLS: the login on each new connection, then mails, each of them one transaction.

Make a key:      openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem \
                     -subj /CN=localhost -addext subjectAltName=DNS:localhost
Start a server:  env/bin/python -m aiosmtpd -n -l localhost:8025 -c aiosmtpd.handlers.Sink \
                     --tlscert cert.pem --tlskey key.pem
Start the swarm: SSL_CERT_FILE=cert.pem env/bin/locust -f examples/smtp.py
"""

from locust import constant, task

from locust_tcp import Connection, TcpUser

SENDER, RECIPIENT = "locust@example.com", "nobody@example.com"
MAIL = f"From: {SENDER}\r\nTo: {RECIPIENT}\r\nSubject: Load test\r\n\r\nHello\r\n."  # a dot on a line ends it


def code(connection: Connection) -> str:
    """Read a reply of one or more lines; return its code. A hyphen after the code means: more lines follow."""
    while (line := connection.read_until())[3:4] == b"-":
        pass
    return line[:3].decode()


class SmtpUser(TcpUser):
    host = "tcp://localhost:8025"
    eol = b"\r\n"
    wait_time = constant(0.1)

    def on_connect(self) -> None:
        self.client.receive(name="greeting", read=code, expect="220")
        self.say("EHLO locust.example.com", "EHLO", "250")
        self.say("STARTTLS", "STARTTLS", "220")
        self.client.start_tls(name="TLS handshake")
        self.say("EHLO locust.example.com", "EHLO with TLS", "250")

    @task
    def mail(self) -> None:
        with self.client.transaction("mail"):
            self.say(f"MAIL FROM:<{SENDER}>", "MAIL", "250")
            self.say(f"RCPT TO:<{RECIPIENT}>", "RCPT", "250")
            self.say("DATA", "DATA", "354")
            self.say(MAIL, "body", "250")

    def say(self, command: str, name: str, expected: str) -> None:
        """Send a command, and expect a code."""
        self.client.request(command, name=name, read=code, expect=expected)
