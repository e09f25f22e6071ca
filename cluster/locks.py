"""One run at a time makes an artifact: a lock in its folder, which ends with its process."""

import contextlib
import fcntl
import os
import sys
from weakref import WeakValueDictionary


class Lock:
    """A lock of this process on a file; it is let go of when nobody keeps the object any more.

    The operating system frees it when the process ends in whatever way. What is sent to another
    process is None in its place.
    """

    def __init__(self, path: str, waiting_for: str) -> None:
        """Waits until it is free; `waiting_for` is then said on stderr."""
        self._file: int | None = None
        while self._file is None:
            self._file = _opened(path)
            _wait(self._file, waiting_for)
            if not _is_there(path, self._file):  # removed with its folder while this one waited
                self.release()

    @property
    def held(self) -> bool:
        """Whether it has not been let go of."""
        return self._file is not None

    def release(self) -> None:
        """Lets the next one in."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            self.release()

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


def _opened(path: str) -> int:
    while True:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # removed with its folder at this moment
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _wait(file: int, waiting_for: str) -> None:
    with contextlib.suppress(OSError):  # a file system without locks
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting: another process makes {waiting_for}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)


def _is_there(path: str, file: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(file))
    return False


_HELD: WeakValueDictionary[str, Lock] = WeakValueDictionary()


def locked(path: str, waiting_for: str) -> Lock:
    """The lock of this process on that file, the same object for all who ask."""
    lock = _HELD.get(path)
    if lock is None or not lock.held:
        lock = _HELD[path] = Lock(path, waiting_for)
    return lock
