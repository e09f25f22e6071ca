"""A search on local Ray is killed and goes on; what it cannot run it refuses in one line."""

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import optuna
import pyarrow as pa
import pytest

from actors.features.store import FeatureStore
from cluster.artifacts import Artifact, open_artifact
from cluster.content import plain
from cluster.errors import ConfigError
from cluster.pool import Pool
from jobs.evaluate import EvaluateConfig, evaluate
from jobs.search import search
from tests.actors.small_world import METHODS, make_dataset, make_features
from tests.command_line import run_module
from tests.jobs.small_search import config
from tests.noted_pool import NotedPool, noted_threads
from tests.processes import kill_worker, wait_until

FINISHED_BEFORE_THE_KILLS = (4, 6)
"""Trials; of the driver, and of a worker of the run that goes on."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dataset and features whose test split cannot be opened, for a search has no need of it."""
    folder = tmp_path_factory.mktemp("world")
    make_features(folder, make_dataset(folder))
    hide_test(folder)
    return folder


def hide_test(world: Path) -> None:
    """Has the manifest say that the split has an image more than its files."""
    tell_test_images(world, 1)
    (features,) = world.glob("features/*")
    with pytest.raises(ConfigError, match="bytes too few"):
        FeatureStore(str(features)).features("test")


def tell_test_images(world: Path, more: int) -> None:
    (path,) = world.glob("features/*/manifest.json")
    manifest = json.loads(path.read_text())
    manifest["extra"]["shards"]["test"]["count"] += more
    path.write_text(json.dumps(manifest))


def start(world: Path, storage: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.jobs.small_search", str(world), storage]
    return subprocess.Popen(command)


def finished_trials(folder: Path, storage: str) -> int:
    journals = list(folder.glob(f"{storage}/adapted/*/studies.journal"))
    return journals[0].read_text().count('"number"') if journals else 0


@pytest.fixture(scope="module")
def killed(world: Path) -> tuple[Artifact, dict[str, float]]:
    """A search whose driver is killed, and then a worker of the run that goes on; and the times of
    the trials finished before the first kill."""
    of_driver, of_worker = FINISHED_BEFORE_THE_KILLS
    first = start(world, "broken")
    wait_until(lambda: finished_trials(world, "broken") >= of_driver, first)
    first.kill()
    first.wait()
    (journal,) = world.glob("broken/adapted/*/studies.journal")
    assert not (journal.parent / "manifest.json").exists()
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    storage = optuna.storages.JournalStorage(backend)
    times = {
        f"{name.rpartition('-')[0]} {trial.user_attrs['number']}": trial.user_attrs["wall_s"]
        for name in optuna.get_all_study_names(storage)
        for trial in optuna.load_study(study_name=name, storage=storage).trials
    }
    assert len(times) >= of_driver
    second = start(world, "broken")
    wait_until(lambda: finished_trials(world, "broken") >= max(of_worker, len(times) + 1), second)
    kill_worker(second, "ray::ImplicitFunc.train", "ray::ImplicitFunc")
    assert second.wait() == 0
    return open_artifact(str(journal.parent), "adapted"), times


@pytest.fixture(scope="module")
def whole(world: Path, local_ray: None) -> Artifact:
    """By one worker."""
    return search(config(world, "whole", workers=1))


def without_times(table: pa.Table) -> list[dict]:
    return table.drop_columns(["wall_s", "cpu_s"]).to_pylist()


@pytest.mark.ray
def test_finished_trials_are_not_run_again(killed: tuple[Artifact, dict[str, float]]) -> None:
    artifact, before = killed
    rows = artifact.read_table("trials").to_pylist()
    after = {f"{row['cell']} {row['number']}": row["wall_s"] for row in rows}
    assert len(rows) == sum(len(m.shots) * m.trials for m in METHODS.values())
    assert {name: after[name] for name in before} == before


def test_a_killed_search_ends_as_an_unbroken_one(
    killed: tuple[Artifact, dict[str, float]], whole: Artifact
) -> None:
    artifact, _ = killed
    for table in ("trials", "fits"):
        assert without_times(artifact.read_table(table)) == without_times(whole.read_table(table))


def test_every_cell_has_its_models(whole: Artifact) -> None:
    fits = whole.read_table("fits").to_pylist()
    assert [(fit["name"], fit["shots"], fit["seed"]) for fit in fits] == [
        ("zero-shot", 0, 0),
        *[("linear-probe", 4, seed) for seed in (0, 1)],
        *[("imaginefsl-scratch", shots, seed) for shots in (1, 4) for seed in (0, 1)],
        *[("fsnl", 4, seed) for seed in (0, 1)],
    ]
    assert not Path(whole.uri, "work").exists()
    trials = whole.read_table("trials").to_pylist()
    assert {trial["state"] for trial in trials} <= {"complete", "pruned"}
    assert all(json.loads(trial["reports"]) for trial in trials)


def test_a_finished_search_is_done(whole: Artifact, world: Path) -> None:
    assert search(config(world, "whole")) == whole


def test_evaluate_scores_every_model_in_its_label_spaces(whole: Artifact, world: Path) -> None:
    (features,) = world.glob("features/*")
    tell_test_images(world, -1)
    cfg = EvaluateConfig(
        storage=str(world / "whole"),
        adapted=whole.uri,
        datasets=[str(path) for path in world.glob("dataset/*")],
        features=[str(features)],
        pool=Pool(workers=1),
    )
    results = evaluate(cfg)
    hide_test(world)
    saved = dataclasses.replace(cfg, adapted=None, features=[], models=[whole.uri])
    of_pictures = evaluate(saved)  # the features of this world are not those of its pictures
    columns = ["method", "shots", "seed", "measure", "label_space", "images"]
    assert of_pictures.read_table("rows", columns).equals(results.read_table("rows", columns))
    assert evaluate(saved) == of_pictures, "done before"
    measured = results.read_table("rows").to_pylist()
    assert {row["measure"] for row in measured} == {"accuracy", "mean_per_class_accuracy"}
    assert all(0 <= row["value"] <= 1 for row in measured)
    rows = [row for row in measured if row["measure"] == "accuracy"]
    images = {"all": 24, "OOP": 12, "IP": 12}
    assert all(row["images"] == images[row["label_space"]] for row in rows)
    spaces = {(row["method"], row["label_space"]) for row in rows}
    assert spaces == {
        *[(method, space) for method in ("zero-shot", "fsnl") for space in images],
        ("linear-probe", "all"),
        ("imaginefsl-scratch", "all"),
    }
    zero_shot, fsnl = (
        {row["seed"]: row["value"] for row in rows if (row["method"], row["label_space"]) == key}
        for key in (("zero-shot", "IP"), ("fsnl", "IP"))
    )
    assert set(fsnl) == {0, 1}
    assert set(zero_shot) == {0}
    counted: Counter[tuple[str, int]] = Counter()
    hits: Counter[tuple[str, int]] = Counter()
    for row in results.read_table("confusion").to_pylist():
        model = row["method"], row["seed"] + 2 * row["shots"]
        assert row["label_space"] == "all"
        counted[model] += row["images"]
        hits[model] += row["images"] * (row["class_name"] == row["predicted"])
    assert set(counted.values()) == {images["all"]}
    assert {m: hits[m] / images["all"] for m in hits} == {
        (row["method"], row["seed"] + 2 * row["shots"]): row["value"]
        for row in rows
        if row["label_space"] == "all"
    }
    curves = results.read_table("curves").to_pylist()
    assert {curve["method"] for curve in curves} == {"imaginefsl-scratch"}
    heads = results.read_table("heads").to_pylist()
    assert {(row["method"], row["head"]) for row in heads} == {
        ("imaginefsl-scratch", head) for head in ("fused", "visual", "text")
    }
    of_head = {(row["seed"], row["head"], row["measure"]): row["value"] for row in heads}
    for row in results.read_table("rows").to_pylist():
        if row["method"] == "imaginefsl-scratch":
            assert row["value"] == of_head[row["seed"], row["head"], row["measure"]]
    assert evaluate(cfg) == results, "done before: the test split is not opened again"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": []}, r"datasets: none; allowed: artifacts with their features, or a world"),
        ({"templates": "prompts"}, r"templates: 'prompts', but dataset .* came without prompts"),
        ({"datasets": ["nowhere"]}, r"dataset: '.*nowhere' does not exist"),
        ({"val_policy": "none"}, r"methods\.imaginefsl-scratch\.trials: 5 .* allowed: 0"),
        ({"storage": "/proc/none"}, r"storage: '/proc/none' cannot be written"),
    ],
)
def test_a_bad_setting_is_one_line(world: Path, change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        search(dataclasses.replace(config(world, "bad"), **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shots": [16], "trials": 0}, r"shots: 16 train images of class .* has 8; allowed"),
        ({"teacher": True}, r"teacher: none, but methods\.imaginefsl-scratch\.teacher is true"),
    ],
)
def test_a_cell_that_cannot_be_run_is_one_line(world: Path, change: dict, message: str) -> None:
    changed = dataclasses.replace(METHODS["imaginefsl-scratch"], **change)
    with pytest.raises(ConfigError, match=message):
        search(dataclasses.replace(config(world, "bad"), methods={"imaginefsl-scratch": changed}))


def command_line(job: str, settings: dict, folder: Path) -> subprocess.CompletedProcess[str]:
    recipe = folder / "recipe.json"
    recipe.write_text(json.dumps(settings))
    command = [sys.executable, "-m", f"jobs.{job}", "--config", str(recipe)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.ray
def test_a_setting_that_only_a_worker_can_judge_ends_the_search_and_is_no_trial(
    tmp_path: Path,
) -> None:
    """The features are those of a CLIP whose weights have changed since."""
    manifest = Path(make_features(tmp_path, make_dataset(tmp_path)).uri, "manifest.json")
    facts = json.loads(manifest.read_text())
    facts["extra"]["weights_hash"] = "of another day"
    manifest.write_text(json.dumps(facts))
    done = command_line("search", plain(config(tmp_path, "runs")), tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: features: made with weights of another day of 'tiny', which now")
    assert finished_trials(tmp_path, "runs") == 0
    assert not list(tmp_path.glob("runs/adapted/*/manifest.json"))


def test_a_bad_hyper_parameter_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    """Also in a search that is part of another job's settings."""
    settings = plain(config(tmp_path, "runs"))
    settings["methods"]["fsnl"]["hyper"]["epochs"] = 0.5
    settings["datasets"] = ["nowhere"]
    expected = "error: methods.fsnl.hyper.epochs: 0.5; allowed: int >0\n"
    for job, whole in (
        ("search", settings),
        ("evaluate", {"storage": str(tmp_path), "search": settings}),
    ):
        (recipe := tmp_path / f"{job}.json").write_text(json.dumps(whole))
        done = run_module(f"jobs.{job}", "--config", str(recipe))
        assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_trials_compute_on_all_their_cpus(world: Path, local_ray: None, tmp_path: Path) -> None:
    pool = NotedPool(workers=1, cpus=2, notes=str(tmp_path))
    methods = {"linear-probe": METHODS["linear-probe"]}
    search(dataclasses.replace(config(world, "threads"), methods=methods, seeds=[0], pool=pool))
    assert noted_threads(tmp_path) == [2]
