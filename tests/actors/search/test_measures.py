"""Measures by hand, and the rows that an evaluator makes of them."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from actors.search.cells import declared_cells
from actors.search.evaluator import Evaluator
from actors.search.fits import MODELS, keep
from actors.search.measures import (
    MEASURES,
    Answers,
    Measure,
    accuracy,
    mean_per_class_accuracy,
    scores,
)
from actors.search.tables import fits_table
from actors.search.tasks import Tasks, TaskSource
from actors.search.trials import fit_cell, fit_of
from cluster.artifacts import draft
from tests.actors.small_world import METHODS, make_dataset, make_features


def answers(labels: list[int], predicted: list[int], classes: int) -> Answers:
    logits = torch.nn.functional.one_hot(torch.tensor(predicted), classes).float()
    return Answers(logits, torch.tensor(labels))


def test_a_confusion_counts_images_by_class_and_answer() -> None:
    found = answers([0, 0, 0, 2], [0, 1, 1, 2], 3)
    assert found.confusion.tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 1]]


def test_every_class_counts_the_same_and_an_empty_one_not_at_all() -> None:
    found = answers([0, 0, 0, 0, 2], [0, 0, 0, 1, 1], 3)
    assert accuracy(found) == 3 / 5
    assert mean_per_class_accuracy(found) == (3 / 4 + 0 / 1) / 2


def test_every_measure_is_taken_in_every_label_space() -> None:
    rows = scores({"all": answers([0, 1], [0, 0], 2), "IP": answers([0], [0], 1)})
    assert [(r["measure"], r["label_space"], r["value"], r["images"]) for r in rows] == [
        ("accuracy", "all", 0.5, 2),
        ("mean_per_class_accuracy", "all", 0.5, 2),
        ("accuracy", "IP", 1.0, 1),
        ("mean_per_class_accuracy", "IP", 1.0, 1),
    ]


def test_an_evaluator_takes_what_is_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset(tmp_path)
    features = make_features(tmp_path, dataset)
    source = TaskSource((dataset.artifact.uri,), (features.uri,), None, "min", "hand")
    tasks = Tasks(source)
    (cell,) = declared_cells(["toys"], {"zero-shot": METHODS["zero-shot"]}, {})
    ((model, outcome),) = fit_cell(tasks, cell, 0, [{}], None)
    assert model is not None
    out = draft(str(tmp_path), "adapted", "search", config={}, inputs={})
    fit = fit_of(tasks, cell, 0, model, outcome)
    keep(model, fit, out.file(MODELS))
    out.write_table("fits", fits_table(out.file(MODELS), [cell], [0]))
    adapted = out.publish({"fits": 1})
    spread: Measure[Answers] = Measure("spread", "spread", lambda a: a.logits.std().item(), unit="")
    monkeypatch.setitem(MEASURES, "spread", spread)
    tables = Evaluator(source, adapted.uri)(fit)
    rows = tables["rows"].to_pylist()
    assert [(row["label_space"], row["measure"]) for row in rows] == [
        (space, name) for space in ("all", "OOP", "IP") for name in MEASURES
    ]
    assert all(row["value"] > 0 for row in rows if row["measure"] == "spread")
    # The measures agree with the table of confusions, which has the widest label space.
    confusion = tables["confusion"].to_pylist()
    right = sum(r["images"] for r in confusion if r["class_name"] == r["predicted"])
    total = sum(r["images"] for r in confusion)
    values = {row["measure"]: row["value"] for row in rows if row["label_space"] == "all"}
    assert values["accuracy"] == right / total
    # Each class has four test images, so that the two are one number.
    assert values["mean_per_class_accuracy"] == pytest.approx(right / total, abs=1e-12)
    assert json.loads(rows[0]["hyper"]) == asdict(fit)["hyper"]
