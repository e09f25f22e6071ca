"""Reading a base set in `python -m jobs.bench pretrain`: to the first batch, and from then on."""

import os
import resource
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.pictures.base_set import open_base_set, open_base_set_rows
from cluster.artifacts import draft
from cluster.rows import row_id
from jobs.bench.views import picture
from models.views import NUMBERS

VIEWS, CLASSES, DIFFERENT = 4, 50, 32
"""Views of a caption, and pictures of which a base set repeats."""
ROWS_PER_FILE = 16
"""What a painter commits at a time, and what one row group holds."""
BATCH, KEPT_BYTES = 200, 10_000_000_000
"""Captions, as in the recipe of ViT-B/16."""


def reading(rows: Sequence[int], pixels: int) -> dict[str, float]:
    """Of base sets of so many PNG pictures of pixels x pixels, each in a process of its own.

    Seconds, memory and bytes of the node's disk until the first batch is drawn; images per second
    of CPU time, read from the artifact in the first epoch and kept decoded in later ones.
    """
    figures: dict[str, float] = {}
    for count in rows:
        with (
            tempfile.TemporaryDirectory() as folder,
            ProcessPoolExecutor(1, get_context("spawn")) as process,
        ):
            uri = write_base_set(Path(folder), count, pixels)
            measurements = process.submit(_measured, uri, str(Path(folder, "cache"))).result()
            figures |= {f"{count}_rows_{name}": value for name, value in measurements.items()}
    return figures


def write_base_set(folder: Path, rows: int, pixels: int) -> str:
    """URI of the artifact."""
    pictures = [picture(pixels, seed) for seed in range(DIFFERENT)]
    out = draft(str(folder), "images", "bench", content={"rows": rows}, config={}, inputs={})
    for start in range(0, rows, ROWS_PER_FILE):
        numbers = range(start, min(start + ROWS_PER_FILE, rows))
        table = pa.Table.from_pylist([_row(n, pictures[n % DIFFERENT]) for n in numbers])
        with out.open_file(f"rows/part-{start:09}.parquet") as stream:
            pq.write_table(table, stream)
    return out.publish({"rows": rows, "refused": 0}).uri


def _row(number: int, image: bytes) -> dict[str, object]:
    caption, view = divmod(number, VIEWS)
    index, label = divmod(caption, CLASSES)
    name = f"class {label}"
    identity = row_id("bench", name, index, view, "bench")
    row = {"id": identity, "dataset": "bench", "class_name": name, "index": index, "view": view}
    return row | {"caption": f"a picture of {name}", "reason": "", "image": image}


def _measured(uri: str, cache: str) -> dict[str, float]:
    os.environ["XDG_CACHE_HOME"] = cache
    before = _peak_mb()
    started = time.perf_counter()
    data = open_base_set(open_base_set_rows(uri), kept_bytes=KEPT_BYTES)
    order = np.random.default_rng(0).permutation(len(data))
    data.draw(order[:BATCH], "0/0", (2, NUMBERS))
    figures = {
        "first_batch_seconds": time.perf_counter() - started,
        "first_batch_mb": _peak_mb() - before,
        "first_batch_disk_mb": _disk_mb(Path(cache)),
    }
    for epoch in ("first_epoch", "later_epochs"):
        if epoch == "later_epochs":
            data.decode(range(int(data.starts[-1])))  # all are kept
        started = time.process_time()
        for start in range(0, len(order), BATCH):
            data.draw(order[start : start + BATCH], epoch, (2, NUMBERS))
        seconds = time.process_time() - started
        figures[f"images_per_cpu_second_{epoch}"] = 2 * len(order) / seconds
    return figures


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _disk_mb(folder: Path) -> float:
    return sum(path.stat().st_blocks for path in folder.rglob("*")) * 512 / 1e6
