"""Drivers that tests start in processes of their own, and kill."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

import psutil

PATIENCE_SECONDS = 300


def wait_until(ready: Callable[[], Any], driver: subprocess.Popen[Any]) -> None:
    """Returns once `ready` is true; fails if the driver ends first or nothing happens."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not ready():
        assert time.monotonic() < deadline, "nothing happened"
        assert driver.poll() is None, "the run was over before it could be disturbed"
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


def kill_worker(driver: subprocess.Popen[Any], *titles: str) -> None:
    """SIGKILL to one of the driver's Ray workers, by the title that Ray gives the process."""
    workers = workers_of(driver, *titles)
    assert workers, "no worker is there"
    workers[-1].kill()


def workers_of(driver: subprocess.Popen[Any], *titles: str) -> list[psutil.Process]:
    """The driver's Ray workers with one of these titles."""
    workers = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # gone, or a zombie
            if " ".join(process.cmdline()).strip() in titles:
                workers.append(process)
    return workers


def kill_tree(process: subprocess.Popen[Any]) -> None:
    """SIGKILL to a process and to all that it has started."""
    root = psutil.Process(process.pid)
    tree = [root, *root.children(recursive=True)]
    for member in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(tree, timeout=60)
