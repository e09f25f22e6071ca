"""Whole jobs with a GPU, on local Ray, against the same on the CPU."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.curation.critic import Critic, CriticConfig
from actors.features.encoder import EncoderConfig
from actors.features.plan import encoding_plan
from actors.features.store import FeatureStore
from actors.pictures.places import texts_of_ids
from cluster.pool import Pool
from jobs.discover import discover_all
from jobs.encode import EncodeConfig, encode
from jobs.evaluate import EvaluateConfig, evaluate
from jobs.predict import main
from jobs.pretrain import PretrainConfig, pretrain
from jobs.search import SearchConfig, search
from models.backbones import load_clip
from models.methods.zero_shot import ZeroShot, ZeroShotHyper
from models.task import Features, Task
from models.text_classifier import text_classifier
from tests.actors.small_base_set import CONFIG, write_base_set, write_clip
from tests.actors.small_world import (
    METHODS,
    make_base_set,
    make_dataset,
    make_features,
    picture,
)
from tests.jobs import small_discovery

ROUNDING = pytest.mark.xfail(reason="bfloat16's rounding; see tests/gpu/test_precision.py")
"""It failed on an H100. On a CPU 3 of 20 seeds differ by more."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def losses(folder: Path, **changes: Any) -> list[float]:
    """Of every step of a small pretraining run with one worker."""
    settings = {name: changes.pop(name) for name in ("precision", "compile") if name in changes}
    teacher = pretrain(
        PretrainConfig(
            storage=str(folder),
            base_set=write_base_set(folder).uri,
            backbone=write_clip(folder),
            pretrainer=dataclasses.replace(CONFIG, **settings),
            **changes,
        )
    )
    rows = Path(teacher.uri, "metrics.jsonl").read_text().splitlines()
    return [json.loads(row)["loss"] for row in rows]


@pytest.fixture(scope="module")
def on_the_cpu(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> list[float]:
    found = losses(tmp_path_factory.mktemp("cpu"), pool=Pool(workers=1))
    assert len(found) == 12
    return found


@pytest.mark.parametrize(
    ("settings", "rounding"),
    [
        ({}, 1e-3),
        ({"compile": True}, 1e-3),
        pytest.param({"precision": "bf16"}, 3e-2, marks=ROUNDING),
    ],
)
def test_pretraining_has_the_losses_of_the_cpu(
    settings: dict[str, Any], rounding: float, on_the_cpu: list[float], tmp_path: Path
) -> None:
    """NCCL and FSDP2 with one worker."""
    found = losses(tmp_path, pool=Pool(workers=1, gpus=1), **settings)
    np.testing.assert_allclose(found, on_the_cpu, rtol=rounding)


def test_encoding(tmp_path: Path, local_ray: None) -> None:
    dataset, base_set = make_dataset(tmp_path, bad=2), make_base_set(tmp_path)
    stores = []
    for gpus in (0.0, 0.5):
        cfg = EncodeConfig(
            storage=str(tmp_path / f"gpus {gpus}"),
            datasets=[dataset.artifact.uri],
            base_set=base_set.uri,
            encoder=EncoderConfig(views=3, precision="fp32"),
            pool=Pool(gpus=gpus),
        )
        stores.append(FeatureStore(encode(cfg)[0].uri))
    for split in ("train", "val", "test", "imagined"):
        here, there = (store.features(split).copied().tokens.float() for store in stores)
        assert ((here - there).abs() > 2e-2).float().mean() < 1e-3
    assert [store.rejected for store in stores] == [2, 2]


def test_a_search_and_its_evaluation(tmp_path: Path, local_ray: None) -> None:
    dataset = make_dataset(tmp_path)
    features = make_features(tmp_path, dataset)
    tables = []
    for gpus in (0.0, 0.5):
        cfg = SearchConfig(
            storage=str(tmp_path / f"gpus {gpus}"),
            datasets=[dataset.artifact.uri],
            features=[features.uri],
            methods=METHODS,
            seeds=[0, 1],
            pool=Pool(gpus=gpus),
        )
        adapted = search(cfg)
        results = evaluate(
            EvaluateConfig(
                storage=cfg.storage,
                datasets=cfg.datasets,
                features=cfg.features,
                adapted=adapted.uri,
                pool=Pool(gpus=gpus),
            )
        )
        rows = results.read_table("rows").to_pylist()
        rows = [row for row in rows if row["measure"] == "accuracy"]
        tables.append({(r["method"], r["shots"], r["seed"], r["label_space"]): r for r in rows})
    assert tables[0].keys() == tables[1].keys()
    here, there = ([table[cell]["value"] for cell in sorted(tables[0])] for table in tables)
    differences = np.abs(np.subtract(here, there))
    assert np.mean(differences) < 0.1


def test_a_discovery(tmp_path: Path, local_ray: None) -> None:
    dataset, base_set = make_dataset(tmp_path), make_base_set(tmp_path)
    make_features(tmp_path, dataset, base_set=base_set)
    tables = []
    for gpus in (0.0, 0.5):
        cfg = small_discovery.config(
            tmp_path,
            f"gpus {gpus}",
            baselines=small_discovery.BASELINES,
            pool=Pool(workers=1, gpus=gpus),
        )
        rows = discover_all(cfg).read_table("metrics").to_pylist()
        key = ("method", "seed", "measure", "label_space")
        tables.append({tuple(row[k] for k in key): row["value"] for row in rows})
    assert tables[0].keys() == tables[1].keys()
    differences = [abs(tables[1][row] - value) for row, value in tables[0].items()]
    print(f"differences: mean {np.mean(differences):.3f}, largest {max(differences):.3f}")
    assert np.mean(differences) < 0.1


def test_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = load_clip("tiny")
    names, template = ["ant", "okapi"], "a photo of a {}."
    tokens = torch.empty(1, 0, clip.num_tokens, clip.embed_dim)
    nothing = Features(tokens, torch.empty(0, dtype=torch.int64))
    text = text_classifier(clip, names, [template])
    task = Task("toys", names, "toy", template, nothing, None, None, clip, text)
    ZeroShot.fit(task, ZeroShotHyper(), 0).save(tmp_path / "model")
    (tmp_path / "one.png").write_bytes(picture("one"))
    answers = []
    for device in ("cpu", "cuda", "auto"):
        main([str(tmp_path / "model"), str(tmp_path / "one.png"), "--device", device])
        answers.append(json.loads(capsys.readouterr().out))
    here, there, chosen = answers
    assert chosen == there
    assert there["names"] == here["names"]
    np.testing.assert_allclose(there["probabilities"], here["probabilities"], atol=0.02)


def test_a_critic(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    plan = texts_of_ids(encoding_plan(dataset, None, {"train": 1, "val": 1, "test": 1}))
    batch = {name: np.array(plan[name].to_pylist()) for name in plan.column_names}
    batch["text"] = batch["class_name"]
    config = CriticConfig(precision="fp32")
    here, there = (Critic(config, device)(batch)["score"] for device in ("cpu", "cuda"))
    np.testing.assert_allclose(here, there, atol=1e-4)
