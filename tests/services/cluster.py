"""Three Ray nodes that share no disk: each has a /tmp, a home and a cache of its own."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.processes import free_ports, kill_tree
from tests.services.programs import folder_of_a_service, running

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
HEAD = "127.0.0.2"
"""Address; Ray would take 127.0.0.1 for the machine's own in its network."""
NODE_CPUS = 4
"""Logical ones, of a node for workers; the head has none, so that all work is on the others."""
OWN_DISK = """
set -e
mkdir -p "$DISK/home"
if [ -n "$INSIDE" ]; then
    mkdir -p "$DISK/$INSIDE"
    mount --bind "/tmp/$INSIDE" "$DISK/$INSIDE"
fi
mount --rbind "$DISK" /tmp
cd /tmp/home
exec "$@"
"""
"""A shell's: /tmp is a folder of this node (DISK), in which nothing of the others is; but the
installed programs, if they are inside of /tmp."""
UNSHARE = [
    *("unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"),
    *(["--map-root-user"] if os.getuid() else []),
]
"""Begins a command whose mounts nobody else sees, and with which all that it has started ends."""
PATIENCE_SECONDS = 120


@dataclass
class Cluster:
    """A head without CPUs and nodes for workers, each a tree of processes."""

    folder: Path
    env: Mapping[str, str]
    """Of the nodes."""
    gcs: int
    dashboard: int
    services: ExitStack
    """Ends the nodes."""
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    """By address, the head's first."""

    def add_node(self) -> str:
        """Starts a node for workers; returns its address."""
        address = f"127.0.0.{len(self.nodes) + 2}"
        self._start(address, [f"--address={HEAD}:{self.gcs}", f"--num-cpus={NODE_CPUS}"])
        return address

    def start_head(self) -> None:
        (client,) = free_ports(1)
        options = [f"--port={self.gcs}", f"--dashboard-port={self.dashboard}", "--num-cpus=0"]
        options += [f"--ray-client-server-port={client}", "--head"]
        self._start(HEAD, options)

    def kill_node(self, address: str) -> None:
        """As if its power was cut."""
        kill_tree(self.nodes[address])

    def titles(self, address: str) -> dict[int, str]:
        """Titles of a node's processes, as Ray gives them to workers, by id."""
        titles = {}
        for process in psutil.Process(self.nodes[address].pid).children(recursive=True):
            try:
                titles[process.pid] = " ".join(process.cmdline()).strip()
            except psutil.NoSuchProcess:
                continue
        return titles

    def workers(self) -> list[str]:
        """Addresses of the nodes for workers that run."""
        return [a for a, node in self.nodes.items() if a != HEAD and node.poll() is None]

    def caches(self) -> dict[str, list[str]]:
        """Names of what each node keeps, by address."""
        homes = {address: self.folder / address / "home" for address in self.nodes}
        return {a: [p.name for p in h.glob(".cache/imagine-beyond/*")] for a, h in homes.items()}

    def submit(self, module: str, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """`ray job submit` of a module of this checkout; the client, which ends as the job does.

        log: file to which what both say is appended.
        """
        command = [
            str(BIN / "ray"),
            "job",
            "submit",
            f"--address=http://127.0.0.1:{self.dashboard}",
        ]
        command += ["--working-dir", ".", "--"]
        command += ["python", "-m", module, *arguments]
        env = {**os.environ, **self.env}
        with log.open("a") as stream:
            return subprocess.Popen(command, cwd=ROOT, env=env, stdout=stream, stderr=stream)

    def _start(self, address: str, options: list[str]) -> None:
        disk = self.folder / address
        disk.mkdir()
        agent, runtime_env, metrics = free_ports(3)
        command = [str(BIN / "ray"), "start", "--block", "--disable-usage-stats", *options]
        command += [f"--node-ip-address={address}", "--object-store-memory=200000000"]
        command += [f"--dashboard-agent-listen-port={agent}", "--min-worker-port=0"]
        command += [f"--runtime-env-agent-port={runtime_env}", "--max-worker-port=0"]
        command += [f"--metrics-export-port={metrics}", "--temp-dir=/tmp/ray"]
        inside = sys.prefix.removeprefix("/tmp/") if sys.prefix.startswith("/tmp/") else ""
        env = {"DISK": str(disk), "INSIDE": inside}
        self.nodes[address] = self.services.enter_context(
            running(
                [*UNSHARE, "sh", "-c", OWN_DISK, "sh", *command],
                self.folder / f"{address}.log",
                env={**self.env, **env},
            )
        )


@contextmanager
def cluster(env: Mapping[str, str]) -> Iterator[Cluster]:
    """A head and two nodes for workers run inside.

    env: what all nodes have in their environment besides. Skips the test where a process cannot
    have mounts of its own.
    """
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"unshare --mount: {tried.stderr.strip()}; allowed: mounts of one's own")
    names = ("RAY_", "XDG_", "PYTHONPATH", "TMPDIR")
    nodes_env = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    nodes_env |= {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": "/tmp/home", **env}
    nodes_env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with folder_of_a_service("nodes-") as folder, ExitStack() as services:
        gcs, dashboard = free_ports(2)
        here = Cluster(folder, nodes_env, gcs, dashboard, services)
        here.start_head()
        _wait_until_jobs_are_served(here)
        here.add_node()
        here.add_node()
        yield here


def _wait_until_jobs_are_served(here: Cluster) -> None:
    listing = [str(BIN / "ray"), "job", "list", f"--address=http://127.0.0.1:{here.dashboard}"]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while subprocess.run(listing, env=dict(here.env), capture_output=True).returncode:
        log = (here.folder / f"{HEAD}.log").read_text()
        assert here.nodes[HEAD].poll() is None, log
        assert time.monotonic() < deadline, log
