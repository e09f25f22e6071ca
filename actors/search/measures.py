"""What is measured on test images.

An entry of MEASURES is in the results, on the page and in the tables of a report, with no further
line anywhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

from torch import Tensor

Source = TypeVar("Source")
Unit = Literal["%", ""]


@dataclass(frozen=True)
class Measure(Generic[Source]):
    """One number that is taken of a `Source`, and how tables show it."""

    name: str
    """In artifacts and file names: [a-z0-9_]."""
    title: str
    """On pages."""
    value: Callable[[Source], float]
    unit: Unit = "%"
    """"%" for a share in [0, 1], which tables show times 100; "" for a number shown as it is."""
    note: str = ""
    """What a reader of its table has to know; whole sentences."""

    @property
    def scale(self) -> float:
        """What a value is multiplied by to be shown."""
        return 100 if self.unit == "%" else 1


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model answers on N test images, with the C classes of a label space to choose from."""

    logits: Tensor
    """(N, C), any float dtype."""
    labels: Tensor
    """(N,) int64, the true classes, in [0, C)."""

    @cached_property
    def confusion(self) -> Tensor:
        """(C, C) int64: images by class and answer."""
        classes = self.logits.shape[1]
        pairs = self.labels * classes + self.logits.argmax(dim=1)
        return pairs.bincount(minlength=classes**2).view(classes, classes)


def accuracy(answers: Answers) -> float:
    """Share of the images that are answered right."""
    counts = answers.confusion
    return int(counts.trace()) / int(counts.sum())


def mean_per_class_accuracy(answers: Answers) -> float:
    """Mean over classes of the share of a class's images that are answered right.

    A class without images does not count. Source: the protocol of Caltech-101, FGVC Aircraft,
    Oxford Pets and Oxford Flowers in Kornblith et al. (2019), Do Better ImageNet Models Transfer
    Better?
    """
    images = answers.confusion.sum(dim=1)
    right = answers.confusion.diagonal()[images > 0].double()
    return (right / images[images > 0]).mean().item()


def by_name(*measures: Measure[Source]) -> dict[str, Measure[Source]]:
    """A registry, in the order of pages."""
    return {measure.name: measure for measure in measures}


MEASURES: dict[str, Measure[Answers]] = by_name(
    Measure("accuracy", "accuracy", accuracy),
    Measure(
        "mean_per_class_accuracy",
        "mean per-class accuracy",
        mean_per_class_accuracy,
        note="Every class counts the same, however many test images it has.",
    ),
)
"""On test images."""


def scores(answers: Mapping[Any, Answers]) -> list[dict[str, Any]]:
    """All of MEASURES in every label space, as `measure_rows`; answers: by label space."""
    return [
        row
        for space, in_space in answers.items()
        for row in measure_rows(MEASURES, space, in_space, len(in_space.labels))
    ]


def measure_rows(
    measures: Mapping[str, Measure[Source]], space: str, source: Source, images: int
) -> list[dict[str, Any]]:
    """`measure`, `label_space`, `value` and `images` of each measure.

    space: the label space that the source is of. images: how many it is of.
    """
    return [
        {
            "measure": measure.name,
            "label_space": space,
            "value": measure.value(source),
            "images": images,
        }
        for measure in measures.values()
    ]
