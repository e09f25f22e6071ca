"""How far work is, in one line: rate, remaining time, and the metrics that it reports."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as RichProgress

from cluster.artifacts import Artifact

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_LOOKS = 1.0


class Progress:
    """How far one piece of work is; `advance` is called as units of it get done."""

    def __init__(self, title: str, total: int, unit: str, done: int) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = self.earlier = min(done, total)
        self.metrics: dict[str, float | str] = {}
        self.started = time.monotonic()

    def advance(self, n: int = 1, **metrics: float | str) -> None:
        """Counts n more units, up to the total; metrics (loss=0.31) stand beside the rate until
        replaced. n: below 0 for what is lost and will be done again."""
        self.done = min(self.done + n, self.total)
        self.metrics.update(metrics)
        self.show()

    def show(self) -> None:
        """Brings the display up to date."""
        raise NotImplementedError

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def rate(self) -> float:
        """Units per second of this run, without what an earlier run left."""
        return (self.done - self.earlier) / max(self.seconds(), 1e-9)

    def detail(self) -> str:
        """Rate, remaining time and metrics in words."""
        parts = [f"{self.rate():.1f} {self.unit}/s"]
        if self.rate() and self.total > self.done:
            parts.append(f"{clock((self.total - self.done) / self.rate())} left")
        parts += [
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.metrics.items()
        ]
        return ", ".join(parts)


class _Bar(Progress):
    """A bar, for a terminal."""

    def __init__(self, title: str, total: int, unit: str, done: int, bar: RichProgress) -> None:
        super().__init__(title, total, unit, done)
        self.bar = bar
        self.task = bar.add_task(title, total=total, completed=self.done, detail="")

    def show(self) -> None:
        self.bar.update(self.task, completed=self.done, detail=self.detail())


class _Lines(Progress):
    """Few whole lines, for a log file."""

    last_line = 0.0

    def show(self) -> None:
        if time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES and self.done < self.total:
            self.last_line = time.monotonic()
            say(f"{self.title}: {self.done}/{self.total} {self.unit}, {self.detail()}")


@contextmanager
def show_progress(title: str, total: int, unit: str, done: int = 0) -> Iterator[Progress]:
    """Shows on stderr how far work is, and when it has ended a line with its time and rate.

    total: units in all; done: units left by an earlier run, which do not count for the rate.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        with RichProgress(*columns, TextColumn("{task.fields[detail]}"), console=console) as bar:
            progress: Progress = _Bar(title, total, unit, done, bar)
            yield progress
            bar.update(bar.task_ids[0], visible=False)
    else:
        progress = _Lines(title, total, unit, done)
        yield progress
    closing_line(progress)


@contextmanager
def watched(look: Callable[[], None]) -> Iterator[None]:
    """Calls `look` about once a second, from a thread, until the block is left, and then once more.

    For work that other processes do while this one waits. What `look` raises in the last call is
    raised here.
    """
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    look()


def closing_line(progress: Progress) -> None:
    """Says on stderr what work that has ended did, with its time and rate."""
    duration = clock(progress.seconds())
    count = f"{progress.done} {progress.unit}"
    say(f"{progress.title}: {count} in {duration} ({progress.detail()})")


def already_done(title: str, artifact: Artifact) -> None:
    """Says on stderr that an earlier run made this artifact."""
    say(f"{title}: done before ({artifact.uri})")


def say(line: str) -> None:
    """One line for the user, on stderr."""
    print(line, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Minutes and seconds, as people read them."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes else f"{rest} s"
