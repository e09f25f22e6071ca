"""Evaluators: kept models on the test split, which is opened here and nowhere else."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import torch

from actors.pictures.decoded import pictures
from actors.search.fits import Fit
from actors.search.measures import Answers, scores
from actors.search.tasks import EncodedDataset, Tasks, TaskSource
from cluster.artifacts import Artifact, open_artifact
from cluster.catalog.splits import Concepts
from models.methods import load_adapted
from models.methods.adapted import OTHER, Adapted

IMAGES_AT_ONCE = 1024
SCHEMAS = {
    "rows": pa.schema(
        [
            ("dataset", pa.string()),
            ("method", pa.string()),
            ("shots", pa.int32()),
            ("seed", pa.int32()),
            ("concepts", pa.string()),
            ("measure", pa.string()),
            ("label_space", pa.string()),
            ("value", pa.float64()),
            ("images", pa.int32()),
            ("split_hash", pa.string()),
            ("val_policy", pa.string()),
            ("val_accuracy", pa.float64()),
            ("backbone", pa.string()),
            ("template_set", pa.string()),
            ("config_hash", pa.string()),
            ("head", pa.string()),
            ("hyper", pa.string()),
            ("wall_s", pa.float64()),
        ]
    ),
    "confusion": pa.schema(
        [
            ("dataset", pa.string()),
            ("method", pa.string()),
            ("shots", pa.int32()),
            ("seed", pa.int32()),
            ("label_space", pa.string()),
            ("label", pa.int32()),
            ("class_name", pa.string()),
            ("predicted_label", pa.int32()),
            ("predicted", pa.string()),
            ("images", pa.int32()),
        ]
    ),
    "heads": pa.schema(
        [
            ("dataset", pa.string()),
            ("method", pa.string()),
            ("shots", pa.int32()),
            ("seed", pa.int32()),
            ("concepts", pa.string()),
            ("head", pa.string()),
            ("measure", pa.string()),
            ("label_space", pa.string()),
            ("value", pa.float64()),
            ("images", pa.int32()),
            ("split_hash", pa.string()),
        ]
    ),
    "curves": pa.schema(
        [
            ("dataset", pa.string()),
            ("method", pa.string()),
            ("shots", pa.int32()),
            ("seed", pa.int32()),
            ("fusion_weight", pa.float64()),
            ("val_accuracy", pa.float64()),
        ]
    ),
}
"""Tables of a results artifact: every measure of `actors.search.measures` on test, of the head that
was chosen on val; test images by class and answer, in the widest label space of each model, where a
class is its label and `class_name` and `predicted` only say its name; the measures of every head of
models that have several; val accuracy by fusion weight."""


class Evaluator:
    """Rows of results from kept models; the CLIP and the features are opened once."""

    def __init__(self, source: TaskSource, adapted: str, device: str = "cpu") -> None:
        """adapted: URI of the artifact that holds the models. device: "cpu" or "cuda", where they
        answer."""
        self.tasks = Tasks(source)
        self.tasks.clip.to(device)
        self.adapted: Artifact = open_artifact(adapted, "adapted")

    def __call__(self, fit: Fit) -> dict[str, pa.Table]:
        """The rows of a fit's model in the tables of SCHEMAS.

        `rows` has one per measure and label space that the model can answer in.
        """
        encoded = self.tasks.encoded[fit.dataset]
        folder = self.adapted.local_dir() / "models" / fit.cell / str(fit.seed)
        model = load_adapted(folder, self.tasks.clip)
        cell = {"dataset": fit.dataset, "method": fit.name, "shots": fit.shots, "seed": fit.seed}
        spaces = label_spaces(fit.concepts, model.open_vocabulary)  # type: ignore[arg-type]
        own = {label: place for place, label in enumerate(encoded.labels(fit.concepts))}  # type: ignore[arg-type]
        of_heads = heads_on_test(model, encoded, spaces, own)
        answers = of_heads[model.card.selection.head]
        origin = self._origin(fit, model)
        rows = [{**cell, **score, **origin} for score in scores(answers)]
        labels, counts = encoded.labels(spaces[0]), answers[spaces[0]].confusion
        names = encoded.names(spaces[0])
        confusion = [
            {**cell, "label_space": spaces[0], "label": labels[true], "class_name": names[true],
             "predicted_label": labels[answer], "predicted": names[answer],
             "images": int(counts[true, answer])}
            for true, answer in counts.nonzero().tolist()
        ]  # fmt: skip
        drawn = {"concepts": fit.concepts, "split_hash": fit.split_hash}
        heads = [
            {**cell, **drawn, "head": head, **score}
            for head, of_head in of_heads.items()
            if len(of_heads) > 1
            for score in scores(of_head)
        ]
        curve = [
            {**cell, "fusion_weight": weight, "val_accuracy": accuracy}
            for weight, accuracy in model.card.selection.curve
        ]
        tables: dict[str, list[dict[str, Any]]]
        tables = {"rows": rows, "confusion": confusion, "heads": heads, "curves": curve}
        return {name: pa.Table.from_pylist(tables[name], SCHEMAS[name]) for name in SCHEMAS}

    def _origin(self, fit: Fit, model: Adapted) -> dict[str, Any]:
        """How the model came to be, the same in all its rows."""
        return {
            "concepts": fit.concepts,
            "split_hash": fit.split_hash,
            "val_policy": self.tasks.source.val_policy,
            "val_accuracy": fit.val_accuracy,
            "backbone": model.card.backbone,
            "template_set": fit.hyper.get("templates", self.tasks.source.templates),
            "config_hash": self.adapted.manifest.content_hash,
            "head": model.card.selection.head,
            "hyper": json.dumps(fit.hyper),
            "wall_s": fit.wall_s,
        }


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
    names, labels = encoded.names(widest), encoded.labels(widest)
    places = None if own is None else [own.get(label, OTHER) for label in labels]
    device, parts = model.clip.mean.device, test.passes(IMAGES_AT_ONCE)
    inputs = (test.inputs(model.reads, images).to(device) for images in parts)
    logits = [
        {head: values.cpu() for head, values in model.heads(part, names, places).items()}
        for part in inputs
    ]
    of_heads = {head: torch.cat([part[head] for part in logits]) for head in logits[0]}
    return {
        head: _in_spaces(Answers(values, test.labels), encoded, spaces)
        for head, values in of_heads.items()
    }


def _in_spaces(
    answers: Answers, encoded: EncodedDataset, spaces: Sequence[Concepts]
) -> dict[Concepts, Answers]:
    """answers: in the first of these label spaces."""
    labels = encoded.labels(spaces[0])
    of_spaces = {spaces[0]: answers} if labels else {}
    for space in spaces[1:]:
        members = set(encoded.labels(space))
        columns = torch.tensor([i for i, label in enumerate(labels) if label in members])
        if len(columns):
            here = torch.isin(answers.labels, columns)
            true = torch.searchsorted(columns, answers.labels[here])
            of_spaces[space] = Answers(answers.logits[here][:, columns], true)
    return of_spaces
