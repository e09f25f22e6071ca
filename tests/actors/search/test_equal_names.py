"""Two classes of one name on test images, in the report, in a discovery: a class is its label."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from actors.discovery.discoverer import DiscoveryCell, DiscoveryConfig, discover
from actors.discovery.metrics import discovery_rows
from actors.search.cells import MethodConfig, declared_cells
from actors.search.evaluator import Evaluator, answers_on_test
from actors.search.fits import MODELS, keep
from actors.search.runnable import runnable_cells
from actors.search.tables import fits_table
from actors.search.tasks import Tasks, TaskSource
from actors.search.trials import fit_cell, fit_of
from cluster.artifacts import draft
from cluster.catalog.dataset import Concept
from cluster.errors import ConfigError
from jobs.report.sources import confusions
from jobs.report.statistics.classes import class_scores
from models.discovery.clustering import ClusteringHyper
from models.discovery.naming import NamedCluster, NamingHyper
from models.discovery.zsnl import LearningHyper
from models.methods.adapted import OTHER
from models.methods.fsnl import FsnlHyper
from tests.actors.small_world import make_dataset, make_features

CONCEPTS = tuple(
    Concept(name, group)
    for name, group in (("ant", "IP"), ("crane", "IP"), ("crane", "OOP"), ("okapi", "OOP"))
)
WAY = MethodConfig(method="fsnl", shots=[4], concepts="OOP", hyper={"epochs": 30, "lr": 0.1})


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    dataset = make_dataset(tmp_path, concepts=CONCEPTS)
    features = make_features(tmp_path, dataset)
    return Tasks(TaskSource((dataset.artifact.uri,), (features.uri,), None, "min", "hand"))


def test_answers_and_their_report_keep_classes_of_one_name_apart(
    tasks: Tasks, tmp_path: Path
) -> None:
    (cell,) = declared_cells(["toys"], {"fsnl": WAY}, {})
    ((model, outcome),) = fit_cell(tasks, cell, 0, [{}], None)
    assert model is not None
    out = draft(str(tmp_path), "adapted", "search", config={}, inputs={})
    fit = fit_of(tasks, cell, 0, model, outcome)
    keep(model, fit, out.file(MODELS))
    out.write_table("fits", fits_table(out.file(MODELS), [cell], [0]))
    tables = Evaluator(tasks.source, out.publish({"fits": 1}).uri)(fit)
    results = draft(str(tmp_path), "results", "results", config={}, inputs={})
    for name, table in tables.items():
        results.write_table(name, table)
    scores = class_scores(confusions(results.publish({})))
    assert {s.class_name for s in scores} == {"ant", "crane [1]", "crane [2]", "okapi"}
    assert [s.images for s in scores] == [4] * 4

    encoded = tasks.encoded["toys"]
    test = encoded.store.features("test")
    logits = model.logits(test.clean, encoded.names("all"), [OTHER, OTHER, 0, 1])
    answers = logits.argmax(dim=1)
    for score in scores:
        of_class = test.labels == score.label
        assert score.accuracy == (answers[of_class] == score.label).float().mean().item()
    rows = {(r["measure"], r["label_space"]): r["value"] for r in tables["rows"].to_pylist()}
    assert rows["accuracy", "all"] == (answers == test.labels).float().mean().item()


def test_the_crane_that_was_not_taught_is_clips_own(tasks: Tasks) -> None:
    (cell,) = declared_cells(["toys"], {"fsnl": WAY}, {})
    ((model, _),) = fit_cell(tasks, cell, 0, [{}], None)
    assert model is not None
    encoded = tasks.encoded["toys"]
    joint = answers_on_test(model, encoded, ["all", "IP"], {2: 0, 3: 1})
    zero_shot = model.logits(encoded.store.features("test").clean, ["ant", "crane"], [OTHER, OTHER])
    torch.testing.assert_close(joint["all"].logits[:, :2], zero_shot)


def test_the_name_of_a_known_class_is_not_right_for_its_twin(tasks: Tasks) -> None:
    learning = LearningHyper(rounds=1, fsnl=FsnlHyper(epochs=2))
    config = DiscoveryConfig(
        labelled=2, clustering=ClusteringHyper(clusters=4), naming=NamingHyper(), learning=learning
    )
    cell = DiscoveryCell("toys", "way", 0, config, None)
    discovered = discover(tasks, cell)
    assert discovery_rows(tasks, cell, discovered)
    for known, expected in ((1, {"IP": 0.5, "OOP": 0.0}), (None, {"IP": 0.0, "OOP": 0.5})):
        named = [
            NamedCluster(n.cluster, n.images, "crane", 1.0, 0.0, "text", known)
            for n in discovered.named
        ]
        rows = discovery_rows(tasks, cell, replace(discovered, named=named, learned=None))
        values = {r["label_space"]: r["value"] for r in rows if r["measure"] == "naming"}
        assert {space: values[space] for space in ("IP", "OOP")} == expected


def test_a_name_longer_than_clip_reads_is_refused_before_anything_is_fitted(
    tmp_path: Path,
) -> None:
    dataset = make_dataset(tmp_path, concepts=(*CONCEPTS[:3], Concept("okapi " * 80, "OOP")))
    features = make_features(tmp_path, dataset)
    source = TaskSource((dataset.artifact.uri,), (features.uri,), None, "min", "hand")
    with pytest.raises(ConfigError, match=r"dataset toys: class name 'okapi .* tokens; allowed 1"):
        runnable_cells(Tasks(source), {"fsnl": WAY}, [0])
