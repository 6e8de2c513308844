"""examples/postgres.py on PostgreSQL: killed users log in again, and both sides' accounts agree."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import kit
from tests.examples.installed import installed
from tests.examples.swarms import CLOSED, USERS, swarm

EXAMPLE = "postgres.py"
USER = "tester"
PASSWORD = "sesame"
GUARDED = "guarded"  # a database that wants the password
OPEN = "postgres"  # one that wants none, which each server has from the beginning
ACCESS = f"host {OPEN} all 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 password\n"
KILLS = 2


class Postgres:
    """A running server.

    Attributes:
        port: Its port.
    """

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, query: str, database: str = OPEN) -> str:
        """Return the result of a query."""
        where = ("-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", database)
        command = (installed("psql"), "--no-psqlrc", "-At", *where, "-c", query)
        environment = os.environ | {"PGPASSWORD": PASSWORD}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def number(self, query: str, database: str = OPEN) -> int:
        """Return the result of a query, a number."""
        return int(self.ask(query, database))


@contextlib.contextmanager
def owned_folder(user: str | None) -> Iterator[Path]:
    """Make a folder with the password's file for the length of a with-block; pytest's are closed to other users."""
    with tempfile.TemporaryDirectory(prefix="locust-postgres-") as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        if user:
            shutil.chown(folder, user)
            shutil.chown(folder / "password", user)
        yield folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Run a server with data of its own. It refuses to run as root, but its package has made a user."""
    initdb, postgres = installed("initdb"), installed("postgres")
    user = "postgres" if os.geteuid() == 0 else None
    as_user = (installed("setpriv"), "--reuid", user, "--regid", user, "--init-groups") if user else ()
    logs = tmp_path_factory.mktemp("postgres")
    port = kit.free_port()
    with owned_folder(user) as folder:
        data = folder / "data"
        options = ("--no-sync", "--locale", "C", "--encoding", "UTF8", "--auth", "password")
        who = ("--username", USER, "--pwfile", folder / "password")
        command = (*as_user, initdb, *options, *who, "--pgdata", data)
        with kit.program(*command, output=logs / "initdb", cwd=folder) as making:
            assert making.ends() == 0, making.output
        (data / "pg_hba.conf").write_text(ACCESS)
        # Without autovacuum's statistics each SELECT by an id is a scan of the index, also in a small table.
        where = ("-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", "", "-F", "-c", "autovacuum=off")
        with kit.program(*as_user, postgres, *where, output=logs / "server", cwd=folder) as running:
            running.says("ready to accept connections")
            made = Postgres(port)
            try:
                made.ask(f"CREATE DATABASE {GUARDED}")
                yield made
            finally:
                running.stop(signal.SIGINT)  # closes all connections and frees its shared memory


def settings(database: str, password: str = PASSWORD) -> dict[str, str]:
    """Return the environment of a swarm."""
    return {"PGUSER": USER, "PGDATABASE": database, "PGPASSWORD": password}


def test_killed_users_log_in_again_and_both_sides_accounts_agree(server: Postgres, tmp_path: Path) -> None:
    sessions = f"FROM pg_stat_activity WHERE datname = '{GUARDED}'"
    statistics = f"FROM pg_stat_database WHERE datname = '{GUARDED}'"

    def await_users() -> None:
        """Wait until all users have logged in, and a hundred queries more are done."""
        working = f"SELECT count(*) {sessions} AND query ~ '^(INSERT|SELECT name)'"
        kit.eventually(lambda: server.number(working) == USERS)
        commits = f"SELECT xact_commit {statistics}"
        enough = server.number(commits) + 100
        kit.eventually(lambda: server.number(commits) >= enough)

    with swarm(EXAMPLE, port=server.port, folder=tmp_path, **settings(GUARDED)) as locust:
        for _ in range(KILLS):
            await_users()
            assert server.number(f"SELECT count(pg_terminate_backend(pid)) {sessions}") == USERS
        await_users()
        locust.stop()
    kit.eventually(lambda: server.number(f"SELECT count(*) {sessions}") == 0)
    begun = server.number(f"SELECT sessions {statistics}")
    killed = server.number(f"SELECT sessions_killed {statistics}")
    selects = server.number("SELECT idx_scan FROM pg_stat_user_tables WHERE relname = 'visits'", GUARDED)
    visits = server.number("SELECT count(*) FROM visits", GUARDED)

    requests, failed = locust.requests(), locust.failed()
    for name in ("connect", "startup", "password", "CREATE TABLE"):
        assert requests[name] == begun == (KILLS + 1) * USERS
    assert failed["INSERT"] + failed["SELECT"] == failed.total() == killed == KILLS * USERS
    # The server says that it ends a connection: as its answer to a query, or unasked between two.
    assert locust.texts() <= CLOSED | {"reply: 57P01", "reply: more than was asked for"}
    assert all("terminating connection" in exception for exception in locust.exceptions())
    for name, executed in (("INSERT", visits), ("SELECT", selects)):
        assert requests[name] - failed[name] <= executed <= requests[name]


def test_a_login_without_a_password(server: Postgres, tmp_path: Path) -> None:
    table = "SELECT to_regclass('visits') IS NOT NULL"
    with swarm(EXAMPLE, port=server.port, folder=tmp_path, **settings(OPEN)) as locust:
        kit.eventually(lambda: server.ask(table) == "t")
        kit.eventually(lambda: server.number("SELECT count(*) FROM visits") > 50)
        locust.stop()
    requests = locust.requests()
    assert "password" not in requests
    assert not locust.failed()
    assert requests["startup"] == requests["CREATE TABLE"] == USERS
    assert requests["INSERT"] == requests["SELECT"] == server.number("SELECT count(*) FROM visits")


def test_a_wrong_password_ends_the_login(server: Postgres, tmp_path: Path) -> None:
    with swarm(EXAMPLE, port=server.port, folder=tmp_path, **settings(GUARDED, "wrong")) as locust:
        kit.eventually(lambda: locust.counted("password") > USERS)
        locust.stop()
    requests = locust.requests()
    assert set(requests) == {"connect", "startup", "password", "Aggregated"}
    assert locust.failed() == {"password": requests["password"]}
    assert locust.texts() == {"reply: 28P01"}
    assert locust.exceptions() == []
