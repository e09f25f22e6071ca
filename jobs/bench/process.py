"""What a process takes, with all that it starts: for measurements of whole jobs."""

import subprocess
import sys
import time
from dataclasses import dataclass

import psutil

SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class Taken:
    """What a module, run as a process of its own, took and said."""

    seconds: float
    cpu_seconds: float
    """User and system time of all its processes, of each as last seen: up to half a second of one
    that ended is missing."""
    peak_bytes: int
    """Proportional set size, the sum over all its processes, at its largest."""
    first_bytes: int
    """The same of the first process alone."""
    stdout: bytes


def run_module(module: str, *arguments: str) -> Taken:
    """`python -m module arguments`, watched. RuntimeError with its last words if it fails."""
    started = time.monotonic()
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    cpu: dict[int, float] = {}
    peak, first = 0, 0
    while True:
        sizes = _look(process.pid, cpu)
        peak, first = max(peak, sum(sizes)), max(first, sizes[0])
        try:
            stdout, stderr = process.communicate(timeout=SECONDS_BETWEEN_LOOKS)
            break
        except subprocess.TimeoutExpired:
            continue
    seconds = time.monotonic() - started
    if process.returncode:
        last = stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"{module} ended with exit code {process.returncode}: {' '.join(last)}")
    return Taken(seconds, sum(cpu.values()), peak, first, stdout)


def _look(pid: int, cpu: dict[int, float]) -> list[int]:
    """Bytes of a process and of all that it has started, 0 for one that is gone meanwhile; notes
    their CPU seconds."""
    sizes = [0]
    try:
        root = psutil.Process(pid)
        for i, process in enumerate([root, *root.children(recursive=True)]):
            size = 0
            try:
                times = process.cpu_times()
                cpu[process.pid] = times.user + times.system
                size = process.memory_full_info().pss
            except psutil.Error:
                pass
            sizes[i:] = [size]
    except psutil.Error:
        pass
    return sizes
