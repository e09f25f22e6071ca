"""The law of a stage's growth, from its measurements."""

from typing import Any

import numpy as np

Row = dict[str, Any]
"""`stage`, `size`, `seconds` and `peak_mb`; some stages say more."""
PLANNED = (1_000_000, 100_000_000)
"""Sizes that the laws are calculated on to."""


def exponent(rows: list[Row], name: str = "seconds") -> float:
    """b of a·size^b, by least squares of the logarithms of at least two sizes."""
    sizes, values = ([row[key] for row in rows] for key in ("size", name))
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-9)), 1)[0])


def laws(rows: list[Row]) -> list[Row]:
    """Per stage `exponent` of its seconds, and `hours` and `peak_gb` at each of PLANNED.

    Calculated from the largest size that ran: seconds by the exponent, memory by the slope between
    the two largest. A stage of one size has no law.
    """
    summary = []
    for stage in dict.fromkeys(row["stage"] for row in rows):
        of_stage = sorted((r for r in rows if r["stage"] == stage), key=lambda row: row["size"])
        if of_stage[0]["size"] == of_stage[-1]["size"]:
            continue
        power, last = exponent(of_stage), of_stage[-1]
        law = {"stage": stage, "exponent": power}
        for size in PLANNED:
            hours = last["seconds"] * (size / last["size"]) ** power / 3600
            law |= {f"hours_{size}": hours, f"peak_gb_{size}": _memory(of_stage, size) / 1024}
        summary.append(law)
    return summary


def _memory(rows: list[Row], size: int) -> float:
    before, last = rows[-2:]
    slope = (last["peak_mb"] - before["peak_mb"]) / (last["size"] - before["size"])
    return last["peak_mb"] + slope * (size - last["size"])
