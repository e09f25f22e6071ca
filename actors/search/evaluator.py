"""Evaluators: kept models on the test split, which is opened here and nowhere else."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from actors.pictures.decoded import pictures
from actors.search.tasks import EncodedDataset, Tasks, TaskSource
from actors.search.trials import Fit
from cluster.artifacts import Artifact, open_artifact
from cluster.catalog.splits import Concepts
from models.methods import load_adapted
from models.methods.adapted import Adapted

IMAGES_AT_ONCE = 1024
SCHEMAS = {
    "rows": pa.schema(
        [
            ("dataset", pa.string()),
            ("method", pa.string()),
            ("shots", pa.int32()),
            ("seed", pa.int32()),
            ("concepts", pa.string()),
            ("label_space", pa.string()),
            ("accuracy", pa.float64()),
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
            ("class_name", pa.string()),
            ("predicted", pa.string()),
            ("images", pa.int32()),
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
"""Tables of a results artifact: accuracy on test, in [0, 1]; test images by class and answer, in
the widest label space of each model; val accuracy by fusion weight."""


class Evaluator:
    """Rows of results from kept models; the CLIP and the features are opened once."""

    def __init__(self, source: TaskSource, adapted: str) -> None:
        """adapted: URI of the artifact that holds the models."""
        self.tasks = Tasks(source)
        self.adapted: Artifact = open_artifact(adapted, "adapted")

    def __call__(self, fit: Fit) -> dict[str, pa.Table]:
        """The rows of a fit's model in the tables of SCHEMAS.

        `rows` has one per label space that the model can answer in.
        """
        encoded = self.tasks.encoded[fit.dataset]
        folder = self.adapted.local_dir() / "models" / fit.cell / str(fit.seed)
        model = load_adapted(folder, self.tasks.clip)
        cell = {"dataset": fit.dataset, "method": fit.name, "shots": fit.shots, "seed": fit.seed}
        spaces = label_spaces(fit.concepts, model.open_vocabulary)  # type: ignore[arg-type]
        found = test_confusions(model, encoded, spaces)
        rows = []
        for space, counts in found.items():
            images = int(counts.sum())
            rows.append(
                {
                    **cell,
                    "concepts": fit.concepts,
                    "label_space": space,
                    "accuracy": int(counts.trace()) / images,
                    "images": images,
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
            )
        names = encoded.names(spaces[0])
        counts = found[spaces[0]]
        confusion = [
            {**cell, "label_space": spaces[0], "class_name": names[true], "predicted": names[said],
             "images": int(counts[true, said])}
            for true, said in counts.nonzero().tolist()
        ]  # fmt: skip
        curve = [
            {**cell, "fusion_weight": weight, "val_accuracy": accuracy}
            for weight, accuracy in model.card.selection.curve
        ]
        tables: dict[str, list[dict[str, Any]]]
        tables = {"rows": rows, "confusion": confusion, "curves": curve}
        return {name: pa.Table.from_pylist(tables[name], SCHEMAS[name]) for name in SCHEMAS}


def label_spaces(learned: Concepts, open_vocabulary: bool) -> list[Concepts]:
    """In which classes' names a model is tested, the widest first; learned: its own classes."""
    if not open_vocabulary:
        return [learned]
    return ["all", "base", "new"] if learned in ("base", "new") else ["all", "OOP", "IP"]


def test_confusions(
    model: Adapted, encoded: EncodedDataset, spaces: Sequence[Concepts]
) -> dict[Concepts, Tensor]:
    """(C, C) int64 test images by class and answer of the chosen head, for each label space.

    A label space is its C classes alone; one without classes is left out. The first one holds all
    the others. Each image is answered once, in the first: where a model answers in several label
    spaces, a name's logit is the same in all of them.
    """
    widest = spaces[0]
    test = encoded.of_concepts(encoded.store.features("test"), widest)
    if model.reads == "images":
        rows, size = encoded.ids("test", widest), model.clip.image_size
        test = replace(test, images=pictures(encoded.dataset.artifact, rows, size))
    seen, names, labels = test.seen(model.reads), encoded.names(widest), encoded.labels(widest)
    logits = torch.cat([model.logits(part, names) for part in seen.split(IMAGES_AT_ONCE)])
    found = {}
    for space in spaces:
        own = set(encoded.labels(space))
        columns = torch.tensor([i for i, label in enumerate(labels) if label in own])
        if len(columns):
            here = torch.isin(test.labels, columns)
            true = torch.searchsorted(columns, test.labels[here])
            said = logits[here][:, columns].argmax(dim=1)
            pairs = true * len(columns) + said
            counts = pairs.bincount(minlength=len(columns) ** 2)
            found[space] = counts.view(len(columns), len(columns))
    return found
