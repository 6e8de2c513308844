"""PostgreSQL: a login on each new connection, then INSERT and SELECT with their replies checked.

The login is with a password in clear text, or without one (`trust`).

Start a server:  docker run --rm -p 5432:5432 -e POSTGRES_USER=locust -e POSTGRES_PASSWORD=secret \
                     -e POSTGRES_HOST_AUTH_METHOD=password postgres
Start the swarm: env/bin/locust -f examples/postgres.py
"""

import os
import random
import struct

from locust import constant, task

from locust_tcp import Connection, ServiceError, TcpUser

USER = os.environ.get("PGUSER", "locust")
PASSWORD = os.environ.get("PGPASSWORD", "secret")
DATABASE = os.environ.get("PGDATABASE", USER)
# Two connections that create the table at the same time would fail; so one waits for the other's lock.
TABLE = "SELECT pg_advisory_xact_lock(1); CREATE TABLE IF NOT EXISTS visits (id serial PRIMARY KEY, name text)"

Messages = list[tuple[bytes, bytes]]  # of each the type and the body


def message(kind: bytes, body: bytes) -> bytes:
    """Return a message, as PostgreSQL's protocol has it."""
    return kind + struct.pack("!I", len(body) + 4) + body


def query(sql: str) -> bytes:
    """Return the message for a simple query."""
    return message(b"Q", sql.encode() + b"\0")


def answer(connection: Connection) -> Messages:
    """Read messages until the server waits for the next query, or for a password."""
    messages = []
    while True:
        kind, length = struct.unpack("!cI", connection.read_exactly(5))
        body = connection.read_exactly(length - 4)
        if kind == b"E":  # ErrorResponse: fields, each with its type as the first byte; C is the code
            fields = {field[:1]: field[1:].decode() for field in body.split(b"\0")}
            raise ServiceError(fields[b"C"])
        messages.append((kind, body))
        if kind == b"Z" or (kind == b"R" and body != bytes(4)):  # ReadyForQuery, or a request for a password
            return messages


def column(messages: Messages) -> str:
    """Return the first column of the only row."""
    (row,) = [body for kind, body in messages if kind == b"D"]
    (length,) = struct.unpack_from("!i", row, 2)
    return row[6 : 6 + length].decode()


class PostgresUser(TcpUser):
    host = "tcp://localhost:5432"
    wait_time = constant(0.1)

    def on_connect(self) -> None:
        start = struct.pack("!HH", 3, 0) + f"user\0{USER}\0database\0{DATABASE}\0\0".encode()
        kind, _ = self.client.request(message(b"", start), name="startup", read=answer)[-1]
        if kind == b"R":
            self.client.request(message(b"p", PASSWORD.encode() + b"\0"), name="password", read=answer)
        self.client.request(query(TABLE), name="CREATE TABLE", read=answer)

    @task
    def insert_and_select(self) -> None:
        name = f"visitor {random.randrange(1000)}"
        insert = f"INSERT INTO visits (name) VALUES ('{name}') RETURNING id"
        inserted = self.client.request(query(insert), name="INSERT", read=answer)
        if inserted:
            select = f"SELECT name FROM visits WHERE id = {column(inserted)}"
            self.client.request(query(select), name="SELECT", read=answer, expect=lambda found: column(found) == name)
