"""Growth of a search and of an evaluation with a dataset's images.

What a driver and a worker do about images, each in a process of its own without Ray, on drawn
tokens that no picture has; what Tune takes for a trial, `jobs.bench search` says. Seconds are the
process's own CPU seconds; memory is what of it is in no file, at most, beyond what it began with:
tokens that are mapped from files are the system's to drop.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from actors.features.encoding import SCHEMAS, ShardPlan, write_shard
from actors.features.plan import SCHEMA as PLAN
from actors.features.plan import SPLITS
from actors.features.shards import TOKEN
from actors.search.cells import MethodConfig
from actors.search.evaluator import Evaluator
from actors.search.fits import MODELS, keep
from actors.search.runnable import runnable_cells
from actors.search.spaces import Range
from actors.search.tables import fits_table, read_fits
from actors.search.tasks import Tasks, TaskSource, task_source
from actors.search.trials import fit_cell, fit_of
from cluster.artifacts import Artifact, draft
from cluster.catalog.dataset import SCHEMA, Concept, Dataset, publish_dataset
from cluster.pieces import Pieces
from cluster.rows import packed_ids, row_id
from jobs.bench.apart import apart, own_memory
from jobs.bench.scale.growth import Row
from models.backbones import TINY, load_clip

CONCEPTS = tuple(Concept(f"class {number}", "IP") for number in range(50))
SHOTS, VAL = 16, 4
TOKENS = 17
"""Of an image, so that a hundred thousand take 0.4 GB."""
DRAWN_IMAGES = 256
"""Whose tokens all images have in turn."""
METHODS = {
    "imaginefsl": MethodConfig(
        method="imaginefsl",
        shots=[SHOTS],
        hyper={"steps": 10, "adapter": {"depth": 1, "inner": 64, "heads": 1}},
        space={"adapter_lr": Range(low=1e-4, high=1e-2, log=True)},
        trials=4,
    )
}
SEED = 0


@dataclass(frozen=True)
class World:
    """Where a dataset and its features are, and what was learned on them."""

    storage: str
    dataset: str
    features: str

    @property
    def source(self) -> TaskSource:
        return task_source([self.dataset], [self.features], val_policy="min", templates="hand")


def adaptations(sizes: Sequence[int]) -> list[Row]:
    """A search and an evaluation with so many images each to train on, imagined, and to test on.

    The search draws SHOTS of a class and fits a population; what it learns is evaluated.
    """
    return [row for size in sizes for row in _rows(size)]


def _rows(size: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as storage:
        world = write_world(storage, size)
        for stage, measure in (
            ("driver of a search", _driver_of_a_search),
            ("worker of a search", _worker_of_a_search),
            ("worker of an evaluation", _worker_of_an_evaluation),
        ):
            yield {"stage": stage, "size": size, **apart(measure, world)}


def _driver_of_a_search(world: World) -> dict[str, float]:
    load_clip(TINY)
    with own_memory() as memory:
        started = time.process_time()
        runnable_cells(Tasks(world.source), METHODS, [SEED])
        seconds = time.process_time() - started
    return {"seconds": seconds, "peak_mb": memory.highest}


def _worker_of_a_search(world: World) -> dict[str, float]:
    """Keeps the last member's model for the evaluation."""
    load_clip(TINY)
    with own_memory() as memory:
        started = time.process_time()
        tasks = Tasks(world.source)
        (cell,) = runnable_cells(tasks, METHODS, [SEED])
        values = [{"adapter_lr": lr} for lr in np.geomspace(1e-4, 1e-2, 4).tolist()]
        fits = fit_cell(tasks, cell, SEED, values, None)
        seconds = time.process_time() - started
    model, outcome = fits[-1]
    if model is None:
        raise RuntimeError(f"nothing was learned: {outcome.error}")
    adapted = draft(world.storage, "adapted", "scale", config=None, inputs={})
    keep(model, fit_of(tasks, cell, SEED, model, outcome), adapted.file(MODELS))
    fits_of_cell = fits_table(adapted.file(MODELS), [cell], [SEED])
    adapted.write_table("fits", fits_of_cell)
    adapted.publish({"fits": len(fits_of_cell)})
    return {"seconds": seconds, "peak_mb": memory.highest}


def _worker_of_an_evaluation(world: World) -> dict[str, float]:
    """`images`: how many were answered."""
    load_clip(TINY)
    adapted = draft(world.storage, "adapted", "scale", config=None, inputs={}).artifact
    if adapted is None:
        raise RuntimeError("the models were not written")
    (fit,) = read_fits(adapted)
    with own_memory() as memory:
        started = time.process_time()
        rows = Evaluator(world.source, adapted.uri)(fit)["rows"]
        seconds = time.process_time() - started
    images = max(rows["images"].to_pylist())
    return {"seconds": seconds, "peak_mb": memory.highest, "images": images}


def write_world(storage: str, size: int, name: str = "scale") -> World:
    """`size` images each to train on, imagined, and to test on, in turn of all classes; name: of
    the dataset."""
    counts = {"train": size, "val": VAL * len(CONCEPTS), "test": size, "imagined": size}
    parts = {split: _rows_of(name, split, count) for split, count in counts.items()}
    real = pa.concat_tables([parts[split] for split in ("train", "val", "test")])
    dataset = publish_dataset(
        draft(storage, "dataset", name, config=None, inputs={}),
        real.cast(SCHEMA),
        CONCEPTS,
        hint="thing",
        template="a photo of a {}.",
    )
    places = pa.concat_tables([*parts.values()])
    return World(storage, dataset.artifact.uri, _write_features(storage, dataset, places).uri)


def _rows_of(dataset: str, split: str, count: int) -> pa.Table:
    """Of a dataset, with pictures of no bytes."""
    numbers = np.arange(count)
    names = [CONCEPTS[number % len(CONCEPTS)].name for number in numbers]
    columns = {
        "id": [
            row_id(dataset, name, int(n), 0, split) for name, n in zip(names, numbers, strict=True)
        ],
        "dataset": pa.repeat(dataset, count),
        "class_name": names,
        "label": numbers % len(CONCEPTS),
        "group": pa.repeat("IP", count),
        "split": pa.repeat(split, count),
        "image": pa.repeat(pa.scalar(b""), count),
        "caption": pa.nulls(count, pa.string()),
        "path": pa.nulls(count, pa.string()),
        "order": pa.nulls(count, pa.int32()),
    }
    return pa.table(columns).cast(SCHEMA)


def _write_features(storage: str, dataset: Dataset, rows: pa.Table) -> Artifact:
    """Features as `jobs.encode` writes them, of tokens in place of pictures."""
    clip = load_clip(TINY)
    inputs = {"dataset": dataset.artifact}
    features = draft(storage, "features", dataset.name, config=None, inputs=inputs)
    image = (TOKENS, clip.embed_dim)
    encoding = ShardPlan(features, _plan(rows), dict.fromkeys(SPLITS, 1), image)
    work = draft(storage, "encoding", dataset.name, config=None, inputs={})
    pieces = Pieces(work, SCHEMAS)
    drawn = _drawn_tokens(image)
    for shard in encoding.shards():
        encoded = (("", drawn[number % len(drawn)]) for number in range(len(shard)))
        pieces.write(shard.key, write_shard(shard, image, encoded))
    counts = encoding.write_index(pieces)
    extra = {"backbone": clip.backbone, "weights_hash": clip.weights_hash}
    return features.publish(counts, extra | encoding.extra())


def _plan(rows: pa.Table) -> pa.Table:
    """Of an encoding; the pictures lie nowhere."""
    rows, count = rows.sort_by("id"), len(rows)
    columns = {name: rows[name] for name in ("label", "class_name", "split")}
    columns["id"] = packed_ids(rows["id"].combine_chunks())
    columns |= {name: pa.repeat("", count) for name in ("caption", "source", "file")}
    columns |= {"place": np.arange(count), "views": pa.repeat(1, count)}
    return pa.table(columns).select(PLAN.names).cast(PLAN)


def _drawn_tokens(image: tuple[int, int]) -> list[bytes]:
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((DRAWN_IMAGES, *image), dtype=np.float32)
    return [one.astype(TOKEN).tobytes() for one in tokens]
