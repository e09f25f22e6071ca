"""Growth of whole jobs, Ray and all: an encoding and a search.

Each in a process of its own with a local Ray. Seconds are those of the wall; memory is what of the
driver, and of its largest worker, is in no file, at most, beyond what the driver began with;
`files` and `disk_mb` are what the job leaves.
"""

import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TypeVar

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from actors.features.encoder import EncoderConfig
from actors.search.cells import MethodConfig
from actors.search.spaces import Range
from cluster.artifacts import Artifact, draft
from cluster.connect import connect, require_ray
from cluster.pool import Pool
from jobs.bench.apart import apart, own_memory
from jobs.bench.scale.adaptation import METHODS, write_world
from jobs.bench.scale.growth import Row
from jobs.bench.scale.tables import NAME, small_dataset
from jobs.encode import EncodeConfig, encode
from jobs.search import SearchConfig, search

T = TypeVar("T")
WORKERS = 2
LOOK_SECONDS = 0.2
PICTURED = 100
"""Of so many rows one has a picture; the others cost no decoding and no tower, and are refused."""
PICTURE_PIXELS = 64
ROWS_OF_A_FILE = 20_000
DATASETS = ("scale", "scale too")
CHEAP = MethodConfig(
    method="taskres",
    shots=[1, 4],
    hyper={"epochs": 20},
    space={"lr": Range(low=1e-4, high=1e-1, log=True)},
    trials=4,
)


def whole_encodings(sizes: Sequence[int]) -> list[Row]:
    """`jobs.encode` of so many imagined rows; `rejected`: how many had no picture."""
    return [_row("whole encoding", size, _encoding) for size in sizes]


def whole_searches(sizes: Sequence[int]) -> list[Row]:
    """`jobs.search` on two datasets with so many images each to train on, imagined, and to test
    on; `trials`: of all cells."""
    return [_row("whole search", size, _search) for size in sizes]


def _row(stage: str, size: int, measure: Callable[[str, int], dict[str, float]]) -> Row:
    with tempfile.TemporaryDirectory() as storage:
        return {"stage": stage, "size": size, **apart(measure, storage, size)}


def _encoding(storage: str, size: int) -> dict[str, float]:
    config = EncodeConfig(
        storage=storage,
        datasets=[small_dataset(storage).artifact.uri],
        base_set=_base_set(storage, size).uri,
        encoder=EncoderConfig(patches=False, views=1),
        pool=Pool(workers=WORKERS),
    )
    (features,), figures = _measured(lambda: encode(config))
    return figures | _left([features]) | {"rejected": features.manifest.rows["rejected"]}


def _search(storage: str, size: int) -> dict[str, float]:
    worlds = [write_world(storage, size, name) for name in DATASETS]
    config = SearchConfig(
        storage=storage,
        datasets=[world.dataset for world in worlds],
        features=[world.features for world in worlds],
        methods=METHODS | {"taskres": CHEAP},
        seeds=[0],
        pool=Pool(workers=WORKERS),
    )
    adapted, figures = _measured(lambda: search(config))
    return figures | _left([adapted]) | {"trials": adapted.manifest.rows["trials"]}


def _measured(job: Callable[[], T]) -> tuple[T, dict[str, float]]:
    with connect():
        require_ray()
        with own_memory() as driver, _workers_memory() as workers:
            started = time.monotonic()
            made = job()
            seconds = time.monotonic() - started
        figures = {"seconds": seconds, "peak_mb": driver.highest, "worker_mb": workers[0]}
        return made, figures


@contextmanager
def _workers_memory() -> Iterator[list[float]]:
    """One number, MiB: the highest own memory of a worker that Ray has below this process."""
    highest, ended = [0.0], Event()

    def watch() -> None:
        while not ended.wait(LOOK_SECONDS):
            for process in psutil.Process().children(recursive=True):
                try:
                    if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::"):
                        memory = process.memory_info()
                        highest[0] = max(highest[0], (memory.rss - memory.shared) / 2**20)
                except psutil.Error:
                    continue  # it has ended

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield highest
    finally:
        ended.set()
        thread.join()


def _left(artifacts: Sequence[Artifact]) -> dict[str, float]:
    files = [path for a in artifacts for path in Path(a.uri).rglob("*") if path.is_file()]
    return {"files": len(files), "disk_mb": sum(path.stat().st_size for path in files) / 2**20}


def _base_set(storage: str, size: int) -> Artifact:
    """Imagined images of the small dataset's class, one of PICTURED with a picture."""
    images = draft(storage, "images", NAME, config=None, inputs={})
    rng = np.random.default_rng(0)
    pictures = [_picture(rng) for _ in range(PICTURED)]
    for start in range(0, size, ROWS_OF_A_FILE):
        numbers = range(start, min(start + ROWS_OF_A_FILE, size))
        texts = {"dataset": NAME, "class_name": NAME, "reason": ""}
        columns = {name: pa.repeat(text, len(numbers)) for name, text in texts.items()} | {
            "id": [rng.bytes(16).hex() for _ in numbers],
            "caption": [f"a caption of the usual length, of number {n // 4}" for n in numbers],
            "image": [b"" if n % PICTURED else pictures[n // PICTURED % PICTURED] for n in numbers],
        }
        with images.open_file(f"rows/part-{start:09d}.parquet") as stream:
            pq.write_table(pa.table(columns), stream)
    return images.publish({"rows": size, "refused": 0})


def _picture(rng: np.random.Generator) -> bytes:
    pixels = rng.integers(0, 256, (PICTURE_PIXELS, PICTURE_PIXELS, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream := io.BytesIO(), format="PNG")
    return stream.getvalue()
