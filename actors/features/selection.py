"""Which images are encoded: those that something can learn from or be measured on."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from jsonargparse.typing import NonNegativeInt, PositiveInt

from cluster.catalog.dataset import Dataset
from cluster.catalog.splits import Concepts, ShotRule, draw_shots, labels_of


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

    def rows(self, dataset: Dataset, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """The selected ones of rows with `id`, `split` and `label`, in their order, which for
        imagined images is that of their ids."""
        drawn = self.draws.ids(dataset) if self.draws and dataset.labelled else None
        imagined: Counter[int] = Counter()

        def selected(row: dict[str, Any]) -> bool:
            if row["split"] == "train":
                return drawn is None or row["id"] in drawn
            if row["split"] == "imagined":
                imagined[row["label"]] += 1
                most = self.imagined_per_class
                return most is None or imagined[row["label"]] <= most
            return True

        return [row for row in rows if selected(row)]
