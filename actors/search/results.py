"""Tables of a "results" artifact."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from actors.search.fits import Fit
from actors.search.measures import Answers, scores
from cluster.catalog.dataset import Dataset
from cluster.catalog.splits import Concepts, ValPolicy, labels_of
from models.methods.adapted import Adapted

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
            ("trained_on", pa.string()),
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
was chosen on val, where `trained_on` is the dataset whose shots it has learned; test images by
class and answer, in the widest label space of each model, where a class is its label and
`class_name` and `predicted` only say its name; the measures of every head of models that have
several; val accuracy by fusion weight."""


def result_tables(
    fit: Fit,
    model: Adapted,
    dataset: Dataset,
    of_heads: Mapping[str, Mapping[Concepts, Answers]],
    origin: Mapping[str, Any],
) -> dict[str, pa.Table]:
    """The rows of one model on one dataset in the tables of SCHEMAS.

    `rows` has one per measure and label space that the model answered in. fit: how it was fitted,
    its `dataset` the one that it is tested on. of_heads: answers of every head by label space, the
    widest first. origin: columns of `rows` that are the same in all of them.
    """
    cell = {"dataset": dataset.name, "method": fit.name, "shots": fit.shots, "seed": fit.seed}
    answers = of_heads[model.card.selection.head]
    rows = [{**cell, **score, **origin} for score in scores(answers)]
    heads = [
        {**cell, "concepts": fit.concepts, "split_hash": fit.split_hash, "head": head, **score}
        for head, of_head in of_heads.items()
        if len(of_heads) > 1
        for score in scores(of_head)
    ]
    curve = [
        {**cell, "fusion_weight": weight, "val_accuracy": accuracy}
        for weight, accuracy in model.card.selection.curve
    ]
    tables: dict[str, Sequence[dict[str, Any]]]
    confusion = _confusion(cell, dataset, answers)
    tables = {"rows": rows, "confusion": confusion, "heads": heads, "curves": curve}
    return {name: pa.Table.from_pylist(tables[name], SCHEMAS[name]) for name in SCHEMAS}


def origin_of(
    fit: Fit, model: Adapted, val_policy: ValPolicy | None, templates: str, config_hash: str
) -> dict[str, Any]:
    """How a model came to be, the same in all its rows.

    val_policy: None where it is not known. templates: of a method that has none of its own.
    config_hash: of the artifact that holds it.
    """
    return {
        "concepts": fit.concepts,
        "split_hash": fit.split_hash,
        "val_policy": val_policy,
        "val_accuracy": fit.val_accuracy,
        "backbone": model.card.backbone,
        "trained_on": model.card.dataset,
        "template_set": fit.hyper.get("templates", templates),
        "config_hash": config_hash,
        "head": model.card.selection.head,
        "hyper": json.dumps(fit.hyper),
        "wall_s": fit.wall_s,
    }


def _confusion(
    cell: Mapping[str, Any], dataset: Dataset, answers: Mapping[Concepts, Answers]
) -> list[dict[str, Any]]:
    """In the widest label space."""
    space = next(iter(answers))
    labels, counts = labels_of(dataset, space), answers[space].confusion
    names = [dataset.concepts[label].name for label in labels]
    return [
        {**cell, "label_space": space, "label": labels[true], "class_name": names[true],
         "predicted_label": labels[answer], "predicted": names[answer],
         "images": int(counts[true, answer])}
        for true, answer in counts.nonzero().tolist()
    ]  # fmt: skip
