"""The Python API for one process: what it reads, draws, refuses and prints."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from actors.local import (
    Encoded,
    accuracy,
    discover,
    embedded,
    fit,
    folder,
    load_clip,
    predict,
    table,
    unlabelled,
)
from actors.search.predictor import open_model
from cluster.catalog.dataset import open_dataset
from cluster.errors import ConfigError
from jobs.dataset import DatasetConfig, dataset
from models.clip import Clip
from models.discovery.clustering import ClusteringHyper
from models.discovery.naming import NamingHyper
from models.discovery.zsnl import LearningHyper
from models.methods.fsnl import FsnlHyper
from tests.actors.local.digits_folder import IMAGES, NAMES, write_digits

FAST = LearningHyper(rounds=1, fsnl=FsnlHyper(epochs=2))
EVERY_NAME = NamingHyper(min_margin=None, min_images=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data") / "digits")


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clip("tiny")


@pytest.fixture(scope="module")
def encoded(root: Path, clip: Clip) -> Encoded:
    return Encoded(clip, folder(str(root), hint="digit"), views=2)


def test_no_import_of_the_api_starts_or_loads_ray() -> None:
    line = "import sys, actors.local; print('ray' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("labelled", [True, False], ids=["folder", "images"])
def test_a_folder_has_the_rows_that_the_job_writes(
    root: Path, tmp_path: Path, labelled: bool
) -> None:
    """So shots, which depend on ids and the split's hash, are the same."""
    here = (folder if labelled else unlabelled)(str(root), name="garden", hint="digit")
    source: dict[str, Any] = {"folder": str(root)} if labelled else {"images": str(root)}
    cfg = DatasetConfig(storage=str(tmp_path), name="garden", hint="digit", **source)
    there = open_dataset(dataset(cfg).uri)
    assert here.rows.equals(there.rows)
    assert here.rejected.equals(there.rejected)
    assert len(here.rejected) == 1
    for field in ("concepts", "hint", "template", "split_hash", "prompts"):
        assert getattr(here, field) == getattr(there, field)
    ids = there.rows["id"].to_pylist()[:3]
    assert here.images(ids) == there.images(ids)


def test_an_embedded_dataset_has_the_rows_that_the_job_writes(tmp_path: Path) -> None:
    there = open_dataset(dataset(DatasetConfig(storage=str(tmp_path), name="digits")).uri)
    here = embedded("digits")
    assert here.rows.equals(there.rows)
    assert (here.split_hash, here.concepts) == (there.split_hash, there.concepts)
    assert (here.hint, here.template) == (there.hint, there.template)


def test_a_task_has_its_shots_and_other_seeds_draw_others(encoded: Encoded) -> None:
    task, other = encoded.task(2, seed=0), encoded.task(2, seed=1)
    assert task.names == list(NAMES)
    assert tuple(task.train.tokens.shape[:2]) == (2, 2 * len(NAMES))
    assert task.train.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert task.val is not None
    assert len(task.val) == 2 * len(NAMES)
    assert not task.train.clean.equal(other.train.clean)
    assert len(encoded.task(0).train) == 0


def test_more_shots_learn_more_than_none(encoded: Encoded) -> None:
    none = accuracy(fit("zero_shot", encoded.task(0)), encoded)
    some = accuracy(fit("linear_probe", encoded.task(6)), encoded)
    assert len(encoded.split("test")) == IMAGES["test"] * len(NAMES)
    assert none < 0.5 < some


def test_a_saved_model_says_the_same_of_files(root: Path, encoded: Encoded, tmp_path: Path) -> None:
    model = fit("linear_probe", encoded.task(6))
    model.save(tmp_path)
    files = [str(root / "test" / "one" / "0.png"), str(root / "train" / NAMES[0] / "notes.txt")]
    good, bad = predict(open_model(tmp_path), files, top=2)
    before = predict(model, files, top=2)[0]
    # Of tensors that lie otherwise in memory, kernels may add up in another order.
    assert good.pop("probabilities") == pytest.approx(before.pop("probabilities"), rel=1e-4)
    assert good == before
    assert len(good["names"]) == 2
    assert "not a readable image" in bad["reason"]


@pytest.mark.parametrize(
    ("method", "hyper", "said"),
    [
        ("linear", {}, "method: 'linear'; allowed: class_means"),
        ("clip_lora", {}, "method: 'clip_lora'; allowed"),
        ("fsnl", {"step": 1}, "hyper of fsnl: .*step"),
    ],
)
def test_a_bad_method_or_setting_is_named(
    encoded: Encoded, method: str, hyper: dict[str, int], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        fit(method, encoded.task(1), **hyper)


def test_what_cannot_be_drawn_or_held_is_refused(clip: Clip, encoded: Encoded) -> None:
    with pytest.raises(ConfigError, match="7 train images of class 'five' are asked for"):
        encoded.task(7)
    with pytest.raises(ConfigError, match="concepts: 'OOP'"):
        encoded.task(1, concepts="OOP")
    with pytest.raises(ConfigError, match="the free memory"):
        Encoded(clip, encoded.dataset, views=10**9).task(1)
    with pytest.raises(ConfigError, match="name: 'pets' is unknown"):
        embedded("pets")


def test_a_class_without_a_test_image_is_refused(root: Path, tmp_path: Path) -> None:
    write_digits(tmp_path)
    for path in (tmp_path / "test" / "zero").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(ConfigError, match="class 'zero' has 0 readable images in 'test'"):
        folder(str(tmp_path))


def test_unlabelled_images_are_clustered_and_named(root: Path, clip: Clip) -> None:
    heap = Encoded(clip, unlabelled(str(root), hint="digit"), views=1)
    way = ClusteringHyper(clusters=len(NAMES))
    found = discover(heap, NAMES, clustering=way, naming=EVERY_NAME, learning=FAST)
    images = sum(IMAGES.values()) * len(NAMES)
    assert len(found.ids) == len(found.names) == len(found.confidence) == images
    assert {cluster.name for cluster in found.clusters} == set(NAMES)
    assert set(found.names) <= set(NAMES)
    assert sum(cluster.images for cluster in found.clusters) == images
    assert found.model is not None
    (row,) = predict(found.model, [str(root / "test" / "one" / "0.png")])
    assert set(row["names"]) == set(NAMES)


def test_without_a_sure_name_nothing_is_learned(root: Path, clip: Clip) -> None:
    heap = Encoded(clip, unlabelled(str(root), hint="digit"), views=1)
    found = discover(
        heap, NAMES, clustering=ClusteringHyper(clusters=2), naming=NamingHyper(min_margin=2)
    )
    assert found.model is None
    assert set(found.names) == {""}
    with pytest.raises(ValueError, match="clusters: none"):
        discover(heap, NAMES, clustering=ClusteringHyper())


def test_a_table_is_aligned() -> None:
    rows = [{"method": "fsnl", "shots": 4, "%": 81.25}, {"method": "x", "shots": 16, "%": 7.0}]
    assert table(rows).splitlines() == [
        "method  shots     %",
        "fsnl        4  81.2",
        "x          16   7.0",
    ]
    assert table([]) == ""
