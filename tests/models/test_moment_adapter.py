"""Adapters stacked into one model against each by itself."""

import pytest
import torch
from torch import Tensor

from kernels.attention import attention
from models.moment_adapter import AdapterConfig, MomentAdapter, identity_state, stacked_adapt
from models.precision import Precision, autocast

MEMBERS, IMAGES, TOKENS, DIM = 3, 4, 9, 16
CONFIG = AdapterConfig(depth=2, inner=12, heads=2, mlp_ratio=1.5)


def stack() -> dict[str, Tensor]:
    """Parameters of different adapters, norms and biases moved from where they start."""
    torch.manual_seed(0)
    states = [MomentAdapter(DIM, CONFIG).state_dict() for _ in range(MEMBERS)]
    stacked = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    return {
        name: (parameter + 0.1 * torch.randn(parameter.shape)).requires_grad_()
        for name, parameter in stacked.items()
    }


def outputs_and_gradients(
    outputs: Tensor, stacked: dict[str, Tensor], incoming: Tensor
) -> list[Tensor]:
    return [outputs, *torch.autograd.grad(outputs, list(stacked.values()), incoming)]


@pytest.mark.parametrize(
    ("precision", "rounding"), [("fp32", 1e-5), ("bf16", 2e-2)]
)  # bias gradients are summed in another order
def test_members_together_are_each_alone(precision: Precision, rounding: float) -> None:
    stacked, tokens = stack(), torch.randn(IMAGES, TOKENS, DIM)
    incoming = torch.randn(MEMBERS, IMAGES, TOKENS, DIM)
    adapter = MomentAdapter(DIM, CONFIG)
    with autocast(tokens.device, precision):
        together = stacked_adapt(stacked, tokens, CONFIG.heads)
        alone = torch.stack(
            [
                torch.func.functional_call(
                    adapter, {name: p[member] for name, p in stacked.items()}, (tokens,)
                )
                for member in range(MEMBERS)
            ]
        )
    pairs = zip(
        outputs_and_gradients(together, stacked, incoming),
        outputs_and_gradients(alone, stacked, incoming),
        strict=True,
    )
    for got, expected in pairs:
        assert (got - expected).norm() <= rounding * expected.norm()


def test_attention_takes_members_and_images_as_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is fused: no transformation stands around it."""
    shapes: list[tuple[int, ...]] = []

    def noted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shapes.append(tuple(q.shape))
        return attention(q, k, v)

    monkeypatch.setattr("models.moment_adapter.attention", noted)
    stacked_adapt(stack(), torch.randn(IMAGES, TOKENS, DIM), CONFIG.heads)
    inner = CONFIG.inner // CONFIG.heads
    assert shapes == [(MEMBERS * IMAGES, CONFIG.heads, TOKENS, inner)] * CONFIG.depth


def _moves(parameter: Tensor) -> bool:
    return parameter.grad is not None and bool(parameter.grad.any())


def test_an_identity_changes_no_token_and_learns() -> None:
    torch.manual_seed(0)
    adapter, tokens = MomentAdapter(DIM, CONFIG), torch.randn(IMAGES, TOKENS, DIM)
    drawn = {name: tensor.clone() for name, tensor in adapter.state_dict().items()}
    adapter.load_state_dict(identity_state(drawn))
    assert torch.equal(adapter(tokens), tokens)
    adapter(tokens).square().sum().backward()
    learning = {name for name, p in adapter.named_parameters() if _moves(p)}
    assert learning == {
        f"blocks.{block}.{layer}.{kind}"
        for block in range(CONFIG.depth)
        for layer in ("attn.proj", "mlp.fc2")
        for kind in ("weight", "bias")
    }
    assert all(torch.equal(tensor, drawn[name]) for name, tensor in drawn.items())
