"""Raw TCP for Locust: a user whose client times each exchange and fires the `request` event."""

from locust_tcp import plugin
from locust_tcp.client import TcpClient
from locust_tcp.pacing import on_schedule
from locust_tcp.service import start_service
from locust_tcp.transport.connection import Connection
from locust_tcp.transport.errors import ServiceError, TcpError
from locust_tcp.user import TcpUser
from locust_tcp.web.form import ca_file, number, tls_file

__all__ = [
    "Connection",
    "ServiceError",
    "TcpClient",
    "TcpError",
    "TcpUser",
    "ca_file",
    "number",
    "on_schedule",
    "start_service",
    "tls_file",
]

plugin.install()
