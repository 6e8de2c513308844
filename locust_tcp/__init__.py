"""Raw TCP for Locust: a user whose client times each exchange and fires Locust's `request` event."""

from locust_tcp import promises, reports
from locust_tcp.connection import Connection, TcpError
from locust_tcp.form import ca_file, number
from locust_tcp.schedule import on_schedule
from locust_tcp.service import start_service
from locust_tcp.user import TcpClient, TcpUser

__all__ = [
    "Connection",
    "TcpClient",
    "TcpError",
    "TcpUser",
    "ca_file",
    "number",
    "on_schedule",
    "promises",
    "reports",
    "start_service",
]
