"""SIGKILLs to a job and its workers, at moments that a seed draws, until it has ended well."""

import contextlib
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import psutil

from tests.processes import PATIENCE_SECONDS

DRIVER = "driver"


@dataclass(frozen=True)
class Fire:
    """Who is killed, and how often: the driver, and workers by the titles that Ray gives them."""

    kills: int
    workers: Mapping[str, str]
    """Pattern of the title, at its end or in it, by the name that it is counted under."""
    longest_wait: float
    """Seconds before a kill in which workers are at work."""
    rng: np.random.Generator
    killed: Counter[str] = field(default_factory=Counter)

    def run(self, command: Sequence[str]) -> None:
        """Runs a job again and again until it has ended well."""
        deadline = time.monotonic() + 4 * PATIENCE_SECONDS
        driver = _started(command)
        while driver.poll() != 0:
            assert time.monotonic() < deadline, f"no end in sight after {self.killed}"
            if driver.returncode is not None:
                assert driver.returncode == -signal.SIGKILL
                driver = _started(command)
            elif self.killed.total() < self.kills and self._at_work(driver):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    driver.wait(self.rng.uniform(0, self.longest_wait))
                with contextlib.suppress(psutil.NoSuchProcess):  # the job has ended
                    self._kill_someone(driver)
            else:
                time.sleep(0.2)

    def _at_work(self, driver: subprocess.Popen[bytes]) -> dict[str, psutil.Process]:
        """One worker of each kind."""
        present: dict[str, psutil.Process] = {}
        with contextlib.suppress(psutil.NoSuchProcess):  # the job has ended
            for process in psutil.Process(driver.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    title = " ".join(process.cmdline()).strip()
                    present |= {n: process for n, p in self.workers.items() if re.search(p, title)}
        return present

    def _kill_someone(self, driver: subprocess.Popen[bytes]) -> None:
        """One of those killed least often so far, if any worker is there.

        The driver half as often as a worker, for all of the job starts again with it.
        """
        present = self._at_work(driver)
        if not present:
            return
        present[DRIVER] = psutil.Process(driver.pid)
        times = {name: self.killed[name] * (2 if name == DRIVER else 1) for name in present}
        least = min(times.values())
        victim = str(self.rng.choice(sorted(n for n in times if times[n] == least)))
        present[victim].send_signal(signal.SIGKILL)
        self.killed[victim] += 1


def _started(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
