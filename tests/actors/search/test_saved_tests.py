"""Saved models on datasets that they have learned, and on others."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.features.encoder import view_tokens
from actors.pictures.decoded import pictures
from actors.search.fits import FIT
from actors.search.saved_models import saved_models
from actors.search.saved_tests import SavedEvaluator, SavedTest
from cluster.artifacts import draft
from cluster.catalog.dataset import Concept, Dataset
from cluster.errors import ConfigError
from models.backbones import load_clip
from models.methods import METHODS, load_adapted
from models.methods.adapted import Adapted
from models.task import Features, Task
from models.text_classifier import text_classifier
from tests.actors.small_world import CONCEPTS, make_dataset

NAMES = [concept.name for concept in CONCEPTS]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, toys: Dataset) -> Path:
    """Folders of models of the toys, by method."""
    folder = tmp_path_factory.mktemp("models")
    fitted("zero_shot", toys, NAMES).save(folder / "zero_shot")
    fitted("linear_probe", toys, NAMES).save(folder / "linear_probe")
    fitted("linear_probe", toys, NAMES[3:]).save(folder / "of OOP")
    fitted("fsnl", toys, NAMES[3:], epochs=4).save(folder / "fsnl")
    return folder


def fitted(method: str, toys: Dataset, names: list[str], **hyper: Any) -> Adapted:
    """A model of some of the toys' classes, their first label that of the first name."""
    clip, first = load_clip("tiny"), NAMES.index(names[0])
    rows = [row for row in toys.rows.to_pylist() if row["split"] == "train"]
    rows = [row for row in rows if row["class_name"] in names][::2]
    tokens = view_tokens(clip, pictures(toys.artifact, [row["id"] for row in rows], *clip.square))
    train = Features(tokens[None], torch.tensor([row["label"] - first for row in rows]))
    text = text_classifier(clip, names, [toys.template])
    task = Task("toys", names, toys.hint, toys.template, train, None, None, clip, text)
    return METHODS[method].fit(task, METHODS[method].Hyper(**hyper), seed=3)


def accuracies(folder: Path, dataset: Dataset) -> list[dict[str, Any]]:
    """Rows of accuracy."""
    (model,) = saved_models([str(folder)])
    tables = SavedEvaluator()(SavedTest(model, dataset.artifact.uri, "key"))
    rows = tables["rows"].to_pylist()
    assert tables["confusion"]["images"].to_pylist()
    return [row for row in rows if row["measure"] == "accuracy"]


@pytest.mark.parametrize("method", ["zero_shot", "linear_probe"])
def test_a_model_answers_the_test_pictures_of_its_dataset(
    models: Path, toys: Dataset, method: str
) -> None:
    rows = accuracies(models / method, toys)
    clip = load_clip("tiny")
    test = [row for row in toys.rows.to_pylist() if row["split"] == "test"]
    views = pictures(toys.artifact, [row["id"] for row in test], *clip.square)
    model = fitted(method, toys, NAMES)
    answers = model.logits(view_tokens(clip, views)).argmax(dim=1)
    right = answers == torch.tensor([row["label"] for row in test])
    assert rows[0]["label_space"] == "all"
    assert rows[0]["value"] == pytest.approx(right.double().mean().item())
    assert rows[0]["images"] == len(test)
    assert {row["method"] for row in rows} == {method}
    assert {(row["trained_on"], row["seed"], row["shots"]) for row in rows} == {("toys", 3, 0)}


def test_a_model_of_some_classes_is_asked_for_those(models: Path, toys: Dataset) -> None:
    assert {row["label_space"] for row in accuracies(models / "of OOP", toys)} == {"OOP"}
    assert {row["label_space"] for row in accuracies(models / "fsnl", toys)} == {"all", "OOP", "IP"}


def test_classes_are_found_by_their_names_in_any_order_and_case(
    models: Path, tmp_path: Path
) -> None:
    """Pictures follow from names, so another order of the classes changes no answer."""
    few = [Concept(name, "OOP") for name in ("Quokka", "cat", "A/B")]
    shift = make_dataset(tmp_path, concepts=tuple(few), name="shift")
    (row,) = accuracies(models / "linear_probe", shift)
    assert (row["dataset"], row["trained_on"], row["label_space"]) == ("shift", "toys", "all")
    assert row["method"] == "linear_probe (toys)"
    clip = load_clip("tiny")
    test = [row for row in shift.rows.to_pylist() if row["split"] == "test"]
    views = pictures(shift.artifact, [row["id"] for row in test], *clip.square)
    of_own = [NAMES.index(name) for name in ("quokka", "cat", "a/b")]
    model = load_adapted(models / "linear_probe", clip)
    logits = model.logits(view_tokens(clip, views))[:, of_own]
    right = logits.argmax(dim=1) == torch.tensor([row["label"] for row in test])
    assert row["value"] == pytest.approx(right.double().mean().item())


def test_open_models_answer_in_names_they_never_learned(models: Path, tmp_path: Path) -> None:
    concepts = (Concept("okapi", "OOP"), Concept("a lamp", "IP"), Concept("a spoon", "IP"))
    other = make_dataset(tmp_path, concepts=concepts, name="other")
    rows = {row["label_space"]: row for row in accuracies(models / "fsnl", other)}
    assert rows.keys() == {"all", "OOP", "IP"}
    assert rows["OOP"]["value"] == 1, "one class to choose from"
    with pytest.raises(
        ConfigError, match=r"linear_probe of 'toys' knows its own 6 classes alone, and not 'a lamp'"
    ):
        accuracies(models / "linear_probe", other)


def test_how_a_model_was_fitted_is_read_where_it_is_told(
    models: Path, toys: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "cell" / "7"
    fitted("zero_shot", toys, NAMES).save(folder)
    told = {
        "cell": "cell", "dataset": "toys", "name": "named", "method": "zero_shot",
        "concepts": "all", "shots": 16, "seed": 7, "split_hash": "ab", "hyper": {},
        "val_accuracy": 0.5, "val_loss": None, "wall_s": 1.0, "cpu_s": 1.0, "population": 1,
    }  # fmt: skip
    (folder / FIT).write_text(json.dumps(told))
    row = accuracies(folder, toys)[0]
    assert (row["method"], row["shots"], row["seed"]) == ("named", 16, 7)
    assert (row["split_hash"], row["val_accuracy"], row["val_policy"]) == ("ab", 0.5, None)
    for bad, words in ((told | {"shots": "many"}, "shots"), ({"cell": 1}, "tells no fit")):
        (folder / FIT).write_text(json.dumps(bad))
        with pytest.raises(ConfigError, match=words):
            accuracies(folder, toys)


def test_what_is_no_model_is_refused(models: Path, toys: Dataset, tmp_path: Path) -> None:
    teacher = draft(str(tmp_path), "teacher", "x", config=None, inputs={}, content={}).publish({})
    with pytest.raises(ConfigError, match=r"of kind 'teacher'; allowed: kinds 'adapted' and"):
        saved_models([teacher.uri])
    with pytest.raises(ConfigError, match=r"models: .*does not exist"):
        saved_models([str(tmp_path / "none")])


def test_the_same_files_are_the_same_model_wherever_they_lie(models: Path, tmp_path: Path) -> None:
    def hash_of(folder: Path) -> str:
        return saved_models([str(folder)])[0].hash

    shutil.copytree(models / "fsnl", tmp_path / "copy")
    assert hash_of(tmp_path / "copy") == hash_of(models / "fsnl") != hash_of(models / "zero_shot")
