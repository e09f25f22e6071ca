"""Servers that tests start and end, each by its own id and in a folder of its own."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.processes import kill_tree


@contextmanager
def folder_of_a_service(prefix: str) -> Iterator[Path]:
    """Removed at the end. Its path is short: Unix sockets allow 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(
    command: Sequence[str],
    log: Path,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """The program runs inside, and is killed at the end with all that it has started; so it is if
    the tests are killed.

    log: file of what it says. user: whose it is, for a process of the administrator.
    """
    with log.open("ab") as stream:
        program = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            stdout=stream,
            stderr=stream,
            env=env,
            user=user,
            start_new_session=True,
        )
    try:
        yield program
    finally:
        if program.poll() is None:
            kill_tree(program)
