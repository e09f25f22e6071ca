"""PostgreSQL and MariaDB, each on a port and in a folder of its own."""

import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pymysql
import pytest

from tests.processes import free_ports
from tests.services.programs import folder_of_a_service, running

USER = "postgres"
"""Who runs the server for an administrator, whom it refuses; of the Debian package."""
PASSWORD = "hush"
"""In the URL; the server asks nobody for it."""
PATIENCE_SECONDS = 60


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL, as Optuna takes it, of an empty database that runs inside.

    Skips the test where the program is not installed.
    """
    programs = _programs()
    user = None if os.getuid() else USER
    with folder_of_a_service("studies-") as folder:
        if user:
            shutil.chown(folder, user)
        data, log = folder / "data", folder / "log"
        log.touch()
        subprocess.run(
            [programs / "initdb", "--no-sync", f"--username={USER}", "--auth=trust", data],
            check=True,
            capture_output=True,
            user=user,
        )
        (port,) = free_ports(1)
        command = [str(programs / "postgres"), "-D", str(data), "-h", "127.0.0.1"]
        command += ["-p", str(port), "-k", str(folder)]
        with running(command, log, user=user):
            _wait_for_an_answer(
                lambda: psycopg.connect(host="127.0.0.1", port=port, user=USER).close(), log
            )
            yield f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres"


def _programs() -> Path:
    """Folder of PostgreSQL's newest version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))
    if not found:
        pytest.skip("initdb: not installed; allowed: the Debian package postgresql")
    return found[-1].parent


@contextmanager
def mariadb() -> Iterator[str]:
    """As `postgresql`."""
    server = shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin")
    if server is None or shutil.which("my_print_defaults") is None:
        pytest.skip(
            "mariadbd: not installed; allowed: the Debian packages mariadb-server-core and "
            "mariadb-client-core"
        )
    with folder_of_a_service("studies-") as folder:
        log, user = folder / "log", getpass.getuser()
        log.touch()
        data = f"--datadir={folder / 'data'}"
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", data, f"--user={user}", "--skip-test-db"],
            check=True,
            capture_output=True,
        )
        (port,) = free_ports(1)
        command = [server, "--no-defaults", data, f"--user={user}", "--skip-grant-tables"]
        command += ["--bind-address=127.0.0.1", f"--port={port}", f"--socket={folder / 'socket'}"]
        with running(command, log):
            _wait_for_an_answer(lambda: _make_database(port), log)
            yield f"mysql+pymysql://{USER}:{PASSWORD}@127.0.0.1:{port}/studies"


def _make_database(port: int) -> None:
    with pymysql.connect(host="127.0.0.1", port=port, user=USER) as connection:
        connection.cursor().execute("create database studies")


def _wait_for_an_answer(ask: Callable[[], None], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except (psycopg.OperationalError, pymysql.OperationalError):
            assert time.monotonic() < deadline, log.read_text()[-5000:]
            time.sleep(0.1)
