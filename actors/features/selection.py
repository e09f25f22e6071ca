"""Which images are encoded: those that something can learn from or be measured on."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jsonargparse.typing import NonNegativeInt, PositiveInt

from cluster.catalog.dataset import Dataset
from cluster.catalog.splits import Concepts, ShotRule, draw_shots, labels_of
from cluster.rows import packed_ids


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Draws of shots, all of these together."""

    shots: list[PositiveInt] = field(default_factory=lambda: [1, 2, 4, 8, 16])
    """Training images per class."""
    seeds: list[NonNegativeInt] = field(default_factory=lambda: [0, 1, 2])
    rule: ShotRule = "hash"
    """As `shot_rule` of `jobs.search`."""
    concepts: list[Concepts] = field(default_factory=lambda: ["all"])
    """Classes that shots are drawn of; a dataset without such classes has no draw of them."""

    def ids(self, dataset: Dataset) -> set[str]:
        """Of all images that are drawn. Raises ConfigError as `draw_shots` does."""
        # By "hash" more shots begin with those of fewer.
        shots = [max(self.shots)] if self.rule == "hash" else self.shots
        return {
            row
            for concepts in self.concepts
            if labels_of(dataset, concepts)
            for count in shots
            for seed in self.seeds
            for row in draw_shots(dataset, count, seed, "none", concepts, self.rule).train_ids
        }


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is encoded besides all of val and test. Both are what they take at most."""

    draws: Draws | None = None
    """Of the training images of a dataset with classes, those of these draws; by default all.
    Discovery needs all, and a search no others than those that it draws."""
    imagined_per_class: PositiveInt | None = None
    """Imagined images of each class, the first in order of their ids, which says nothing of what
    they show; by default all."""

    def rows(self, dataset: Dataset, rows: pa.Table) -> pa.Table:
        """The selected ones of rows with `id` (PACKED), `split` and `label`, in their order.

        Imagined images are in order of their ids.
        """
        selected = np.ones(len(rows), dtype=bool)
        if self.draws and dataset.labelled:
            ids = pa.array(sorted(self.draws.ids(dataset)), pa.string())
            drawn = pc.is_in(rows["id"], packed_ids(ids))
            selected &= pc.or_(drawn, pc.not_equal(rows["split"], "train")).to_numpy()
        if self.imagined_per_class is not None:
            imagined = np.flatnonzero(pc.equal(rows["split"], "imagined").to_numpy())
            before = _earlier_of_their_kind(rows["label"].to_numpy()[imagined])
            selected[imagined[before >= self.imagined_per_class]] = False
        return rows if selected.all() else rows.filter(pa.array(selected))


def _earlier_of_their_kind(labels: np.ndarray) -> np.ndarray:
    """Of each place of (N,) how many earlier places have its label."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    earlier = np.empty(len(labels), dtype=np.int64)
    earlier[order] = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    return earlier
