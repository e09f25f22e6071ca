"""The meeting of a search's workers; its own process imports nothing but this."""

import asyncio
import contextlib

LONGEST_GATHERING_SECONDS = 60


class Gathering:
    """Lets the first workers of a search begin together.

    Tune gives a waiting trial to the worker that has just finished one and ends the process that
    was starting for it. Where a trial takes less time than a process needs to start, a search would
    have one worker, and always another one starting.
    """

    def __init__(self, workers: int) -> None:
        self.missing, self.complete = workers, asyncio.Event()

    async def arrive(self) -> None:
        """Returns when all are there, or after LONGEST_GATHERING_SECONDS."""
        self.missing -= 1
        if self.missing <= 0:
            self.complete.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.complete.wait(), LONGEST_GATHERING_SECONDS)
