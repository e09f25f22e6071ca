from dataclasses import replace
from pathlib import Path

import pytest
import torch

from actors.features.store import FeatureStore
from actors.search.cells import Cell, declared_cells
from actors.search.fits import keep, read_fit
from actors.search.tasks import Tasks, TaskSource, pair
from actors.search.trials import fit_cell, fit_of
from cluster.errors import ConfigError
from models.backbones import load_clip
from models.methods import load_adapted
from tests.actors.small_world import CONCEPTS, METHODS, SMALL_ADAPTER, make_dataset, make_features


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TaskSource:
    storage = tmp_path_factory.mktemp("toys")
    dataset = make_dataset(storage)
    features = make_features(storage, dataset)
    return TaskSource((dataset.artifact.uri,), (features.uri,), None, "min", "hand")


@pytest.fixture(scope="module")
def tasks(source: TaskSource) -> Tasks:
    return Tasks(source)


def cell(name: str, shots: int) -> Cell:
    cells = declared_cells(["toys"], {name: METHODS[name]}, {})
    return next(cell for cell in cells if cell.shots == shots)


def test_a_task_holds_its_shots_and_never_the_test_split(source: TaskSource) -> None:
    tasks, here = Tasks(source), cell("imaginefsl-scratch", 4)
    split = tasks.split(here, seed=1)
    assert split
    store = tasks.encoded["toys"].store
    assert [store.index["train"]["id"].to_pylist().index(row) for row in split.train_ids]
    task = tasks.task(here, split)
    assert task.train.tokens.shape[:2] == (2, 4 * len(CONCEPTS))
    assert task.train.labels.bincount().tolist() == [4] * len(CONCEPTS)
    assert task.val is not None
    assert task.val.labels.bincount().tolist() == [4] * len(CONCEPTS)
    test = FeatureStore(source.features[0]).features("test").clean
    for features in (task.train, task.val):
        assert not (features.clean[:, None, 0] == test[None, :, 0]).all(dim=2).any()


def test_shots_are_drawn_by_the_rule_that_was_asked_for(source: TaskSource) -> None:
    tasks = Tasks(replace(source, shot_rule="coop"))
    with pytest.raises(ConfigError, match="'coop', but dataset 'toys' has no split file"):
        tasks.split(cell("imaginefsl-scratch", 4), seed=1)


def test_oop_concepts_have_labels_of_their_own(tasks: Tasks) -> None:
    here = cell("fsnl", 4)
    task = tasks.task(here, tasks.split(here, seed=0))
    assert task.names == [concept.name for concept in CONCEPTS if concept.group == "OOP"]
    assert task.train.labels.bincount().tolist() == [4, 4, 4]
    assert task.imagined is not None
    assert len(task.imagined) == 3 * 4


@pytest.mark.parametrize(
    ("name", "shots"),
    [("zero-shot", 0), ("linear-probe", 4), ("imaginefsl-scratch", 1), ("fsnl", 4)],
)
def test_a_kept_model_predicts_as_the_fitted_one(
    tasks: Tasks, tmp_path: Path, name: str, shots: int
) -> None:
    here = cell(name, shots)
    ((adapted, outcome),) = fit_cell(tasks, here, 0, [{}], {})
    assert adapted is not None
    fit = fit_of(tasks, here, 0, adapted, outcome)
    assert read_fit(str(tmp_path), here.key, 0) is None
    keep(adapted, fit, str(tmp_path))
    assert read_fit(str(tmp_path), here.key, 0) == fit
    loaded = load_adapted(tmp_path / here.key / "0", load_clip("tiny"))
    tokens = tasks.encoded["toys"].store.features("val").clean
    assert torch.equal(loaded.logits(tokens), adapted.logits(tokens))


def test_the_same_seed_gives_the_same_model(tasks: Tasks) -> None:
    here, values = cell("imaginefsl-scratch", 1), {"adapter_lr": 0.01}
    ((one, first),), ((two, second),) = (fit_cell(tasks, here, 2, [values], {}) for _ in range(2))
    assert replace(first, wall_s=0, cpu_s=0) == replace(second, wall_s=0, cpu_s=0)
    assert one is not None
    assert two is not None
    assert all(torch.equal(one.tensors()[name], two.tensors()[name]) for name in one.tensors())


@pytest.mark.parametrize("method", ["imaginefsl-scratch", "fsnl"])
def test_a_fit_that_nobody_watches_is_the_same_and_reports_nothing(
    tasks: Tasks, method: str
) -> None:
    ((one, watched),) = fit_cell(tasks, cell(method, 4), 2, [{}], {})
    ((two, unwatched),) = fit_cell(tasks, cell(method, 4), 2, [{}], None)
    assert watched.reports
    assert unwatched.reports == {}
    assert unwatched.val_accuracy == watched.val_accuracy
    assert one is not None
    assert two is not None
    assert all(torch.equal(one.tensors()[name], two.tensors()[name]) for name in one.tensors())


def test_a_population_has_an_outcome_for_each_member(tasks: Tasks) -> None:
    here = cell("imaginefsl-scratch", 4)
    members = [{"adapter_lr": 0.01}, {"adapter_lr": 1e-4}]
    found = [outcome for _, outcome in fit_cell(tasks, here, 0, members, {})]
    assert [outcome.state for outcome in found] == ["complete", "complete"]
    steps = list(found[0].reports)
    assert len(steps) == 5
    assert {outcome.population for outcome in found} == {2}
    bar = {steps[1]: 2.0}  # above any accuracy
    (gone, pruned), _ = fit_cell(tasks, here, 0, members, bar)
    assert gone is None
    assert pruned.state == "pruned"
    assert list(pruned.reports) == steps[:2]
    assert pruned.val_accuracy == pruned.reports[steps[1]] == found[0].reports[steps[1]]


def test_a_member_that_cannot_be_fitted_does_not_take_the_others_with_it(tasks: Tasks) -> None:
    """Its numbers end, as those of a learning rate without bounds do."""
    here = cell("imaginefsl-scratch", 4)
    members = [{"adapter_lr": lr} for lr in (1e38, 1e-4)]
    (none, bad), (one, good) = fit_cell(tasks, here, 0, members, {})
    assert (none, bad.state, bad.val_accuracy) == (None, "fail", None)
    assert "is not finite" in (bad.error or "")
    assert one is not None
    assert (good.state, good.error) == ("complete", None)


def test_what_a_method_refuses_is_no_result_of_a_search(tasks: Tasks) -> None:
    here = cell("imaginefsl-scratch", 4)
    members = [{"adapter": SMALL_ADAPTER | {"heads": heads}} for heads in (3, 1)]
    with pytest.raises(ConfigError, match=r"^toys-4shot-imaginefsl-scratch: adapter.heads: 3"):
        fit_cell(tasks, here, 0, members, {})


def test_features_find_their_dataset_whatever_the_order(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    features = make_features(tmp_path, dataset)
    other = make_dataset(tmp_path, {"train": 2, "val": 1, "test": 1})
    assert list(pair([dataset.artifact.uri], [features.uri])) == ["toys"]
    with pytest.raises(ConfigError, match="features: none is left for dataset"):
        pair([other.artifact.uri], [features.uri])
    with pytest.raises(ConfigError, match="belongs to no dataset"):
        pair([], [features.uri])
