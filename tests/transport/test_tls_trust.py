"""transport/tls.py and stream.py: which services are trusted."""

import pytest

from tests import peers
from tests.certificates import Certificates
from tests.tls_end import inside, service
from tests.transport.exchanges import exchange, fails, opened

CERTIFICATES = [
    ("good", "localhost", None),
    ("good", "127.0.0.1", None),
    ("dns_only", "localhost", None),
    ("dns_only", "127.0.0.1", "connect: certificate for another name"),
    ("other_name", "localhost", "connect: certificate for another name"),
    ("other_name", "127.0.0.1", "connect: certificate for another name"),
    ("expired", "localhost", "connect: certificate not trusted"),
    ("foreign", "localhost", "connect: certificate not trusted"),
]


@pytest.mark.parametrize(("cert", "name", "failure"), CERTIFICATES)
def test_a_certificate_has_to_be_trusted_and_for_the_name(
    files: Certificates, cert: str, name: str, failure: str | None
) -> None:
    context = service(getattr(files, cert))
    with peers.peer(inside(context, peers.answering(b"HELLO\n"))) as port:
        if failure is None:
            connection = opened(f"tls://{name}:{port}", files.ca)
            assert exchange(connection) == b"HELLO\n"
            assert connection.connected.seconds > 0
            connection.close()
        else:
            with fails(f"{failure}"):
                opened(f"tls://{name}:{port}", files.ca)


@pytest.mark.parametrize(("cert", "name"), [(cert, name) for cert, name, _ in CERTIFICATES])
def test_without_verification_any_certificate_will_do(files: Certificates, cert: str, name: str) -> None:
    with peers.peer(inside(service(getattr(files, cert)), peers.answering(b"HELLO\n"))) as port:
        connection = opened(f"tls://{name}:{port}", verify=False)
        assert exchange(connection) == b"HELLO\n"
        connection.close()


def test_without_a_ca_file_only_the_systems_authorities_are_trusted(files: Certificates) -> None:
    with peers.peer(inside(service(files.good), peers.mute)) as port, fails("connect: certificate not trusted"):
        opened(f"tls://localhost:{port}")
