"""Readers in forked children: each input alone, with limits on time and memory."""

import faulthandler
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from cluster.errors import ConfigError, printed

Kind = Literal["answer", "refusal", "trace", "message", "noise", "crash", "hang", "memory"]
GOOD: tuple[Kind, ...] = ("answer", "refusal")
LONGEST_MESSAGE = 2000
"""Characters of a line that anybody reads."""
SECONDS_BETWEEN_LOOKS = 0.005


@dataclass(frozen=True)
class Reader:
    """What reads foreign bytes, as a job does."""

    inputs: list[bytes]
    """Good ones."""
    read: Callable[[bytes, Path], object]
    """Reads the bytes, which may be put into a folder, empty at the start."""
    refusals: tuple[type[Exception], ...] = (ConfigError,)
    """What it raises, by its documentation, on what it does not take; no class below these."""


@dataclass(frozen=True)
class Limits:
    """What a child may take."""

    seconds: int = 10
    """Of processor time."""
    waiting_seconds: float = 60
    """By the clock: more, for the machine may be loaded."""
    memory: int = 2 << 30
    """Bytes in memory beyond those at the start."""


@dataclass(frozen=True)
class Case:
    """One input of one reader."""

    reader: str
    number: int
    mutation: str
    data: bytes


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    case: Case
    kind: Kind
    message: str
    """Of a refusal or fault; of a trace its last lines."""
    seconds: float
    """Processor time."""
    memory: int
    """Bytes at most, beyond those at the start."""

    @property
    def is_fault(self) -> bool:
        return self.kind not in GOOD


@dataclass
class _Child:
    case: Case
    pid: int
    folder: Path
    started: float
    killed: Kind | None = None

    def growth(self, memory: int) -> int:
        """Bytes beyond those that it said it began with."""
        start = self.folder / "start"
        return max(0, memory - int(start.read_text() or memory)) if start.exists() else 0


def outcomes(
    cases: Iterable[Case], readers: dict[str, Reader], folder: Path, limits: Limits, at_once: int
) -> Iterator[Outcome]:
    """The outcome of each case, as they end; `at_once` are read side by side.

    folder: for what children write, removed as they end. Nothing here may have threads.
    """
    running: list[_Child] = []
    try:
        for case in cases:
            running.append(_forked(case, readers[case.reader], folder, limits))
            while len(running) >= at_once:
                yield from _ended(running, limits)
        while running:
            yield from _ended(running, limits)
    finally:
        for child in running:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)


def _forked(case: Case, reader: Reader, folder: Path, limits: Limits) -> _Child:
    place = folder / f"{case.reader}-{case.number}"
    (place / "work").mkdir(parents=True)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        _read(case, reader, place, limits)
    return _Child(case, pid, place, time.monotonic())


def _memory(pid: int, field: int = 1) -> int:
    """Bytes of a process that are in memory; field 0: all that it has asked for."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[field])
    except (OSError, IndexError):  # it has just ended
        return 0
    return pages * resource.getpagesize()


def _ended(running: list[_Child], limits: Limits) -> Iterator[Outcome]:
    """Ends what is over its limits, and yields the outcomes of those that have ended."""
    time.sleep(SECONDS_BETWEEN_LOOKS)
    for child in list(running):
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            running.remove(child)
            yield _outcome(child, status, usage, limits)
        elif child.growth(_memory(child.pid)) > limits.memory:
            _kill(child, "memory")
        elif time.monotonic() - child.started > limits.waiting_seconds:
            _kill(child, "hang")


def _kill(child: _Child, why: Kind) -> None:
    child.killed = child.killed or why
    os.kill(child.pid, signal.SIGKILL)


def _outcome(child: _Child, status: int, usage: resource.struct_rusage, limits: Limits) -> Outcome:
    seconds = usage.ru_utime + usage.ru_stime
    memory = child.growth(1024 * usage.ru_maxrss)
    kind, message = _verdict(child, status)
    if memory > limits.memory:
        kind, message = "memory", f"{memory / 2**30:.1f} GB; {message}"
    shutil.rmtree(child.folder, ignore_errors=True)
    return Outcome(child.case, kind, message, seconds, memory)


def _verdict(child: _Child, status: int) -> tuple[Kind, str]:
    if child.killed:
        return child.killed, "ended from outside"
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU:
        return "hang", "its processor time was used up"
    text = (child.folder / "stderr").read_text("utf-8", "replace").strip()
    if code:
        return "crash", f"exit status {code}: {text[-LONGEST_MESSAGE:]}"
    kind, message = json.loads((child.folder / "outcome").read_text("utf-8"))
    if kind == "end":  # of a command line: what it says goes to stderr
        return _said(message, text)
    if kind in GOOD and ("Traceback" in text or "Warning:" in text):
        return "noise", text[-LONGEST_MESSAGE:]
    return kind, message


def _said(code: str, text: str) -> tuple[Kind, str]:
    """A refusal of a command line is exit code 2 and one line."""
    flaw = f"exit code {code}" if code != "2" else _flaw(text)
    return ("message", f"{flaw}: {text}") if flaw else ("refusal", text)


def _read(case: Case, reader: Reader, place: Path, limits: Limits) -> NoReturn:
    """In the child: reads, writes what became of it, and ends."""
    try:
        (place / "start").write_text(str(_memory(os.getpid())))
        _limit(limits)
        faulthandler.disable()  # the signal is told of anyway
        stream = os.open(place / "stderr", os.O_WRONLY | os.O_CREAT)
        for number in (1, 2):
            os.dup2(stream, number)
        sys.stdout = sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        kind, message = _tried(case, reader, place / "work")
        sys.stderr.flush()
        text = json.dumps([kind, message])
        (place / "outcome").write_text(text, "utf-8")
        os._exit(0)
    finally:
        os._exit(70)


def _limit(limits: Limits) -> None:
    """The memory that is asked for is bounded above what is looked at, to save the machine."""
    most = _memory(os.getpid(), 0) + 2 * limits.memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _tried(case: Case, reader: Reader, folder: Path) -> tuple[str, str]:
    try:
        reader.read(case.data, folder)
    except SystemExit as end:
        return "end", str(end.code)
    except BaseException as error:
        if type(error) not in reader.refusals:
            return "trace", "".join(traceback.format_exception(error)[-4:])[-LONGEST_MESSAGE:]
        # A reason goes into a table as it is; a refusal is printed.
        message = printed(str(error)) if isinstance(error, ConfigError) else str(error)
        flaw = _flaw(message)
        return ("message", f"{flaw}: {message:.500}") if flaw else ("refusal", message)
    return "answer", ""


def _flaw(message: str) -> str:
    """Why a message is none for a user; "" for a good one."""
    if not message.strip():
        return "an empty message"
    if len(message.splitlines()) > 1:
        return "several lines"
    if len(message) > LONGEST_MESSAGE:
        return f"{len(message)} characters"
    odd = [c for c in message if unicodedata.category(c) in ("Cc", "Cf", "Cs")]
    return f"odd characters {odd[:5]!r}" if odd else ""
