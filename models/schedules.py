"""Schedules as functions of the step alone, so that a restart needs no state of theirs."""

import math


def cosine(start: float, end: float, step: int, steps: int) -> float:
    """Half a cosine from `start` at step 0 to `end` at step `steps`, and `end` after it.

    Source: DINOv2's schedules (Oquab et al., 2023), which reach `end` one step after the last.
    """
    progress = min(step / steps, 1.0)
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * progress))


def linear(start: float, end: float, step: int, steps: int) -> float:
    """A straight line from `start` at step 0 to `end` at step `steps`, and `end` after it."""
    return end if step >= steps else start + (end - start) * step / steps
