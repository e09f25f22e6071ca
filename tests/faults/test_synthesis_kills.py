"""Synthesis that is killed again and again ends with the bytes of a run that was not."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest

from actors.writer import WriterConfig
from cluster.artifacts import Artifact, open_artifact
from jobs.synthesize import SynthesizeConfig, synthesize
from tests.processes import PATIENCE_SECONDS

KILLS, SEED = 20, 2026
PER_CLASS = 20
VICTIMS = ("GrammarWriter", "Acceptance", "Counted", "driver")
"""Stages by their workers' titles (caption engine, acceptance, painters), and the job."""
LONGEST_WAIT = 30.0
"""Seconds to the next kill; a driver takes half of it to start."""


def start(storage: Path, table: Artifact) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jobs.synthesize", "--storage", str(storage)]
    command += ["--factors", table.uri, f"--writer.per_class={PER_CLASS}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill(victim: str, driver: subprocess.Popen[bytes]) -> bool:
    """SIGKILL; False if there is no such process now."""
    processes = [psutil.Process(driver.pid)]
    if victim != "driver":
        found = processes[0].children(recursive=True)
        processes = [p for p in found if f"MapBatches({victim})" in " ".join(p.cmdline())]
    if not processes:
        return False
    processes[-1].send_signal(signal.SIGKILL)
    return True


def test_twenty_random_kills_change_nothing(
    table: Artifact, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(SEED)
    killed: Counter[str] = Counter()
    deadline = time.monotonic() + 5 * PATIENCE_SECONDS
    driver = start(tmp_path, table)
    while killed.total() < KILLS:
        assert time.monotonic() < deadline, f"only {killed}"
        time.sleep(rng.uniform(0, LONGEST_WAIT))
        if driver.poll() is not None:
            assert driver.returncode in (0, -signal.SIGKILL)
            if list(tmp_path.glob("images/*/manifest.json")):
                break  # all is made; fewer kills than wished for
            driver = start(tmp_path, table)
            continue
        victim = VICTIMS[rng.integers(len(VICTIMS))]
        try:
            killed[victim] += kill(victim, driver)
        except psutil.NoSuchProcess:
            continue
    driver.wait(PATIENCE_SECONDS)
    assert start(tmp_path, table).wait(PATIENCE_SECONDS) == 0
    print(f"killed: {dict(killed)}")
    assert killed.total() > KILLS // 2

    unbroken = synthesize(
        SynthesizeConfig(
            storage=str(tmp_path_factory.mktemp("unbroken")),
            factors=table.uri,
            writer=WriterConfig(per_class=PER_CLASS),
        )
    )
    (made,) = (open_artifact(os.fspath(path), "images") for path in tmp_path.glob("images/*"))
    assert made.read_table("rows").equals(unbroken.read_table("rows"))
    assert made.manifest.rows == unbroken.manifest.rows
