"""Growth of what a driver does to tables of rows: features indexed, small files put together.

Each in a process of its own, on rows without meaning. Seconds are the process's own CPU seconds;
memory is what it held at most beyond what it began with.
"""

import tempfile
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.features.encoding import SCHEMAS, ShardPlan
from actors.features.plan import SPLITS, encoding_plan
from actors.pictures.base_set import BaseSetRows
from cluster.artifacts import WORK, Artifact, Draft, draft
from cluster.catalog.dataset import SCHEMA, Concept, Dataset, publish_dataset
from cluster.compaction import compact
from cluster.pieces import Pieces
from cluster.rows import row_id
from jobs.bench.apart import apart, peak
from jobs.bench.scale.growth import Row

NAME = "scale"
"""Of the dataset, and of its class."""
VIEWS = 4
"""Imagined images of a caption."""
IMAGE = (197, 512)
"""Tokens of an image, and their channels: ViT-B/16's, which say how large a shard is."""
PICTURES_OF_A_FILE = 2000
COMMITTED = 16
"""Pictures that a painter commits together, as Stable Diffusion 3's does."""
PICTURE_BYTES = 2000


def features_indexed(sizes: Sequence[int]) -> list[Row]:
    """What the driver does about so many images beside encoding them: a plan of all, their shards,
    and an index."""
    return [_row("features indexed", size, apart(_features_indexed, size)) for size in sizes]


def files_together(sizes: Sequence[int]) -> list[Row]:
    """So many small pictures, from files of COMMITTED into one."""
    return [_row("files together", size, apart(_files_together, size)) for size in sizes]


def _row(stage: str, size: int, measurements: dict[str, float]) -> Row:
    return {"stage": stage, "size": size, **measurements}


def _features_indexed(size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as storage:
        dataset, base_set = small_dataset(storage), BaseSetRows(_base_set(storage, size))
        features, views = _drafted(storage, "features"), dict.fromkeys(SPLITS, 1)
        before, started = peak(), time.process_time()
        encoding = ShardPlan(features, encoding_plan(dataset, base_set, views), views, IMAGE)
        pieces = Pieces(features, SCHEMAS)
        for shard in list(encoding.shards()):
            ids = shard.images["id"]
            pieces.write(shard.key, {"rows": pa.table({"id": ids, "reason": [""] * len(ids)})})
        encoding.write_index(pieces)
        return {"seconds": time.process_time() - started, "peak_mb": peak() - before}


def small_dataset(storage: str) -> Dataset:
    """Of one class with an image in each split, which has no bytes."""
    texts = {"dataset": NAME, "class_name": NAME, "group": "IP"}
    rows = [
        dict.fromkeys(SCHEMA.names)
        | {"id": row_id(NAME, NAME, 0, 0, split), "split": split, "label": 0, "image": b""}
        | texts
        for split in ("train", "val", "test")
    ]
    return publish_dataset(
        _drafted(storage, "dataset"),
        pa.Table.from_pylist(rows, SCHEMA),
        [Concept(NAME, "IP")],
        hint="thing",
        template="a photo of a {}.",
    )


def _base_set(storage: str, size: int) -> Artifact:
    """Imagined images of that class without bytes, VIEWS of each caption, in files of a few."""
    images = _drafted(storage, "images")
    rng = np.random.default_rng(0)
    for start in range(0, size, PICTURES_OF_A_FILE):
        numbers = range(start, min(start + PICTURES_OF_A_FILE, size))
        texts = {"dataset": NAME, "class_name": NAME, "reason": ""}
        columns = {name: pa.repeat(text, len(numbers)) for name, text in texts.items()} | {
            "id": [rng.bytes(16).hex() for _ in numbers],
            "caption": [f"a caption of the usual length, of number {n // VIEWS}" for n in numbers],
            "image": pa.repeat(pa.scalar(b""), len(numbers)),
        }
        with images.open_file(f"rows/part-{start:09d}.parquet") as stream:
            pq.write_table(pa.table(columns), stream)
    return images.publish({"rows": size, "refused": 0})


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
