"""What a user can mend: a bad setting, told in one line before anything is spent."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""What a disk answers that takes no more."""
LONGEST_LINE = 1000
"""Characters."""
ADVICE = "\nFailed to "
"""Begins what Ray Data adds to the message of a worker's error: how often it was tried."""


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
    for link in links(error):
        # Ray makes a class of its own and of ConfigError, whose text is the worker's stack trace.
        if isinstance(link, ConfigError) and not _behind(link):
            message = str(link).partition(ADVICE)[0]
            return link if message == str(link) else ConfigError(message)
        if isinstance(link, OSError) and link.errno in FULL and not _behind(link):
            return ConfigError(
                f"disk: {one_line(link)}; allowed: one with room that can be written"
            )
    return None


@contextmanager
def refusals_of_workers() -> Iterator[None]:
    """Raises what a user can mend as ConfigError, whatever Ray has wrapped it into."""
    try:
        yield
    except Exception as error:
        if (refused := refusal(error)) is None or refused is error:
            raise
        raise refused from error


def built(make: Callable[[], Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """What `make` builds on a worker; if it cannot for a reason that a user can mend, a callable
    that raises this reason.

    Ray tells of an error in the constructor of an actor in words alone, of one in a call as it is.
    """
    try:
        return make()
    except Exception as error:
        if (refused := refusal(error)) is None:
            raise
        reason = str(refused)

    def refuse(_: Any) -> Any:
        raise ConfigError(reason)

    return refuse


def links(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it was raised from, the nearest first, each once."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        waiting += [*_behind(link), *([link.__cause__] if link.__cause__ else [])]


def _behind(error: BaseException) -> list[BaseException]:
    """The errors that Ray keeps as values: the cause of a task, the failures of workers."""
    fields = vars(error)
    failures = fields.get("worker_failures")
    values = [fields.get("cause"), fields.get("controller_failure")]
    values += failures.values() if isinstance(failures, dict) else []
    return [value for value in values if isinstance(value, BaseException)]


def one_line(error: BaseException) -> str:
    """The message of an error in one line; of the operating system, with the file."""
    message = str(error)
    if isinstance(error, OSError) and error.errno and isinstance(error.filename, str):
        message = f"{os.strerror(error.errno)}: {error.filename}"
    return printed(message.partition(ADVICE)[0])


def printed(text: str) -> str:
    """A text in one line for a terminal: characters that it would act on, or not show, as escapes.

    Messages quote what is in foreign files, which may turn the direction of writing, and be of any
    length: of more than LONGEST_LINE characters the middle is left out.
    """
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    if len(line) > LONGEST_LINE:
        return f"{line[: LONGEST_LINE // 2]} … {line[-LONGEST_LINE // 2 :]}"
    return line
