"""Every method learns on the GPU what it learns on the CPU, and its models are loaded anywhere."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from actors.search.cells import MethodConfig, declared_cells
from actors.search.fits import keep
from actors.search.tasks import Tasks, TaskSource
from actors.search.trials import fit_cell, fit_of
from models.backbones import load_clip
from models.methods import METHODS, load_adapted
from tests.actors.small_world import SMALL_ADAPTER, make_base_set, make_dataset, make_features

LORA = {"rank": 2, "dropout": 0.0, "precision": "fp32"}
HYPER: dict[str, dict[str, Any]] = {
    "imaginefsl": {"steps": 4, "adapter": SMALL_ADAPTER, "precision": "fp32"},
    "imaginefsl_lora": {"lora_steps": 3, "adapter": SMALL_ADAPTER, **LORA},
    "clip_lora": {"steps": 3, **LORA},
    "class_means": {"without_teacher": "random", "adapter": SMALL_ADAPTER, "precision": "fp32"},
    "fsnl": {"epochs": 4},
    "coop": {"epochs": 4},
    "cocoop": {"epochs": 2},
    "clip_adapter": {"epochs": 4},
    "tip_adapter_f": {"epochs": 4},
    "taskres": {"epochs": 4},
}
LARGEST_DIFFERENCE = 0.02
"""Of logits, relative to the largest one."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TaskSource:
    storage = tmp_path_factory.mktemp("toys")
    dataset, base_set = make_dataset(storage), make_base_set(storage)
    features = make_features(storage, dataset, base_set=base_set)
    places = ((dataset.artifact.uri,), (features.uri,), None)
    return TaskSource(*places, "min", "hand", base_set=base_set.uri)


@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_learns_what_the_cpu_learns(
    source: TaskSource, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shots = [0] if method == "zero_shot" else [4]
    config = MethodConfig(method=method, shots=shots, hyper=HYPER.get(method, {}))
    (cell,) = declared_cells(["toys"], {method: config}, {})
    logits: list[Tensor] = []
    for device in ("cpu", "cuda"):
        tasks = Tasks(source)
        ((adapted, outcome),) = fit_cell(tasks, cell, 0, [{}], None, device)
        assert adapted is not None, outcome.error
        assert all(tensor.device.type == device for tensor in adapted.tensors().values())
        keep(adapted, fit_of(tasks, cell, 0, adapted, outcome), str(tmp_path / device))
        loaded = load_adapted(tmp_path / device / cell.key / "0", load_clip("tiny"))
        task = Tasks(source).task(cell, tasks.split(cell, 0))
        seen = task.val or task.imagined
        assert seen
        images = seen.inputs(loaded.reads)
        here = loaded.logits(images)
        logits.append(here)
        on_gpu = load_adapted(tmp_path / device / cell.key / "0", load_clip("tiny").to("cuda"))
        assert all(tensor.device.type == "cuda" for tensor in on_gpu.tensors().values())
        for model, place in ((adapted, device), (on_gpu, "cuda")):
            there = model.logits(images.to(place)).cpu()
            assert (there - here).abs().max() <= LARGEST_DIFFERENCE * here.abs().max()
    by_cpu, by_gpu = logits
    assert (by_gpu - by_cpu).abs().max() <= LARGEST_DIFFERENCE * by_cpu.abs().max()


@pytest.mark.parametrize("method", ["imaginefsl", "fsnl", "coop"])
def test_members_learn_together_what_they_learn_alone(source: TaskSource, method: str) -> None:
    lr = "adapter_lr" if method == "imaginefsl" else "lr"
    config = MethodConfig(method=method, shots=[4], hyper=HYPER[method])
    (cell,) = declared_cells(["toys"], {method: config}, {})
    tasks, members = Tasks(source), [{lr: 1e-3}, {lr: 1e-2}]
    together = fit_cell(tasks, cell, 0, members, None, "cuda")
    assert [outcome.population for _, outcome in together] == [2, 2]
    for member, (adapted, _) in zip(members, together, strict=True):
        ((alone, _),) = fit_cell(tasks, cell, 0, [member], None, "cuda")
        assert alone is not None
        assert adapted is not None
        for name, tensor in alone.tensors().items():
            torch.testing.assert_close(adapted.tensors()[name], tensor, atol=1e-3, rtol=1e-3)
