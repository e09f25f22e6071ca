import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
import ray

from cluster import connect as connecting
from cluster.connect import connect
from cluster.errors import ConfigError
from tests.cluster import toy_job
from tests.processes import free_ports, wait_until

ROOT = Path(__file__).parents[2]


@pytest.mark.usefixtures("local_ray")
def test_connecting_within_a_connection_changes_nothing() -> None:
    node = ray.get_runtime_context().get_node_id()
    with connect(cpus=1):
        assert ray.get_runtime_context().get_node_id() == node
    assert ray.is_initialized()


@pytest.mark.ray
def test_a_job_runs_from_any_folder(tmp_path: Path) -> None:
    """Its workers find the project, and a relative storage root is the driver's, not theirs."""
    command = [sys.executable, toy_job.__file__, "--storage", "runs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["artifact"]).parent == tmp_path / "runs" / "factors"


def toy(storage: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.cluster.toy_job", "--storage", str(storage), *arguments]
    settings = os.environ | environment
    return subprocess.run(
        command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=300
    )


def test_an_address_where_nobody_listens_is_one_line(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    ended = toy(tmp_path, RAY_ADDRESS=address)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert ended.stderr.startswith(f"error: RAY_ADDRESS: '{address}' does not answer (")


def test_a_server_that_is_no_ray_is_one_line(tmp_path: Path) -> None:
    """It takes the connection and says nothing; the bound is lower than that of jobs."""
    run = """if True:
        import sys
        from cluster import connect, job
        from tests.cluster.toy_job import ToyConfig, toy
        connect.START_SECONDS = 2
        sys.argv = ["toy", "--storage", sys.argv[1]]
        job.run_job(ToyConfig, toy)"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        ended = subprocess.run(
            [sys.executable, "-c", run, str(tmp_path)],
            cwd=ROOT,
            env=os.environ | {"RAY_ADDRESS": address},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert ended.stderr.startswith(f"error: RAY_ADDRESS: '{address}': ")


def test_a_long_folder_for_temporary_files_is_one_line(tmp_path: Path) -> None:
    ended = toy(tmp_path, RAY_TMPDIR=f"/tmp/{'x' * 90}")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert "is too long for Ray's sockets; allowed: at most " in ended.stderr


def test_a_ray_that_cannot_start_is_one_line(tmp_path: Path) -> None:
    """Here since its folder is below a file; tests that start none rely on it."""
    ended = toy(tmp_path, RAY_TMPDIR=str(Path(__file__)))
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert ended.stderr.startswith("error: RAY_TMPDIR: ")


def test_rays_folder_is_its_users_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setenv("RAY_TMPDIR", short)
        _check_own_folder(Path(short))


def _check_own_folder(base: Path) -> None:
    folder = Path(connecting._own_folder())
    assert folder.parent == base
    folder.chmod(0o777)  # as Ray makes its own
    assert connecting._own_folder() == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    folder.symlink_to("/tmp")
    with pytest.raises(ConfigError, match=r"^RAY_TMPDIR: .* is of another user"):
        connecting._own_folder()


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_job_ends_with_one_line_and_all_its_processes(
    tmp_path: Path, number: signal.Signals
) -> None:
    said = tmp_path / "stderr.txt"
    command = [sys.executable, "-m", "tests.cluster.toy_job", "--storage", str(tmp_path)]
    with said.open("w") as stderr:
        job = subprocess.Popen([*command, "--rows", "1000000"], cwd=ROOT, stderr=stderr)
    wait_until(lambda: "toys: 1/" in said.read_text(), job)
    started = psutil.Process(job.pid).children(recursive=True)
    before = said.read_text()
    job.send_signal(number)
    assert job.wait(timeout=60) == 128 + number
    lines = said.read_text().removeprefix(before).splitlines()
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert [line for line in lines if not line.startswith("toys: ")] == [
        f"error: stopped by {name}; run again, it goes on from what is done"
    ]
    assert started
    assert not psutil.wait_procs(started, timeout=60)[1], "processes of Ray are left"
