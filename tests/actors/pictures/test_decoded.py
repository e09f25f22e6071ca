"""Methods that read pictures get those of their task, and are tested on those of the test split."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from actors.pictures.codec import decode_rgb, resized_square
from actors.pictures.decoded import pictures
from actors.search.cells import Cell, MethodConfig, declared_cells
from actors.search.evaluator import answers_on_test, label_spaces
from actors.search.fits import keep
from actors.search.runnable import require_pictures
from actors.search.tasks import Tasks, TaskSource
from actors.search.trials import fit_cell, fit_of
from cluster.artifacts import Artifact
from cluster.errors import ConfigError
from models.backbones import load_clip
from models.methods import load_adapted
from tests.actors.small_world import (
    CONCEPTS,
    METHODS,
    SMALL_ADAPTER,
    make_base_set,
    make_dataset,
    make_features,
    picture,
)

QUICK = {"lora_steps": 2, "head_steps": 4, "batch_real": 4, "batch_imagined": 2}
LORA = {
    "clip-lora": MethodConfig(
        method="clip_lora", shots=[2], concepts="OOP", hyper={"steps": 2, "batch": 4, "lr": 0.01}
    ),
    "imaginefsl-lora": MethodConfig(
        method="imaginefsl_lora", shots=[2], hyper={**QUICK, "adapter": SMALL_ADAPTER}
    ),
}


@pytest.fixture(scope="module")
def base_set(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_base_set(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tasks(base_set: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    folder = tmp_path_factory.mktemp("toys")
    dataset = make_dataset(folder)
    features = make_features(folder, dataset, base_set=base_set)
    uris = (dataset.artifact.uri,), (features.uri,)
    return Tasks(TaskSource(*uris, None, "min", "hand", base_set=base_set.uri))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def cell(name: str) -> Cell:
    (declared,) = declared_cells(["toys"], {name: LORA[name]}, {})
    return declared


def decoded(row: str, size: int) -> np.ndarray:
    return resized_square(decode_rgb(picture(row)), size).transpose(2, 0, 1)


def test_pictures_come_in_the_order_asked_for_and_are_decoded_once(
    tasks: Tasks, tmp_path: Path
) -> None:
    dataset = tasks.encoded["toys"].dataset
    ids = dataset.rows["id"].to_pylist()[::-7]
    pixels = pictures(dataset.artifact, ids, 24)
    assert np.array_equal(pixels.numpy(), np.stack([decoded(row, 24) for row in ids]))
    (file,) = tmp_path.glob("cache/*/*")
    before = file.stat().st_mtime_ns
    assert torch.equal(pictures(dataset.artifact, ids, 24), pixels)
    assert file.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="lacks 1 of 1 pictures"):
        pictures(dataset.artifact, ["nobody"], 24)


def test_a_task_has_the_pictures_of_its_images(tasks: Tasks) -> None:
    this_cell = cell("imaginefsl-lora")
    split = tasks.split(this_cell, seed=0)
    assert split
    task = tasks.task(this_cell, split)
    assert task.train.images is not None
    assert task.train.images.shape == (2 * len(CONCEPTS), 3, 73, 73)
    assert np.array_equal(task.train.images[3].numpy(), decoded(split.train_ids[3], 73))
    assert task.val is not None
    assert np.array_equal(task.val.inputs("images")[1].numpy(), decoded(split.val_ids[1], 64))
    assert task.imagined is not None
    row = tasks.encoded["toys"].ids("imagined", "all")[-1]
    assert np.array_equal(task.imagined.inputs("images")[-1].numpy(), decoded(row, 73))
    tokens = declared_cells(["toys"], {"fsnl": METHODS["fsnl"]}, {})
    token_cell = next(tokens)
    assert tasks.task(token_cell, tasks.split(token_cell, 0)).train.images is None


def test_without_its_base_set_such_a_method_is_refused(tasks: Tasks, base_set: Artifact) -> None:
    blind = Tasks(replace(tasks.source, base_set=None))
    with pytest.raises(ConfigError, match="base_set: None; allowed, for a method that learns on"):
        require_pictures(blind, cell("clip-lora"))
    require_pictures(tasks, cell("clip-lora"))


@pytest.mark.parametrize("name", LORA)
def test_a_kept_model_is_tested_on_pictures(tasks: Tasks, tmp_path: Path, name: str) -> None:
    this_cell, encoded = cell(name), tasks.encoded["toys"]
    ((adapted, outcome),) = fit_cell(tasks, this_cell, 0, [{}], {})
    assert adapted is not None
    keep(adapted, fit_of(tasks, this_cell, 0, adapted, outcome), str(tmp_path))
    loaded = load_adapted(tmp_path / this_cell.key / "0", load_clip("tiny"))
    spaces = label_spaces("all", loaded.open_vocabulary)
    of_spaces = answers_on_test(loaded, encoded, spaces)
    for space, in_space in of_spaces.items():
        counts = in_space.confusion
        rows = encoded.ids("test", space)
        seen = torch.from_numpy(np.stack([decoded(row, 64) for row in rows]))
        labels = encoded.of_concepts(encoded.store.features("test"), space).labels
        answers = adapted.logits(seen, encoded.names(space)).argmax(dim=1)
        assert int(counts.sum()) == len(rows)
        assert int(counts.trace()) == int((answers == labels).sum())
    assert list(of_spaces) == spaces
