"""Syslog over TCP (RFC 6587): messages that are not answered, a line each.

Locust counts what it has sent; only the server knows what has arrived. There are no response times.

Start a server:  echo 'module(load="imtcp") input(type="imtcp" port="5140")
                     action(type="omfile" file="/dev/stdout")' | rsyslogd -n -i NONE -f /dev/stdin
Start the swarm: env/bin/locust -f examples/syslog_tcp.py
"""

import random
import time

from locust import constant, task

from locust_tcp import TcpUser

PRIORITY = 16 * 8 + 6  # of the facility local0, for information


class SyslogUser(TcpUser):
    host = "tcp://localhost:5140"
    wait_time = constant(0.1)

    @task
    def log(self) -> None:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.client.send(f"<{PRIORITY}>1 {when} localhost locust - - - visitor {random.randrange(1000)}", name="log")
