"""Growth of what a driver does to tables of rows: features indexed, small files put together.

Each in a process of its own, on rows without meaning. Seconds are the process's own CPU seconds;
memory is what it held at most beyond what it began with.
"""

import tempfile
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from actors.features.encoding import SCHEMAS, ShardPlan
from actors.features.plan import SCHEMA, SPLITS
from cluster.artifacts import WORK, Draft, draft
from cluster.compaction import compact
from cluster.pieces import Pieces
from jobs.bench.apart import apart, peak
from jobs.bench.scale.growth import Row

IMAGE = (197, 512)
"""Tokens of an image, and their channels: ViT-B/16's, which say how large a shard is."""
PICTURES_OF_A_FILE = 2000
COMMITTED = 16
"""Pictures that a painter commits together, as Stable Diffusion 3's does."""
PICTURE_BYTES = 2000


def features_indexed(sizes: Sequence[int]) -> list[Row]:
    """What is done about so many images beside encoding them: shards planned, and an index."""
    return [_row("features indexed", size, apart(_features_indexed, size)) for size in sizes]


def files_together(sizes: Sequence[int]) -> list[Row]:
    """So many small pictures, from files of COMMITTED into one."""
    return [_row("files together", size, apart(_files_together, size)) for size in sizes]


def _row(stage: str, size: int, measurements: dict[str, float]) -> Row:
    return {"stage": stage, "size": size, **measurements}


def _features_indexed(size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as storage:
        features = _drafted(storage, "features")
        encoding = ShardPlan(features, _plan(size), dict.fromkeys(SPLITS, 1), IMAGE)
        pieces = Pieces(features, SCHEMAS)
        before, started = peak(), time.process_time()
        for shard in list(encoding.shards()):
            ids = shard.images["id"]
            pieces.write(shard.key, {"rows": pa.table({"id": ids, "reason": [""] * len(ids)})})
        encoding.write_index(pieces)
        return {"seconds": time.process_time() - started, "peak_mb": peak() - before}


def _plan(size: int) -> pa.Table:
    order = np.random.default_rng(0).permutation(size)
    texts = dict.fromkeys(SCHEMA.names, "a word of the length of a caption, or of a class's name")
    columns = {name: pa.repeat(text, size) for name, text in texts.items()}
    columns |= {"id": pa.array([f"{row:032d}" for row in range(size)])}
    columns |= {"split": pa.repeat("train", size)}
    columns |= {"file": pa.array([f"rows/{row // PICTURES_OF_A_FILE}" for row in order.tolist()])}
    columns |= {"place": pa.array(order % PICTURES_OF_A_FILE, pa.int32())}
    columns |= dict.fromkeys(("label", "views"), pa.repeat(pa.scalar(1, pa.int32()), size))
    return pa.table(columns).select(SCHEMA.names)


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
