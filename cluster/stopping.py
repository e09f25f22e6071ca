"""Ctrl-C and SIGTERM end a job within seconds and with one line."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_SECONDS = 8
"""In which workers are ended and temporary folders removed."""
SHOW_CURSOR = b"\r\x1b[K\x1b[?25h"
"""To a terminal: what shows progress there has hidden its cursor."""


class Stop:
    """The end of this process by a signal: said once, and bound to come."""

    def __init__(self) -> None:
        self.stderr = os.dup(2)
        self.number: int | None = None
        """Of the signal that has come."""
        self._said = threading.Lock()

    def say(self, number: int) -> None:
        """One line, and nothing on stderr behind it: what is broken off there is no news."""
        if not self._said.acquire(blocking=False):
            return
        self.number = number
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        start = SHOW_CURSOR if os.isatty(self.stderr) else b""
        line = f"error: stopped by {name}; run again, it goes on from what is done\n"
        os.write(self.stderr, start + line.encode())
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def end(self, number: int) -> NoReturn:
        """Ends the process as the shell knows it: 128 + the signal's number."""
        self.say(number)
        sys.stdout.flush()
        os._exit(128 + number)

    def watch(self, numbers: int) -> None:
        """In a thread: ends the process if it has not done so itself.

        numbers: descriptor that the numbers of signals are read from. Python cannot handle a signal
        while the main thread is inside a library.
        """
        with os.fdopen(numbers, "rb", buffering=0) as stream:
            while data := stream.read(1):
                if data[0] in SIGNALS:
                    self.say(data[0])
                    time.sleep(GRACE_SECONDS)
                    self.end(data[0])


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM end the process: as KeyboardInterrupt, so that all contexts are
    left, and after GRACE_SECONDS in any case. A no-op in a thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop = Stop()
    numbers, to_watch = os.pipe()
    os.set_blocking(to_watch, False)
    earlier = {number: signal.signal(number, _interrupt) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(to_watch, warn_on_full_buffer=False)
    threading.Thread(target=stop.watch, args=(numbers,), daemon=True).start()
    try:
        yield
    except KeyboardInterrupt as interrupt:
        stop.end(interrupt.args[0] if interrupt.args else signal.SIGINT)
    finally:
        if stop.number is not None:  # a library has answered it, and the work has ended otherwise
            stop.end(stop.number)
        signal.set_wakeup_fd(wakeup)
        for number, handler in earlier.items():
            signal.signal(number, handler)
        os.close(to_watch)  # which ends the thread
        os.close(stop.stderr)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    for ignored in SIGNALS:  # the end has begun
        signal.signal(ignored, signal.SIG_IGN)
    raise KeyboardInterrupt(number)


def quiet_interrupts() -> None:
    """Makes Ctrl-C one line where nobody handles it, such as while libraries are imported."""
    tell = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print("error: stopped by Ctrl-C", file=sys.stderr)
        else:
            tell(kind, error, trace)

    sys.excepthook = hook
