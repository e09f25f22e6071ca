"""Growth of what the driver of a curation holds and does, while workers look for copies.

Decided on is a critique of drawn hashes and embeddings, whose rows are nobody's pictures. Seconds
are the driver's own CPU seconds, the decisions being written among them; memory is what it held at
most beyond what it began with, Ray being there.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.curation.critique import TABLE
from actors.curation.decisions import CurationConfig
from actors.curation.parts import PART_ROWS, curate_parts
from cluster.artifacts import Artifact, draft
from cluster.connect import connect
from cluster.pool import Pool
from cluster.rows import row_id
from jobs.bench.apart import apart, peak
from jobs.bench.scale.growth import Row
from jobs.bench.scale.likeness import drawn_pictures
from jobs.curate import write_decisions

DIM = 64
"""Numbers of an embedding: the driver holds none."""
CLASS_ROWS, VIEWS = 1_000, 4
GROUP_ROWS = PART_ROWS // 8
WORKERS = 2


def drivers_of_curations(sizes: Sequence[int]) -> list[Row]:
    """Decisions on so many pictures of several parts, while WORKERS workers look for copies."""
    return [
        {"stage": "driver of a curation", "size": size, **apart(_driver_of_a_curation, size)}
        for size in sizes
    ]


def _driver_of_a_curation(size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as storage, connect():
        apart(_write_critique, storage, size)
        critique = _critique(storage, size)
        out = draft(storage, "curation", "scale", config=None, inputs={})
        before, started = peak(), time.process_time()
        result = curate_parts(out, critique, CurationConfig(), Pool(workers=WORKERS))
        write_decisions(out, result)
        seconds = time.process_time() - started
        return {"seconds": seconds, "peak_mb": peak() - before, "kept": result.summary["kept"]}


def _write_critique(storage: str, size: int) -> dict[str, float]:
    out = draft(storage, "critique", "scale", config={"rows": size}, inputs={})
    with out.open_file(f"{TABLE}/part-0.parquet") as stream:
        writer = None
        for rows in _rows(size):
            writer = writer or pq.ParquetWriter(stream, rows.schema)
            writer.write_table(rows)
        if writer:
            writer.close()
    out.publish({"rows": size}, {"embed_dim": DIM})
    return {}


def _critique(storage: str, size: int) -> Artifact:
    artifact = draft(storage, "critique", "scale", config={"rows": size}, inputs={}).artifact
    if artifact is None:
        raise RuntimeError("the critique was not written")
    return artifact


def _rows(size: int) -> Iterator[pa.Table]:
    pictures = drawn_pictures(size, dimensions=DIM)
    rng = np.random.default_rng(1)
    for start in range(0, size, GROUP_ROWS):
        numbers = np.arange(start, min(start + GROUP_ROWS, size))
        yield pa.table(
            {
                "id": [row_id("scale", "", int(number), 0, "drawn") for number in numbers],
                "role": ["imagined"] * len(numbers),
                "dataset": ["scale"] * len(numbers),
                "class_name": [f"class {number // CLASS_ROWS}" for number in numbers],
                "group": ["IP"] * len(numbers),
                "index": numbers % CLASS_ROWS // VIEWS,
                "view": numbers % VIEWS,
                "score": rng.normal(0.3, 0.1, len(numbers)).astype(np.float32),
                "embedding": [row.tobytes() for row in pictures.embeddings[numbers]],
                "hash": [f"{value:016x}" for value in pictures.hashes[numbers].tolist()],
                "contrast": rng.random(len(numbers), dtype=np.float32),
                "pixels": [f"{number:032x}" for number in numbers],
                "reason": [""] * len(numbers),
            }
        )
