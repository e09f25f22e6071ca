from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from models.methods import METHODS
from models.methods.batches import endless_batches
from models.methods.imagine_model import SPREAD, ImagineModel, Pooled
from models.methods.imagine_training import ImagineFslHyper
from models.moment_adapter import AdapterConfig, MomentAdapter
from tests.models.methods.tasks import NAMES, features, task, tiny_clip

ADAPTER = AdapterConfig(depth=1, inner=12, heads=2)
HYPER = ImagineFslHyper(adapter=ADAPTER, head_steps=100, steps=20, adapter_lr=3e-3)
STILL = replace(HYPER, head_steps=0, steps=1, adapter_lr=1e-12)
IMAGINE = METHODS["imaginefsl"]


def test_untrained_the_text_head_is_zero_shot() -> None:
    cell, tokens = task(), features(3, 7).clean
    heads = IMAGINE.fit(cell, STILL, seed=0).heads(tokens)
    unit = normalize(tokens[:, 0].float(), dim=-1)
    torch.testing.assert_close(heads["text"], tiny_clip().logit_scale * unit @ cell.text.T)


def test_a_teacher_is_where_the_adapter_starts() -> None:
    torch.manual_seed(5)
    teacher = MomentAdapter(tiny_clip().embed_dim, ADAPTER).state_dict()
    prefixed = {f"adapter.{name}": t for name, t in teacher.items()} | {"mask_token": torch.ones(1)}
    for weights in (teacher, prefixed):
        tensors = IMAGINE.fit(task(), STILL, seed=0, teacher=weights).tensors()
        for name, tensor in teacher.items():
            torch.testing.assert_close(tensors[f"adapter.{name}"], tensor)


def test_a_teacher_of_another_size_is_refused() -> None:
    teacher = MomentAdapter(16, AdapterConfig(depth=2, inner=12, heads=2)).state_dict()
    with pytest.raises(ValueError, match=r"blocks\.1\.attn\.proj\.bias: expected none"):
        IMAGINE.fit(task(), HYPER, seed=0, teacher=teacher)


def test_imagined_images_change_what_is_learned() -> None:
    plain = IMAGINE.fit(task(), HYPER, seed=0).tensors()
    helped = IMAGINE.fit(task(imagined=True), HYPER, seed=0).tensors()
    assert not torch.equal(plain["visual_head.weight"], helped["visual_head.weight"])


def test_a_fit_is_the_same_whoever_has_pooled_the_imagined_images_before() -> None:
    shared = task(imagined=True)
    after_another = [IMAGINE.fit(shared, HYPER, seed=seed).tensors() for seed in (0, 1, 1, 0)]
    for seed, model in zip((0, 1, 1, 0), after_another, strict=True):
        alone = IMAGINE.fit(task(imagined=True), HYPER, seed=seed).tensors()
        assert all(torch.equal(model[name], alone[name]) for name in alone)


def test_imagined_images_that_are_all_drawn_are_pooled_once_for_an_adapter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared, pool_all = task(imagined=True), ImagineModel.pool_all
    assert shared.imagined is not None
    imagined = shared.imagined.tokens.flatten(0, 1)
    seen: list[int] = []

    def noted(model: ImagineModel, tokens: torch.Tensor) -> Pooled:
        for image in tokens:
            seen.extend((imagined == image).flatten(1).all(dim=1).nonzero().squeeze(1).tolist())
        return pool_all(model, tokens)

    monkeypatch.setattr(ImagineModel, "pool_all", noted)
    teacher = MomentAdapter(tiny_clip().embed_dim, ADAPTER).state_dict()
    for seed in (0, 1):
        IMAGINE.fit(shared, replace(STILL, head_steps=40), seed=seed, teacher=teacher)
    assert sorted(seen) == list(range(len(imagined)))


def test_imagined_images_alone_can_carry_the_heads() -> None:
    hyper = replace(HYPER, real_weight=0.0, steps=40)
    selection = IMAGINE.fit(task(shots=1, imagined=True), hyper, seed=0).card.selection
    assert selection.head_accuracy is not None
    assert selection.head_accuracy["visual"] > 0.6


def test_temperature_starts_as_told_and_never_exceeds_a_hundred() -> None:
    tensors = IMAGINE.fit(task(), replace(STILL, temperature=20.0), seed=0).tensors()
    assert tensors["log_temperature"].exp().item() == pytest.approx(20.0, rel=1e-4)
    tensors = IMAGINE.fit(task(), replace(HYPER, temperature=5000.0), seed=0).tensors()
    assert tensors["log_temperature"].exp().item() <= 100.001


def test_the_curve_states_accuracy_at_every_weight() -> None:
    curve = IMAGINE.fit(task(), HYPER, seed=0).card.selection.curve
    assert [weight for weight, _ in curve] == pytest.approx([i / 50 for i in range(51)])
    assert all(0 <= accuracy <= 1 for _, accuracy in curve)


def test_reports_come_at_every_evaluation_point() -> None:
    seen: list[dict[str, float]] = []
    IMAGINE.fit(task(), HYPER, seed=0, watch=seen.append)
    assert [metrics["step"] for metrics in seen] == [100, 105, 110, 115, 120]
    assert all(metrics.keys() == {"step", "loss", "val_accuracy", "val_loss"} for metrics in seen)


def test_prediction_in_parts_is_prediction_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ImagineModel(16, len(NAMES), ADAPTER, "fp32")
    tokens = features(4, 7).clean
    whole = model.predict(tokens)
    monkeypatch.setattr("models.methods.imagine_model.IMAGES_PER_PASS", 3)
    torch.testing.assert_close(model.predict(tokens), whole)


def test_every_row_comes_once_before_any_comes_twice() -> None:
    batches = endless_batches(10, 4, torch.Generator().manual_seed(0))
    rows = torch.cat([next(batches) for _ in range(5)])
    assert sorted(rows[:10].tolist()) == sorted(rows[10:].tolist()) == list(range(10))
    assert len(next(endless_batches(3, 64, torch.Generator()))) == 3
    with pytest.raises(ValueError, match="no training images"):
        next(endless_batches(0, 4, torch.Generator()))


def test_without_joint_steps_the_adapter_stays_as_it_started() -> None:
    torch.manual_seed(5)
    teacher = MomentAdapter(tiny_clip().embed_dim, ADAPTER).state_dict()
    tensors = IMAGINE.fit(task(), replace(HYPER, steps=0), seed=0, teacher=teacher).tensors()
    assert all(torch.equal(tensors[f"adapter.{name}"], t) for name, t in teacher.items())


def test_the_visual_head_starts_as_the_nearest_class_mean_by_cosine() -> None:
    """Of moments about the mean of all shots, in float64."""
    model = ImagineModel(16, len(NAMES), ADAPTER, "fp32")
    shots, others = features(4, 7), features(6, 8)
    pooled = model.pool_all(shots.clean)
    model.start_on(pooled, shots.labels)
    centre = pooled.moments.double().mean(dim=0)
    moments = pooled.moments.double() - centre
    classes = range(len(NAMES))
    means = torch.stack([moments[shots.labels == label].mean(dim=0) for label in classes])
    others_moments = model.pool_all(others.clean).moments.double() - centre
    cosines = normalize(others_moments, dim=1) @ normalize(means, dim=1).T
    visual, _ = model.predict(others.clean)
    assert torch.equal(visual.argmax(dim=1), cosines.argmax(dim=1))
    lengths = others_moments.norm(dim=1, keepdim=True) / moments.norm(dim=1).mean()
    torch.testing.assert_close(visual.double(), SPREAD * lengths * cosines, rtol=1e-4, atol=1e-4)


def test_a_head_that_starts_on_one_image_has_its_own_weights_for_other_classes() -> None:
    model = ImagineModel(16, len(NAMES), ADAPTER, "fp32")
    before = model.visual_head.weight.detach().clone()
    one = features(1, 7)
    model.start_on(model.pool_all(one.clean[:1]), one.labels[:1])
    after = model.visual_head.weight
    others = torch.arange(len(NAMES)) != one.labels[0]
    assert torch.equal(after[others], before[others])
    assert after.isfinite().all()
    assert (model.deviation == 1).all()
