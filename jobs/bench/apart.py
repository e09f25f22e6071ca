"""Measuring in a process of its own, for a process never gives back its highest memory."""

import multiprocessing
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


def apart(measure: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """What a function of a module returns, computed by a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, measure, arguments))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()


def peak() -> float:
    """Highest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _answer(
    to: Connection, measure: Callable[..., dict[str, float]], arguments: tuple[Any, ...]
) -> None:
    to.send(measure(*arguments))
