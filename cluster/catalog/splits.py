"""Few-shot splits: which rows of a dataset a method may learn from, and which it may look at."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from cluster.artifacts import ConfigError, Draft
from cluster.catalog.dataset import Dataset, split_lines
from cluster.rows import digest

ValPolicy = Literal["none", "min", "full"]
"""Validation rows per class: none; min(shots, 4); all of the val split."""
Concepts = Literal["all", "IP", "OOP"]


@dataclass(frozen=True)
class Split:
    """Drawn rows, by class in order of label. The ids of fewer shots begin those of more shots."""

    train_ids: tuple[str, ...]
    val_ids: tuple[str, ...]
    lines: str
    """The drawn rows as jsonl."""
    shots: int
    seed: int
    val_policy: ValPolicy
    concepts: Concepts

    @property
    def hash(self) -> str:
        """32 hex digits over the jsonl: any other row, label or class name gives another hash."""
        return digest(self.lines).hex()

    def save_jsonl(self, draft: Draft, name: str) -> None:
        """Write the split beside what was learned from it."""
        draft.write_bytes(name, self.lines.encode())


def draw_shots(
    dataset: Dataset, shots: int, seed: int, val_policy: ValPolicy, concepts: Concepts
) -> Split:
    """Draw `shots` training rows per class without replacement, and validation rows by policy.

    The order within a class is that of a hash keyed by the dataset's split, class and seed, so it
    does not depend on the order of the rows. The test split is never touched.
    Raises ConfigError if shots < 1 or a class has fewer images than are asked for.
    """
    if shots < 1:
        raise ConfigError(f"shots: {shots}; allowed: 1 or more")
    per_class = {"none": 0, "min": min(shots, 4), "full": None}[val_policy]
    rows = dataset.rows
    if concepts != "all":
        rows = rows.filter(pc.field("group") == concepts)
    train = [row for ids in _by_class(dataset, rows, "train", seed, shots) for row in ids]
    val = [row for ids in _by_class(dataset, rows, "val", seed, per_class) for row in ids]
    drawn = rows.filter(pc.field("id").isin(pa.array([*train, *val], pa.string())))
    return Split(tuple(train), tuple(val), split_lines(drawn), shots, seed, val_policy, concepts)


def _by_class(
    dataset: Dataset, rows: pa.Table, split: str, seed: int, count: int | None
) -> Iterator[list[str]]:
    """The drawn ids of each class in order of label; count None takes all."""
    ids: dict[tuple[int, str], list[str]] = {}
    for row in rows.to_pylist():
        of_class = ids.setdefault((row["label"], row["class_name"]), [])
        if row["split"] == split:
            of_class.append(row["id"])
    for (_, name), available in sorted(ids.items()):
        if count is not None and len(available) < count:
            raise ConfigError(
                f"shots: {count} {split} images of class {name!r} are asked for, but dataset "
                f"{dataset.name!r} has {len(available)}; allowed: at most {len(available)}"
            )
        shuffled = sorted(
            (digest(dataset.split_hash, name, str(seed), row), row) for row in available
        )
        yield [row for _, row in shuffled[:count]]
