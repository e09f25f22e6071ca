"""Few-shot splits: which rows of a dataset a method may learn from, and which it may look at."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from cluster.catalog.dataset import Concept, split_lines
from cluster.errors import ConfigError
from cluster.rows import digest

ValPolicy = Literal["none", "min", "full"]
"""Validation rows per class: none; min(shots, 4); all of the val split."""
Concepts = Literal["all", "IP", "OOP", "base", "new"]
"""Classes of a dataset: all; those in or out of CLIP's pre-training; its first or second half."""
ShotRule = Literal["hash", "coop", "published"]
"""How shots are drawn: in order of a hash; as CoOp draws them from a split file; or as a list says
that came with the dataset."""
VAL_SHOTS = 4
"""Validation rows per class at most, unless all are taken."""
IdsByLabel = Mapping[int, Sequence[str]]
"""Label to the ids of its rows."""


class Drawable(Protocol):
    """What shots are drawn from, such as a `cluster.catalog.dataset.Dataset`."""

    @property
    def name(self) -> str: ...
    @property
    def concepts(self) -> tuple[Concept, ...]: ...
    @property
    def rows(self) -> pa.Table: ...
    @property
    def rejected(self) -> pa.Table: ...
    @property
    def split_hash(self) -> str: ...
    def shot_list(self, shots: int, seed: int) -> Mapping[str, list[str]]: ...


@dataclass(frozen=True)
class Split:
    """Drawn rows, by class in order of label.

    By the rule "hash" the ids of fewer shots begin those of more shots.
    """

    train_ids: tuple[str, ...]
    val_ids: tuple[str, ...]
    lines: str
    """The drawn rows as jsonl."""
    shots: int
    seed: int
    val_policy: ValPolicy
    concepts: Concepts
    rule: ShotRule

    @property
    def hash(self) -> str:
        """32 hex digits over the jsonl: any other row, label or class name gives another hash."""
        return digest(self.lines).hex()


def labels_of(dataset: Drawable, concepts: Concepts) -> list[int]:
    """Labels of these classes, in order.

    base and new: as CoCoOp halves a dataset's classes (Zhou et al., 2022), in order of label, the
    middle one among the base classes.
    """
    labels = range(len(dataset.concepts))
    half = math.ceil(len(labels) / 2)
    halves = {"base": labels[:half], "new": labels[half:]}
    if concepts in halves:
        return list(halves[concepts])
    return [i for i, c in enumerate(dataset.concepts) if concepts in ("all", c.group)]


def draw_shots(
    dataset: Drawable,
    shots: int,
    seed: int,
    val_policy: ValPolicy,
    concepts: Concepts,
    rule: ShotRule = "hash",
) -> Split:
    """Draws `shots` training rows per class without replacement, and validation rows by policy.

    The test split is never touched. Rules:
    hash: the order within a class is that of a hash keyed by the dataset's split, class and seed,
    so it does not depend on the order of the rows.
    coop: what Dassl's generate_fewshot_dataset draws after random.seed(seed) from a split file, for
    each group (IP, OOP) by itself; a class with fewer images gives all that it has.
    published: the list of these shots and this seed that the dataset came with.
    Raises ConfigError if shots < 1, by "hash" if a class has fewer images than are asked for, by
    "coop" if there is no split file or a drawn image was rejected, by "published" if the list is
    missing, has no image of a class, or (with the policy "min") none to validate on.
    """
    if shots < 1:
        raise ConfigError(f"shots: {shots}; allowed: 1 or more")
    rows, labels = dataset.rows, labels_of(dataset, concepts)
    train, val = _RULES[rule](dataset, rows, labels, shots, seed, val_policy)
    train_ids = [row for label in labels for row in train.get(label, ())]
    val_ids = [row for label in labels for row in val.get(label, ())]
    shot_rows = rows.filter(pc.field("id").isin(pa.array([*train_ids, *val_ids], pa.string())))
    lines = split_lines(shot_rows)
    return Split(tuple(train_ids), tuple(val_ids), lines, shots, seed, val_policy, concepts, rule)


def _by_hash(
    dataset: Drawable,
    rows: pa.Table,
    labels: Sequence[int],
    shots: int,
    seed: int,
    val_policy: ValPolicy,
) -> tuple[IdsByLabel, IdsByLabel]:
    counts = {
        "train": shots,
        "val": {"none": 0, "min": min(shots, VAL_SHOTS), "full": None}[val_policy],
    }
    by_split: dict[str, IdsByLabel] = {}
    for split, count in counts.items():
        available = _ids(rows, split)
        ids_by_label = {}
        for label in labels:
            name, ids = dataset.concepts[label].name, available.get(label, [])
            if count is not None and len(ids) < count:
                raise ConfigError(
                    f"shots: {count} {split} images of class {name!r} are asked for, but dataset "
                    f"{dataset.name!r} has {len(ids)}; allowed: at most {len(ids)}"
                )
            shuffled = sorted(
                (digest(dataset.split_hash, name, str(seed), row), row) for row in ids
            )
            ids_by_label[label] = [row for _, row in shuffled[:count]]
        by_split[split] = ids_by_label
    return by_split["train"], by_split["val"]


def _by_coop(
    dataset: Drawable,
    rows: pa.Table,
    labels: Sequence[int],
    shots: int,
    seed: int,
    val_policy: ValPolicy,
) -> tuple[IdsByLabel, IdsByLabel]:
    # The rejected ones, too: they were in the list from which the published shots were drawn.
    rejected = dataset.rejected.append_column("id", pa.nulls(len(dataset.rejected), pa.string()))
    every = pa.concat_tables([rows, rejected.select(rows.schema.names)])
    by_split: dict[str, dict[int, list[dict[str, Any]]]] = {"train": {}, "val": {}}
    for group in sorted({dataset.concepts[label].group for label in labels}):
        group_rows = every.filter(pc.field("group") == group)
        generator = random.Random(seed)
        for split, count in (("train", shots), ("val", min(shots, VAL_SHOTS))):
            listed: dict[int, list[dict[str, Any]]] = {}
            split_rows = group_rows.filter(pc.field("split") == split)
            if split_rows["order"].null_count:
                raise ConfigError(
                    f"shot_rule: 'coop', but dataset {dataset.name!r} has no split file, whose "
                    "order it needs; allowed: hash"
                )
            for row in split_rows.sort_by("order").to_pylist():
                listed.setdefault(row["label"], []).append(row)
            for label, items in listed.items():
                sample = generator.sample(items, count) if len(items) >= count else items
                by_split[split][label] = sample
    train = _readable(dataset, by_split["train"])
    if val_policy == "min":
        return train, _readable(dataset, by_split["val"])
    return train, _ids(rows, "val") if val_policy == "full" else {}


def _readable(dataset: Drawable, by_label: Mapping[int, Sequence[dict[str, Any]]]) -> IdsByLabel:
    """The ids of drawn rows; ConfigError if one was rejected."""
    for row in (row for label_rows in by_label.values() for row in label_rows):
        if row["id"] is None:
            raise ConfigError(
                f"shot_rule: 'coop' draws {row['path']!r} of dataset {dataset.name!r}, which was "
                "rejected; allowed: a dataset in which that image is readable, or the rule hash"
            )
    return {label: [row["id"] for row in label_rows] for label, label_rows in by_label.items()}


def _as_published(
    dataset: Drawable,
    rows: pa.Table,
    labels: Sequence[int],
    shots: int,
    seed: int,
    val_policy: ValPolicy,
) -> tuple[IdsByLabel, IdsByLabel]:
    listed = dataset.shot_list(shots, seed)
    by_split: dict[str, dict[int, list[str]]] = {}
    for split, paths in listed.items():
        is_listed = pc.field("path").isin(pa.array(paths, pa.string()))
        by_split[split] = _ids(rows.filter(is_listed), split)
    val: dict[ValPolicy, IdsByLabel] = {
        "none": {},
        "min": by_split["val"],
        "full": _ids(rows, "val"),
    }
    for split, by_label in (("train", by_split["train"]), ("val", val[val_policy])):
        for label in labels:
            if not by_label.get(label) and (split == "train" or val_policy == "min"):
                raise ConfigError(
                    f"shot_rule: the published list of {shots} shots with seed {seed} has no "
                    f"readable {split} image of class {dataset.concepts[label].name!r}; allowed: "
                    "at least 1"
                )
    most = max(map(len, by_split["train"].values()))
    if most > shots:
        raise ConfigError(
            f"shot_rule: the published list of {shots} shots with seed {seed} has {most} images of "
            f"a class; allowed: at most {shots}"
        )
    return by_split["train"], val[val_policy]


_RULES = {"hash": _by_hash, "coop": _by_coop, "published": _as_published}


def _ids(rows: pa.Table, split: str) -> dict[int, list[str]]:
    """Label to ids of a split, in order of id."""
    by_label: dict[int, list[str]] = {}
    split_rows = rows.filter(pc.field("split") == split)
    for label, row in zip(
        split_rows["label"].to_pylist(), split_rows["id"].to_pylist(), strict=True
    ):
        by_label.setdefault(label, []).append(row)
    return by_label
