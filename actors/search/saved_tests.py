"""Saved models on datasets: each computes the test pictures by its own CLIP, so that it may have
been made elsewhere, or learned another dataset."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from actors.features.encoder import backbone, require_names
from actors.pictures.decoded import pictures
from actors.search.evaluator import heads_of_parts, in_spaces, label_spaces
from actors.search.measures import Answers
from actors.search.predictor import open_model, seen_by
from actors.search.results import origin_of, result_tables
from actors.search.saved_models import SavedModel, fit_of
from cluster.catalog.dataset import Dataset, open_dataset
from cluster.catalog.names import folded
from cluster.catalog.splits import Concepts, labels_of
from cluster.errors import ConfigError
from models.methods.adapted import Adapted, own_places

IMAGES_AT_ONCE = 128
NAMED = 3
"""Classes that an error names."""
UNKNOWN = "unknown"
"""Templates of a model that does not say."""


@dataclass(frozen=True)
class SavedTest:
    """One saved model on one dataset."""

    model: SavedModel
    dataset: str
    """URI."""
    key: str
    """A safe file name that no other test of a job has."""


@dataclass(frozen=True)
class LabelSpace:
    """In which classes of a dataset a model answers."""

    spaces: list[Concepts]
    """The widest first."""
    names: list[str] | None
    """Those of the widest, for a model that answers in any; None for one that knows its own."""
    places: list[int]
    """Of each class of the widest its place among the model's own, OTHER if it is none of them."""


class SavedEvaluator:
    """Rows of results from saved models; what was opened last stays open."""

    def __init__(self, download: bool = False, device: str = "cpu") -> None:
        """download: whether the CLIPs may be fetched that cards name. device: "cpu" or "cuda",
        where they answer."""
        load = partial(backbone, download=download, device=device)
        self._load = lru_cache(maxsize=1)(load)  # models of a search share theirs

    @torch.no_grad()
    def __call__(self, test: SavedTest) -> dict[str, pa.Table]:
        """The rows of a test in the tables of `actors.search.results.SCHEMAS`.

        A model on another dataset than it has learned is called METHOD (DATASET). Raises
        ConfigError if it is not complete, or cannot answer in the dataset's classes.
        """
        folder = test.model.folder()
        model, dataset = open_model(folder, self._load), _dataset(test.dataset)
        fit = fit_of(folder, model.card)
        if model.card.dataset != dataset.name:
            name = f"{fit.name} ({model.card.dataset})"
            fit = replace(fit, name=name, concepts="all", dataset=dataset.name)
        space = label_space(model, dataset, fit.concepts)  # type: ignore[arg-type]
        labels = labels_of(dataset, space.spaces[0])
        rows = rows_to_test(dataset, labels)
        inputs = _inputs(model, dataset, rows["id"].to_pylist())
        if space.names is None:
            of_heads = heads_of_parts(model, inputs, None, None)
            of_heads = {head: logits[:, space.places] for head, logits in of_heads.items()}
        else:
            of_heads = heads_of_parts(model, inputs, space.names, space.places)
        number = {label: place for place, label in enumerate(labels)}
        true = torch.tensor([number[label] for label in rows["label"].to_pylist()])
        answers = {
            head: in_spaces(Answers(logits, true), dataset, space.spaces)
            for head, logits in of_heads.items()
        }
        origin = origin_of(fit, model, test.model.val_policy, UNKNOWN, test.model.hash)
        return result_tables(fit, model, dataset, answers, origin)


def label_space(model: Adapted, dataset: Dataset, concepts: Concepts) -> LabelSpace:
    """The classes of a dataset that a model is asked for; names count in any case.

    concepts: what it has learned of its own dataset. A model that knows its own classes alone is
    asked for all of the dataset's, whose names have to be among its own; of its own dataset for the
    part that it has learned. ConfigError if they are not, or several classes could be meant.
    """
    own = [folded(name) for name in model.card.names]
    names = [concept.name for concept in dataset.concepts]
    try:
        if model.open_vocabulary:
            spaces = label_spaces(concepts, True)
            asked = [names[label] for label in labels_of(dataset, spaces[0])]
            require_names(model.clip, f"dataset {dataset.name}", asked)
            return LabelSpace(spaces, asked, own_places([folded(name) for name in asked], own))
        parts: tuple[Concepts, ...] = ("all", "OOP", "IP", "base", "new")
        for space in parts if model.card.dataset == dataset.name else parts[:1]:
            asked = [folded(names[label]) for label in labels_of(dataset, space)]
            if asked and set(asked) <= set(own):
                return LabelSpace([space], None, own_places(asked, own))
    except ValueError as error:
        whose = f"{model.card.method} of {model.card.dataset!r}"
        raise ConfigError(f"models: {whose}: {error}") from error
    others = [name for name in names if folded(name) not in own]
    raise ConfigError(
        f"models: {model.card.method} of {model.card.dataset!r} knows its own {len(own)} classes "
        f"alone, and not {', '.join(map(repr, others[:NAMED]))} of dataset {dataset.name!r}; "
        "allowed: a dataset whose classes it knows, or a method that answers in any"
    )


def rows_to_test(dataset: Dataset, labels: Sequence[int]) -> pa.Table:
    """`id` and `label` of the test images of these classes. ConfigError if there are none."""
    of_classes = pc.field("label").isin(pa.array(labels, pa.int32()))
    rows = dataset.rows.filter((pc.field("split") == "test") & of_classes)
    if not len(rows):
        raise ConfigError(
            f"datasets: {dataset.name!r} has no test image of {len(labels)} classes; allowed: one "
            "with test images"
        )
    return rows.select(["id", "label"])


def _inputs(model: Adapted, dataset: Dataset, rows: Sequence[str]) -> Iterator[Tensor]:
    squares, device = pictures(dataset.artifact, rows, *model.clip.square), model.clip.mean.device
    for part in squares.split(IMAGES_AT_ONCE):
        yield seen_by(model, part.to(device))


@lru_cache(maxsize=1)
def _dataset(uri: str) -> Dataset:
    return open_dataset(uri)
