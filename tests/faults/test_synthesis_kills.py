"""Synthesis that is killed again and again ends with the bytes of a run that was not."""

import contextlib
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest

from actors.synthesis.captions.writer import WriterConfig
from cluster.artifacts import Artifact, open_artifact
from jobs.synthesize import SynthesizeConfig, synthesize
from tests.processes import PATIENCE_SECONDS

pytestmark = pytest.mark.ray
KILLS, SEED = 20, 2026
PER_CLASS = 30
STAGES = ("GrammarWriter", "Acceptance", "Counted")
"""Of Ray Data, by their workers' titles: caption engine, acceptance, painters."""
LONGEST_WAIT = 20.0
"""Seconds before a kill in which stages are at work; one that was killed needs half of it to start
again."""


def start(storage: Path, table: Artifact) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jobs.synthesize", "--storage", str(storage)]
    command += ["--factors", table.uri, f"--writer.per_class={PER_CLASS}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def stages(driver: subprocess.Popen[bytes]) -> dict[str, psutil.Process]:
    """A worker of each stage that is at work."""
    present: dict[str, psutil.Process] = {}
    with contextlib.suppress(psutil.NoSuchProcess):  # the job has ended
        for process in psutil.Process(driver.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                title = " ".join(process.cmdline())
                present |= {stage: process for stage in STAGES if f"MapBatches({stage})" in title}
    return present


def kill_someone(
    driver: subprocess.Popen[bytes], rng: np.random.Generator, killed: Counter[str]
) -> str:
    """SIGKILL to the job or to a worker of one of its stages, of those killed least often so far;
    "" while there are none."""
    present = stages(driver)
    if not present:
        return ""
    present["driver"] = psutil.Process(driver.pid)
    least = min(killed[name] for name in present)
    victim = str(rng.choice(sorted(name for name in present if killed[name] == least)))
    present[victim].send_signal(signal.SIGKILL)
    return victim


def synthesize_under_fire(
    storage: Path, table: Artifact, rng: np.random.Generator, killed: Counter[str]
) -> None:
    """Runs the job again and again until it has ended well, and counts the kills by victim."""
    deadline = time.monotonic() + 4 * PATIENCE_SECONDS
    driver = start(storage, table)
    while driver.poll() != 0:
        assert time.monotonic() < deadline, f"no end in sight after {killed}"
        if driver.returncode is not None:
            assert driver.returncode == -signal.SIGKILL
            driver = start(storage, table)
        elif killed.total() < KILLS and stages(driver):
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.wait(rng.uniform(0, LONGEST_WAIT))
            with contextlib.suppress(psutil.NoSuchProcess):
                if victim := kill_someone(driver, rng, killed):
                    killed[victim] += 1
        else:
            time.sleep(1)


def test_random_kills_change_nothing(
    table: Artifact, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    unbroken = synthesize(
        SynthesizeConfig(
            storage=str(tmp_path / "unbroken"),
            factors=table.uri,
            writer=WriterConfig(per_class=PER_CLASS),
        )
    )
    rng = np.random.default_rng(SEED)
    killed: Counter[str] = Counter()
    while killed.total() < KILLS:
        storage = tmp_path_factory.mktemp("killed")
        synthesize_under_fire(storage, table, rng, killed)
        (folder,) = storage.glob("images/*")
        made = open_artifact(str(folder), "images")
        assert made.read_table("rows").equals(unbroken.read_table("rows"))
        assert made.manifest.rows == unbroken.manifest.rows
    print(f"killed: {dict(killed)}")
    assert killed["driver"] * killed["Counted"] > 0
