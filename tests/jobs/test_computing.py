"""The line at the start of a job that says which arithmetic and kernels run."""

import pytest

from cluster.pool import Pool
from jobs.computing import say_computing
from models.precision import computing_on


def test_on_a_ray_of_its_own_the_workers_cpu_is_the_jobs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say_computing("encode", ["auto"], Pool())
    assert capsys.readouterr().err == f"encode: {computing_on('cpu', ['auto'])}\n"


def test_on_a_cluster_a_worker_is_asked(
    local_ray: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    say_computing("encode", ["fp32", "auto"], Pool())
    assert capsys.readouterr().err == f"encode: {computing_on('cpu', ['auto', 'fp32'])}\n"
