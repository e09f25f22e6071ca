"""Growth of what is done to tables of rows: tokens put in order, small files put together.

Each in a process of its own, on rows without meaning. Seconds are the process's own CPU seconds;
memory is what it held at most beyond what it began with.
"""

import tempfile
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from actors.features.store import INDEX_COLUMNS, TOKENS, write_features
from cluster.artifacts import WORK, Draft, draft
from cluster.compaction import compact
from jobs.bench.apart import apart, peak
from jobs.bench.scale.growth import Row

BLOCK = 256
"""Rows that an encoder commits together."""
SHAPE = (65, 128)
"""Tokens of an image, and their channels: the tiny CLIP's."""
COMMITTED = 16
"""Pictures that a painter commits together, as Stable Diffusion 3's does."""
PICTURE_BYTES = 2000


def tokens_in_order(sizes: Sequence[int]) -> list[Row]:
    """So many images' tokens, in one view, from an encoder's files into the arrays of features."""
    return [_row("tokens in order", size, apart(_tokens_in_order, size)) for size in sizes]


def files_together(sizes: Sequence[int]) -> list[Row]:
    """So many small pictures, from files of COMMITTED into one."""
    return [_row("files together", size, apart(_files_together, size)) for size in sizes]


def _row(stage: str, size: int, measurements: dict[str, float]) -> Row:
    return {"stage": stage, "size": size, **measurements}


def _tokens_in_order(size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as storage:
        encoded, features = _drafted(storage, "tokens"), _drafted(storage, "features")
        order = np.random.default_rng(0).permutation(size)
        tokens = np.zeros(SHAPE, np.float16).tobytes()
        for start in range(0, size, BLOCK):
            ids = [f"{row:08d}" for row in order[start : start + BLOCK]]
            rows = {"id": ids, "tokens": [tokens] * len(ids), "reason": [""] * len(ids)}
            encoded.write_table(f"{TOKENS}/{start:08d}", pa.table(rows))
        columns = {name: ["0"] * size for name in INDEX_COLUMNS}
        columns |= {"id": [f"{row:08d}" for row in range(size)], "split": ["train"] * size}
        plan = pa.table(columns | {"label": pa.array([0] * size, pa.int32())})
        views = dict.fromkeys(("train", "val", "test", "imagined"), 1)
        before, started = peak(), time.process_time()
        write_features(features, encoded, plan, views, SHAPE)
        return {"seconds": time.process_time() - started, "peak_mb": peak() - before}


def _files_together(size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as storage:
        images = _drafted(storage, "images")
        picture = np.random.default_rng(0).bytes(PICTURE_BYTES)
        for start in range(0, size, COMMITTED):
            ids = [f"{row:08d}" for row in range(start, min(start + COMMITTED, size))]
            rows = {"id": ids, "image": [picture] * len(ids), "reason": [""] * len(ids)}
            images.write_table(f"{WORK}/painted/{start:08d}", pa.table(rows))
        before, started = peak(), time.process_time()
        compact(images, f"{WORK}/painted", "rows")
        return {"seconds": time.process_time() - started, "peak_mb": peak() - before}


def _drafted(storage: str, kind: str) -> Draft:
    return draft(storage, kind, "scale", config=None, inputs={})
