"""Evaluators: kept models on the test split, which is opened here and nowhere else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import torch
from torch import Tensor

from actors.pictures.decoded import pictures
from actors.search.fits import Fit
from actors.search.measures import Answers
from actors.search.results import origin_of, result_tables
from actors.search.tasks import EncodedDataset, Tasks, TaskSource
from cluster.artifacts import Artifact, open_artifact
from cluster.catalog.dataset import Dataset
from cluster.catalog.splits import Concepts, labels_of
from models.methods import load_adapted
from models.methods.adapted import OTHER, Adapted

IMAGES_AT_ONCE = 1024


class Evaluator:
    """Rows of results from kept models; the CLIP and the features are opened once."""

    def __init__(self, source: TaskSource, adapted: str, device: str = "cpu") -> None:
        """adapted: URI of the artifact that holds the models. device: "cpu" or "cuda", where they
        answer."""
        self.tasks = Tasks(source)
        self.tasks.clip.to(device)
        self.adapted: Artifact = open_artifact(adapted, "adapted")

    def __call__(self, fit: Fit) -> dict[str, pa.Table]:
        """The rows of a fit's model in the tables of `actors.search.results.SCHEMAS`."""
        encoded = self.tasks.encoded[fit.dataset]
        folder = self.adapted.local_dir() / "models" / fit.cell / str(fit.seed)
        model = load_adapted(folder, self.tasks.clip)
        spaces = label_spaces(fit.concepts, model.open_vocabulary)  # type: ignore[arg-type]
        own = {label: place for place, label in enumerate(encoded.labels(fit.concepts))}  # type: ignore[arg-type]
        of_heads = heads_on_test(model, encoded, spaces, own)
        source, made = self.tasks.source, self.adapted.manifest.content_hash
        origin = origin_of(fit, model, source.val_policy, source.templates, made)
        return result_tables(fit, model, encoded.dataset, of_heads, origin)


def label_spaces(learned: Concepts, open_vocabulary: bool) -> list[Concepts]:
    """In which classes' names a model is tested, the widest first; learned: its own classes."""
    if not open_vocabulary:
        return [learned]
    return ["all", "base", "new"] if learned in ("base", "new") else ["all", "OOP", "IP"]


def answers_on_test(
    model: Adapted,
    encoded: EncodedDataset,
    spaces: Sequence[Concepts],
    own: Mapping[int, int] | None = None,
) -> dict[Concepts, Answers]:
    """Those of `heads_on_test` of the head that was chosen on val."""
    return heads_on_test(model, encoded, spaces, own)[model.card.selection.head]


def heads_on_test(
    model: Adapted,
    encoded: EncodedDataset,
    spaces: Sequence[Concepts],
    own: Mapping[int, int] | None = None,
) -> dict[str, dict[Concepts, Answers]]:
    """Answers of every head on the test images of each label space.

    A label space is its classes alone; one without classes is left out. The first one holds all
    the others. Each image is answered once, in the first: where a model answers in several label
    spaces, a name's logit is the same in all of them. own: label of each class that the model was
    taught, to its place among those; by default a class is found there by its name. Images go to
    the model's device IMAGES_AT_ONCE at a time, and the answers lie on the CPU.
    """
    widest = spaces[0]
    test = encoded.of_concepts(encoded.store.features("test"), widest)
    if model.reads == "images":
        rows, square = encoded.ids("test", widest), model.clip.square
        test = replace(test, images=pictures(encoded.dataset.artifact, rows, *square))
    places = None if own is None else [own.get(label, OTHER) for label in encoded.labels(widest)]
    device, parts = model.clip.mean.device, test.passes(IMAGES_AT_ONCE)
    inputs = (test.inputs(model.reads, images).to(device) for images in parts)
    of_heads = heads_of_parts(model, inputs, encoded.names(widest), places)
    return {
        head: in_spaces(Answers(values, test.labels), encoded.dataset, spaces)
        for head, values in of_heads.items()
    }


def heads_of_parts(
    model: Adapted,
    inputs: Iterable[Tensor],
    names: Sequence[str] | None,
    places: Sequence[int] | None,
) -> dict[str, Tensor]:
    """Logits (N, C) of every head on the CPU, from what the model reads, part by part.

    names, places: as `Adapted.heads` takes them.
    """
    logits = [
        {head: values.cpu() for head, values in model.heads(part, names, places).items()}
        for part in inputs
    ]
    return {head: torch.cat([part[head] for part in logits]) for head in logits[0]}


def in_spaces(
    answers: Answers, dataset: Dataset, spaces: Sequence[Concepts]
) -> dict[Concepts, Answers]:
    """answers: in the first of these label spaces."""
    labels = labels_of(dataset, spaces[0])
    of_spaces = {spaces[0]: answers} if labels else {}
    for space in spaces[1:]:
        members = set(labels_of(dataset, space))
        columns = torch.tensor([i for i, label in enumerate(labels) if label in members])
        if len(columns):
            here = torch.isin(answers.labels, columns)
            true = torch.searchsorted(columns, answers.labels[here])
            of_spaces[space] = Answers(answers.logits[here][:, columns], true)
    return of_spaces
