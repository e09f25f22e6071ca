"""What a user can mend: a bad setting, told in one line before anything is spent."""

import errno
import os
from collections.abc import Iterator
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What a disk answers that takes no more."""


class ConfigError(Exception):
    """A bad setting; the message names the field, its value and what is allowed, in one line.

    Not a ValueError: a handler of what a computation cannot do must not swallow it, and a search
    must not keep it as the result of a trial.
    """


def refusal(error: BaseException) -> ConfigError | None:
    """What a user can mend behind an error: the ConfigError that it comes from, or a full disk.

    Looks through causes, through what Ray wraps a worker's error into, and through the failed
    workers of Ray Train. None if it is a fault of the machine or of this program.
    """
    for link in _chain(error):
        # Ray makes a class of its own and of ConfigError, whose text is the worker's stack trace.
        if isinstance(link, ConfigError) and not _behind(link):
            return link
        if isinstance(link, OSError) and link.errno in FULL and not _behind(link):
            return ConfigError(
                f"disk: {one_line(link)}; allowed: one with room that can be written"
            )
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and all behind it, the nearest first, each once."""
    waiting, seen = [error], set()
    while waiting:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        hidden = link.__suppress_context__
        nearest = (*_behind(link), link.__cause__, None if hidden else link.__context__)
        waiting += [next_link for next_link in nearest if isinstance(next_link, BaseException)]


def _behind(error: BaseException) -> list[Any]:
    """The errors that Ray keeps as values: the cause of a task, the failures of workers."""
    fields = vars(error)
    failures = fields.get("worker_failures")
    values = [fields.get("cause"), fields.get("controller_failure")]
    values += failures.values() if isinstance(failures, dict) else []
    return [value for value in values if isinstance(value, BaseException)]


def one_line(error: BaseException) -> str:
    """The message of an error in one line; of the operating system, with the file."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{os.strerror(error.errno) if error.errno else error.strerror}: {error.filename}"
    return " ".join(str(error).split())
