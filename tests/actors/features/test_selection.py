"""Features of drawn images alone: what is in them, and who refuses to do with less."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.discovery.work import declared_works
from actors.features.encoder import EncoderConfig
from actors.features.plan import EVERYTHING, encoding_plan
from actors.features.selection import Draws, Selection
from actors.features.store import FeatureStore
from actors.pictures.base_set import BaseSetRows
from actors.pictures.places import texts_of_ids
from actors.search.cells import MethodConfig
from actors.search.evaluator import answers_on_test
from actors.search.runnable import runnable_cells
from actors.search.spaces import Range
from actors.search.tasks import Tasks, task_source
from actors.search.trials import fit_cell
from cluster.catalog.dataset import Dataset, open_dataset
from cluster.catalog.splits import Concepts, draw_shots
from cluster.errors import ConfigError
from jobs.dataset import DatasetConfig, dataset
from tests.actors.small_world import CONCEPTS, IMAGES, make_base_set, make_dataset
from tests.jobs.test_discover import WAY
from tests.jobs.test_producers import encode, without_classes

VIEWS = {"train": 1, "val": 1, "test": 1, "imagined": 1}
CLASSES: list[Concepts] = ["all", "OOP", "new"]
PROBE = {"probe": MethodConfig(method="linear_probe", shots=[1, 2])}


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="module")
def class_tokens(toys: Dataset, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    config = EncoderConfig(views=2, patches=False)
    return encode(tmp_path_factory.mktemp("class"), toys, None, 1000, config=config)


@pytest.fixture(scope="module")
def drawn(toys: Dataset, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    draws = Draws(shots=[1, 2], seeds=[0, 1])
    return encode(tmp_path_factory.mktemp("drawn"), toys, None, 1000, Selection(draws=draws))


def tasks(toys: Dataset, store: FeatureStore) -> Tasks:
    uris = [toys.artifact.uri], [store.artifact.uri]
    return Tasks(task_source(*uris, val_policy="min", templates="hand"))


def test_a_plan_has_what_is_drawn_and_all_of_val_and_test(toys: Dataset, tmp_path: Path) -> None:
    draws = Draws(shots=[1, 3], seeds=[0, 2], concepts=CLASSES)
    selection = Selection(draws=draws, imagined_per_class=1)
    base_set = BaseSetRows(make_base_set(tmp_path, per_class=2))
    plan, every = (
        texts_of_ids(encoding_plan(toys, base_set, VIEWS, which)).to_pylist()
        for which in (selection, EVERYTHING)
    )
    union = {
        row
        for concepts in CLASSES
        for shots in (1, 3)
        for seed in (0, 2)
        for row in draw_shots(toys, shots, seed, "none", concepts).train_ids
    }
    assert {row["id"] for row in plan if row["split"] == "train"} == union
    assert 3 * len(CONCEPTS) <= len(union) < IMAGES["train"] * len(CONCEPTS)
    first: dict[int, dict] = {}
    for row in every:
        if row["split"] == "imagined":
            first.setdefault(row["label"], row)
    assert [row for row in plan if row["split"] == "imagined"] == list(first.values())
    whole = ("val", "test")
    assert [r for r in plan if r["split"] in whole] == [r for r in every if r["split"] in whole]


def test_images_without_classes_are_all_encoded(tmp_path: Path) -> None:
    spec = without_classes(tmp_path / "files")
    finds = open_dataset(dataset(DatasetConfig(storage=str(tmp_path), **spec)).uri)
    plan = encoding_plan(finds, None, VIEWS, Selection(draws=Draws()))
    assert len(plan) == len(finds.rows) > 0


def test_a_search_on_other_draws_is_refused_before_it_begins(
    toys: Dataset, drawn: FeatureStore
) -> None:
    assert len(runnable_cells(tasks(toys, drawn), PROBE, [0, 1])) == 2
    with pytest.raises(ConfigError, match=r"^features: .* lack \d+ of 6 train images .*select"):
        runnable_cells(tasks(toys, drawn), PROBE, [0, 5])


def test_a_discovery_is_refused_before_it_begins(toys: Dataset, drawn: FeatureStore) -> None:
    with pytest.raises(ConfigError, match=r"^features: .*allowed: features made without select"):
        declared_works(tasks(toys, drawn), {"zsnl": WAY}, {}, [0])


def test_class_tokens_alone_are_those_of_all_tokens(
    toys: Dataset, class_tokens: FeatureStore, tmp_path: Path
) -> None:
    every = encode(tmp_path, toys, None, 1000).features("train")
    alone = class_tokens.features("train")
    assert alone.stored.shape[2] == 1
    assert torch.equal(alone.copied().tokens, every.without_patches)


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("imaginefsl", {}),
        ("imaginefsl_lora", {}),
        ("fsnl", {"hyper": {"adapted_weight": 0.5}}),
        ("fsnl", {"space": {"adapted_weight": Range(low=0, high=1)}}),
    ],
)
def test_methods_that_read_patches_are_refused_without_them(
    toys: Dataset, class_tokens: FeatureStore, method: str, fields: dict[str, Any]
) -> None:
    own = {"way": MethodConfig(method=method, shots=[1], **fields)}
    with pytest.raises(ConfigError, match=r"^methods.way: reads the tokens of .*encoder\.patches"):
        runnable_cells(tasks(toys, class_tokens), own, [0])


def test_methods_that_read_the_class_token_alone_learn_without_patches(
    toys: Dataset, class_tokens: FeatureStore
) -> None:
    source = tasks(toys, class_tokens)
    own = {"probe": PROBE["probe"], "fsnl": MethodConfig(method="fsnl", shots=[2])}
    for cell in runnable_cells(source, own, [0]):
        ((model, _),) = fit_cell(source, cell, 0, [{}], None)
        assert model
        assert answers_on_test(model, source.encoded["toys"], ["all"])


def test_mean_shift_is_refused_without_patches(toys: Dataset, class_tokens: FeatureStore) -> None:
    way = dataclasses.replace(WAY, clustering=dataclasses.replace(WAY.clustering, way="mean_shift"))
    with pytest.raises(ConfigError, match=r"clustering\.way: reads the tokens of patches"):
        declared_works(tasks(toys, class_tokens), {"zsnl": way}, {}, [0])
