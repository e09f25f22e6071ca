"""What a GPU holds of a fit, and what its members take together. What is timed is printed."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from models.methods.imagine_training import ImagineFslHyper
from models.methods.imaginefsl import ImagineFsl
from models.moment_adapter import AdapterConfig, MomentAdapter, stacked_adapt
from models.precision import Precision, autocast
from models.task import Features, Task
from tests.models.methods.tasks import NAMES, task, tiny_clip

MEMBERS, IMAGES, TOKENS, DIM = 4, 128, 197, 512
REPEATS = 10


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_members_together_at_the_size_of_vit_b_16(precision: Precision) -> None:
    torch.manual_seed(0)
    config, device = AdapterConfig(), torch.device("cuda")
    adapter = MomentAdapter(DIM, config).to(device)
    states = [MomentAdapter(DIM, config).state_dict() for _ in range(MEMBERS)]
    stacked = {
        name: torch.stack([state[name] for state in states]).to(device).requires_grad_()
        for name in states[0]
    }
    tokens = torch.randn(IMAGES, TOKENS, DIM, device=device)
    incoming = torch.randn(MEMBERS, IMAGES, TOKENS, DIM, device=device)

    def together() -> Tensor:
        return stacked_adapt(stacked, tokens, config.heads)

    def one_by_one() -> Tensor:
        alone = ({name: p[m] for name, p in stacked.items()} for m in range(MEMBERS))
        return torch.stack([functional_call(adapter, one, (tokens,)) for one in alone])

    def computed(ways: Callable[[], Tensor]) -> list[Tensor]:
        with autocast(device, precision):
            outputs = ways()
        gradients = torch.autograd.grad(outputs.float(), list(stacked.values()), incoming)
        torch.cuda.synchronize()
        return [outputs, *gradients]

    rounding = 1e-3 if precision == "fp32" else 3e-2
    for got, expected in zip(computed(together), computed(one_by_one), strict=True):
        assert (got - expected).norm() <= rounding * expected.norm()
    seconds: dict[str, list[float]] = {"together": [], "one by one": []}
    for _ in range(REPEATS):
        for name, way in (("together", together), ("one by one", one_by_one)):
            started = time.perf_counter()
            computed(way)
            seconds[name].append(time.perf_counter() - started)
    ours, theirs = (statistics.median(seconds[name]) for name in seconds)
    print(f"{precision}: {ours * 1e3:.1f} ms together, {theirs / ours:.2f} times that one by one")


@pytest.mark.parametrize("members", [1, 3])
def test_a_fit_holds_its_batches_and_not_all_tokens(members: int) -> None:
    """Of some 200 MB of imagined tokens in the CPU's memory."""
    small, clip, images = task(), tiny_clip(), 370_000
    shape = (1, images, clip.num_tokens, clip.embed_dim)
    labels = torch.arange(images) % len(NAMES)
    imagined = Features(torch.randn(shape, dtype=torch.half), labels.to("cuda"))
    cell = _on_gpu(small, imagined)
    adapter = AdapterConfig(depth=1, inner=12, heads=2)
    hyper = ImagineFslHyper(adapter=adapter, head_steps=4, steps=3, batch_imagined=16)
    hypers = [replace(hyper, adapter_lr=lr) for lr in (1e-4, 1e-3, 1e-2)[:members]]
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    assert all(ImagineFsl.fit_many(cell, hypers, seed=0))
    held = torch.cuda.max_memory_allocated() - before
    print(f"{members} members: {held / 1e6:.1f} MB held")
    assert held < imagined.tokens.numel() * imagined.tokens.element_size() / 4


def _on_gpu(small: Task, imagined: Features) -> Task:
    def labelled(features: Features | None) -> Features | None:
        return features and replace(features, labels=features.labels.to("cuda"))

    train = labelled(small.train)
    assert train
    return replace(
        small,
        train=train,
        val=labelled(small.val),
        imagined=imagined,
        text=small.text.to("cuda"),
    )
