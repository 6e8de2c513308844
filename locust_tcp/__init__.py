"""Raw TCP for Locust: a user whose client times each exchange and fires Locust's `request` event."""

from locust import events

from locust_tcp import patches
from locust_tcp.metrics import thresholds
from locust_tcp.pacing import on_schedule
from locust_tcp.patches.page import serve_unrounded
from locust_tcp.service import start_service
from locust_tcp.transport.connection import Connection
from locust_tcp.transport.errors import TcpError
from locust_tcp.user import TcpClient, TcpUser
from locust_tcp.web.form import ca_file, number

__all__ = [
    "Connection",
    "TcpClient",
    "TcpError",
    "TcpUser",
    "ca_file",
    "number",
    "on_schedule",
    "start_service",
    "thresholds",
]

patches.apply_all()
events.init.add_listener(patches.warn_of_lost)
events.init.add_listener(serve_unrounded)
