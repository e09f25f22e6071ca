"""The shared schedule of forward passes, against the straightforward one."""

import pytest
import torch

from kernels.moments import moments
from models.building import clip_from_config
from models.clip import Clip
from models.dino_head import HeadConfig
from models.moment_adapter import AdapterConfig, MomentAdapter, draw_drop_path
from models.moment_dino import LossWeights, MomentDino, MomentDinoConfig

HEAD = HeadConfig(prototypes=12, hidden=16, bottleneck=8)
CONFIG = MomentDinoConfig(
    adapter=AdapterConfig(depth=2, inner=8, heads=2),
    dino_head=HEAD,
    ibot_head=HEAD,
    weights=LossWeights(dino=0.5, ibot=2.0, koleo=0.1),
)


@pytest.fixture
def parts() -> tuple[Clip, MomentDino, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    clip = clip_from_config(
        {
            "embed_dim": 16,
            "vision_cfg": {
                "image_size": 16, "patch_size": 4, "width": 16, "layers": 1, "head_width": 8,
            },
            "text_cfg": {"width": 8, "heads": 1, "layers": 1},
        }
    )  # fmt: skip
    masks = torch.rand(6, 16) < 0.3
    masks[::2] = False
    return clip, MomentDino(clip, CONFIG), torch.randn(6, 3, 16, 16), masks


def test_loss_is_the_weighted_sum(parts: tuple) -> None:
    clip, model, crops, masks = parts
    step = model(clip, crops, masks, 0.05)
    assert torch.allclose(step.loss, 0.5 * step.dino + 2.0 * step.ibot + 0.1 * step.koleo)


def test_sharing_tokens_changes_nothing(parts: tuple) -> None:
    """Every crop through the student's backbone gives the same moments as masked ones alone."""
    clip, model, crops, masks = parts
    patches = masks.flatten().nonzero().squeeze(1)
    whole = model.student(lambda token: clip.encode_tokens(crops, masks, token), patches)
    clean = clip.encode_tokens(crops)
    teacher = model.teacher(lambda _: clean, patches)
    step = model(clip, crops, masks, 0.05)
    assert torch.allclose(step.teacher.moments, teacher.moments, atol=1e-5)
    unmasked = ~masks.any(dim=1)
    assert torch.allclose(whole.moments[unmasked], teacher.moments[unmasked], atol=1e-5)
    expected = torch.autograd.grad(
        model._losses(whole, teacher, masks, 0.05).loss, model.student.mask_token
    )
    got = torch.autograd.grad(step.loss, model.student.mask_token)
    assert torch.allclose(got[0], expected[0], rtol=1e-4, atol=1e-6)


def test_fsdp_of_any_pytorch_finds_the_tensors_of_a_branch(parts: tuple) -> None:
    """Older ones look into tuples, not into dataclasses."""
    clip, model, crops, masks = parts
    teacher = model(clip, crops, masks, 0.05).teacher
    assert isinstance(teacher, tuple)
    assert all(isinstance(part, torch.Tensor) for part in teacher)


def test_only_the_student_is_trained(parts: tuple) -> None:
    clip, model, crops, masks = parts
    model(clip, crops, masks, 0.05).loss.backward()
    assert all(weight.grad is not None for weight in model.student.parameters())
    assert all(weight.grad is None for weight in model.teacher.parameters())


def test_a_batch_without_masks_trains_the_rest(parts: tuple) -> None:
    clip, model, crops, masks = parts
    step = model(clip, crops, torch.zeros_like(masks), 0.05)
    step.loss.backward()
    model.move_teacher(step, 0.9)
    assert step.ibot.item() == 0
    assert step.loss.isfinite()
    assert torch.equal(model.ibot_centre, torch.zeros(12))


def test_teacher_and_centres_are_moving_averages(parts: tuple) -> None:
    clip, model, crops, masks = parts
    with torch.no_grad():
        for weight in model.student.parameters():
            weight += 1
    before = model.teacher.adapter.blocks[0].mlp.fc1.weight.clone()
    step = model(clip, crops, masks, 0.05)
    model.move_teacher(step, 0.75)
    after = model.teacher.adapter.blocks[0].mlp.fc1.weight
    assert torch.allclose(after, before + 0.25, atol=1e-5)
    assert torch.allclose(model.dino_centre, 0.1 * step.teacher.dino.mean(dim=0), atol=1e-6)


def test_dropped_branches_are_left_out() -> None:
    torch.manual_seed(0)
    config = AdapterConfig(depth=1, inner=8, heads=2)
    adapter, tokens = MomentAdapter(16, config), torch.randn(3, 5, 16)
    drop_path = torch.ones(1, 2, 3)
    drop_path[:, :, 1] = 0
    out = adapter(tokens, drop_path)
    assert torch.equal(out[1], tokens[1])
    assert torch.allclose(out[[0, 2]], adapter(tokens)[[0, 2]])


def test_drop_path_keeps_the_expectation() -> None:
    config = AdapterConfig(drop_path=0.25)
    drop_path = draw_drop_path(4000, config, torch.Generator().manual_seed(0))
    assert drop_path.shape == (4, 2, 4000)
    assert drop_path.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert drop_path.mean().item() == pytest.approx(1.0, abs=0.02)


def test_heads_must_divide_the_inner_width() -> None:
    with pytest.raises(ValueError, match=r"adapter.heads: 5; allowed are divisors of inner \(8\)"):
        MomentAdapter(16, AdapterConfig(inner=8, heads=5))


def test_prototypes_keep_unit_length(parts: tuple) -> None:
    head = parts[1].student.dino_head
    cosines = head(moments(torch.randn(4, 17, 16)) * 100)
    assert cosines.abs().max() <= 1 + 1e-5
