"""Members of a population equal the same configurations trained alone."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models.methods import METHODS
from models.methods.adapted import Adapted
from models.methods.imagine_training import ImagineFslHyper
from models.methods.population import BatchedMethod, Population, members_at_once
from models.moment_adapter import AdapterConfig
from tests.models.methods.tasks import task
from tests.models.methods.test_methods import QUICK

CELL = task(imagined=True, captions=True)
ADAPTER = AdapterConfig(depth=1, inner=12, heads=2)
BASE: dict[str, Any] = QUICK | {
    "imaginefsl": ImagineFslHyper(adapter=ADAPTER, head_steps=30, steps=8, precision="fp32"),
    "fsnl": replace(QUICK["fsnl"], imagined_weight=0.2),
}
OTHERS: dict[str, list[dict[str, Any]]] = {
    "imaginefsl": [
        {"head_lr": 1e-2, "text_weight": 0.3, "steps": 3, "weight_decay": 0.1},
        {"head_steps": 20, "adapter_lr": 1e-3, "real_weight": 0.5, "temperature": 20.0},
        {"steps": 0, "head_lr_factor": 1.0},
    ],
    "fsnl": [{"lr": 0.1, "epochs": 15}, {"imagined_weight": 0.7, "momentum": 0.5}],
    "coop": [{"lr": 0.1, "epochs": 15}, {"weight_decay": 0.1, "momentum": 0.0}],
    "clip_adapter": [{"lr": 0.01, "epochs": 15}, {"ratio": 0.3, "weight_decay": 0.1}],
    "taskres": [{"lr": 0.1, "epochs": 15}, {"alpha": 2.0, "weight_decay": 0.0}],
    "tip_adapter_f": [{"lr": 1e-2, "epochs": 5}, {"alpha": 3.0, "beta": 2.0}],
}
LR = {"imaginefsl": "head_lr"}


def members(method: str) -> list[Any]:
    """The last one is stepped so far that it has no digits left."""
    base, lr = BASE[method], LR.get(method, "lr")
    changes = [{}, *OTHERS[method], {lr: 1e30}]
    return [replace(base, **change) for change in changes]


def logits(adapted: Adapted | None) -> torch.Tensor:
    assert adapted is not None
    assert CELL.val is not None
    return adapted.logits(CELL.val.clean)


@pytest.mark.parametrize("method", OTHERS)
def test_members_equal_the_same_configurations_trained_alone(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    *sound, _ = together = members(method)
    sizes: list[int] = []
    step = Population.step

    def noted(self: Population, *parts: Any) -> torch.Tensor:
        sizes.append(len(self.members))
        return step(self, *parts)

    monkeypatch.setattr(Population, "step", noted)
    models = METHODS[method].fit_many(CELL, together, seed=0)
    assert max(sizes) == len(together), "they were one batch"
    for hyper, adapted in zip(sound, models, strict=False):
        alone = METHODS[method].fit(CELL, hyper, seed=0)
        torch.testing.assert_close(logits(adapted), logits(alone), atol=1e-4, rtol=1e-4)
        assert adapted is not None
        assert adapted.card.hyper == alone.card.hyper
        assert adapted.card.selection.head == alone.card.selection.head
        assert alone.card.selection.val_accuracy == adapted.card.selection.val_accuracy


@pytest.mark.parametrize("method", [*OTHERS, "cocoop"])
def test_a_stopped_member_leaves_and_the_others_go_on(method: str) -> None:
    hyper = replace(BASE[method], epochs=8) if method == "cocoop" else BASE[method]
    seen: dict[int, list[float]] = {0: [], 1: []}

    def watch(member: int, metrics: dict[str, float]) -> bool:
        seen[member].append(metrics["step"])
        return member == 1 or len(seen[0]) < 2

    stopped, whole = METHODS[method].fit_many(CELL, [hyper, hyper], seed=0, watch=watch)
    assert stopped is None
    assert seen[0] == seen[1][:2]
    assert len(seen[1]) > 2
    alone = METHODS[method].fit(CELL, hyper, seed=0)
    torch.testing.assert_close(logits(whole), logits(alone), atol=1e-4, rtol=1e-4)


def test_members_of_other_shapes_are_in_batches_of_their_own() -> None:
    base = BASE["clip_adapter"]
    hypers = [base, replace(base, reduction=2), replace(base, lr=0.01), replace(base, batch=8)]
    models = METHODS["clip_adapter"].fit_many(CELL, hypers, seed=0)
    for hyper, adapted in zip(hypers, models, strict=True):
        alone = METHODS["clip_adapter"].fit(CELL, hyper, seed=0)
        torch.testing.assert_close(logits(adapted), logits(alone), atol=1e-4, rtol=1e-4)


def test_large_steps_are_not_batched() -> None:
    method, cpu = METHODS["fsnl"], torch.device("cpu")
    assert issubclass(method, BatchedMethod)
    assert members_at_once(method.member_bytes(CELL, BASE["fsnl"]), cpu) > 8
    assert members_at_once(128 * 197 * 512 * 4, cpu) == 1


def test_workers_that_share_a_gpu_batch_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=2**30)
    )
    for fraction, members in ((1.0, 64), (0.25, 16)):
        monkeypatch.setattr(
            torch.cuda, "get_per_process_memory_fraction", lambda device, share=fraction: share
        )
        assert members_at_once(2**22, torch.device("cuda")) == members
