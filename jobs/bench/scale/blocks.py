"""Growth of what Ray Data's blocks cost the driver: rows that take no time to be made.

Seconds are the driver's own CPU seconds; memory is what it held at most beyond what it began with,
Ray being there.
"""

import tempfile
import time
from collections.abc import Sequence

import pyarrow as pa

from cluster.artifacts import WORK, Draft, draft
from cluster.connect import connect
from cluster.pool import Pool
from cluster.row_pipeline import Batch, make_rows
from jobs.bench.apart import apart, peak
from jobs.bench.scale.growth import Row

ASKED = 16
"""Rows of a block that are asked for."""


class AsTheyAre:
    """A worker that makes rows of what they are."""

    def __call__(self, batch: Batch) -> Batch:
        return batch | {"reason": batch["id"].astype(str)}


def blocks_of_rows(sizes: Sequence[int]) -> list[Row]:
    """So many rows, asked for in blocks of ASKED; `blocks`: how many there were; `again_seconds`:
    of the same once more, when nothing is left to be made."""
    return [
        {"stage": "rows in blocks", "size": size, **apart(_blocks_of_rows, size)} for size in sizes
    ]


def _blocks_of_rows(size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as storage, connect():
        out = draft(storage, "images", "scale", config=None, inputs={})
        before = peak()
        seconds = _made(out, size)
        held = peak() - before
        blocks = len(out.open_table(f"{WORK}/rows").files)
        again = _made(out, size)
        return {"seconds": seconds, "peak_mb": held, "blocks": blocks, "again_seconds": again}


def _made(out: Draft, size: int) -> float:
    started = time.process_time()
    plan = pa.table({"id": [f"{row:08d}" for row in range(size)]})
    make_rows(
        out,
        f"{WORK}/rows",
        plan,
        AsTheyAre,
        title="blocks",
        unit="rows",
        block_rows=ASKED,
        pool=Pool(workers=1),
    )
    return time.process_time() - started
