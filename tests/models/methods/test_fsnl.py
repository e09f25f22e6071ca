from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from models.methods import METHODS, load_adapted
from models.methods.fsnl import FsnlHyper
from models.methods.fsnl_loss import ImageLoss, NameLoss, other_class
from models.moment_adapter import AdapterConfig, MomentAdapter
from models.name_learner import NameLearner
from models.task import Features
from tests.models.methods.tasks import NAMES, accuracy, features, task, tiny_clip
from tests.parity_fsnl import check

GOLDEN = Path(__file__).parents[2] / "golden" / "fsnl"
HYPER = FsnlHyper(lr=0.01, epochs=40)
IP_NAMES = ["giraffe", "mew two"]
FSNL = METHODS["fsnl"]


def test_parity_with_the_original_in_every_quantity() -> None:
    errors = check(GOLDEN)
    assert len(errors) >= 15
    assert max(errors.values()) < 1e-4, errors


def test_names_that_were_not_learned_keep_their_logits_to_the_bit() -> None:
    tokens = features(3, 7).clean
    learned = FSNL.fit(task(), HYPER, seed=0)
    untouched = FSNL.fit(task(), FsnlHyper(epochs=1, lr=1e-12, weight_decay=0), seed=0)
    assert torch.equal(learned.logits(tokens, IP_NAMES), untouched.logits(tokens, IP_NAMES))
    assert not torch.allclose(learned.logits(tokens), untouched.logits(tokens))


def test_joint_label_space_has_learned_and_frozen_names() -> None:
    tokens = features(3, 7).clean
    adapted = FSNL.fit(task(), HYPER, seed=0)
    joint = adapted.logits(tokens, [*NAMES, *IP_NAMES])
    torch.testing.assert_close(joint[:, : len(NAMES)], adapted.logits(tokens))
    torch.testing.assert_close(joint[:, len(NAMES) :], adapted.logits(tokens, IP_NAMES))


def test_the_checkpoint_holds_name_embeddings_only() -> None:
    adapted = FSNL.fit(task(), HYPER, seed=0)
    assert sorted(adapted.tensors()) == [f"name_embedding.{i}" for i in range(len(NAMES))]
    width = tiny_clip().token_embedding(torch.zeros(1, 1, dtype=torch.int64)).shape[-1]
    lengths = [len(ids) for ids in NameLearner(tiny_clip(), NAMES, "animal").names]
    shapes = [tuple(tensor.shape) for tensor in adapted.tensors().values()]
    assert shapes == [(length, width) for length in lengths]


def test_clip_is_left_as_it_was() -> None:
    before = {name: t.clone() for name, t in tiny_clip().state_dict().items()}
    FSNL.fit(task(), HYPER, seed=0)
    assert all(torch.equal(before[name], t) for name, t in tiny_clip().state_dict().items())


@pytest.mark.parametrize("loss", ["full", "base", "caption", "clip"])
def test_one_class_alone_and_missing_captions_are_handled(loss: NameLoss) -> None:
    cell = task(classes=1, captions=True)
    captions = ("", "no name in it", *(cell.train.captions or ())[2:])
    captioned = Features(cell.train.tokens, cell.train.labels, captions)
    adapted = FSNL.fit(replace(cell, train=captioned), FsnlHyper(epochs=2, loss=loss), seed=0)
    assert all(tensor.isfinite().all() for tensor in adapted.tensors().values())


def loss_of(which: NameLoss, captions: tuple[str, ...] | None, images: int = 6) -> float:
    """Of the first shots, at the start."""
    train, learner = task().train, NameLearner(tiny_clip(), NAMES, "animal")
    captioned = Features(train.tokens, train.labels, captions)
    generator = torch.Generator().manual_seed(0)
    loss = ImageLoss(learner, captioned, NAMES, tiny_clip().logit_scale, which, generator)
    shots = torch.nn.functional.normalize(train.clean[:images, 0].float(), dim=-1)
    classes = learner.class_features()[None]
    return loss(learner.table[None], shots, torch.arange(images), classes).item()


def test_each_loss_is_learned_from_what_it_says() -> None:
    captions = task(captions=True).train.captions
    assert captions is not None
    full, base, caption, plain = (
        loss_of(which, captions) for which in ("full", "base", "caption", "clip")
    )
    assert full == pytest.approx((base + caption) / 2)
    assert len({full, base, caption, plain}) == 4
    assert loss_of("full", None) == loss_of("full", ("",) * len(captions)) == base
    with pytest.raises(ValueError, match="loss: 'caption', but no image has one"):
        loss_of("caption", None)


def test_the_plain_clip_loss_has_one_positive_per_image() -> None:
    images = 5  # one of each class, with the hand prompt: then it is the base loss
    assert loss_of("clip", None, images) == pytest.approx(loss_of("base", None, images), rel=1e-5)
    assert loss_of("clip", None, images + 1) != pytest.approx(loss_of("base", None, images + 1))


def test_names_of_fixed_length_start_at_random_and_are_saved(tmp_path: Path) -> None:
    still = FsnlHyper(fixed_length=True, n_ctx=3, epochs=1, lr=1e-12, weight_decay=0)
    start = torch.stack(list(FSNL.fit(task(), still, seed=0).tensors().values()))
    assert start.shape[:2] == (len(NAMES), 3)
    assert 0.01 < start.std() < 0.03
    cell, test = task(), features(20, 7)
    adapted = FSNL.fit(cell, replace(HYPER, fixed_length=True, n_ctx=3, lr=0.1), seed=0)
    assert accuracy(adapted.logits(test.clean), test.labels) > 0.5
    adapted.save(tmp_path)
    again = load_adapted(tmp_path, tiny_clip())
    assert torch.equal(again.logits(test.clean, IP_NAMES), adapted.logits(test.clean, IP_NAMES))
    assert torch.equal(again.logits(test.clean), adapted.logits(test.clean))


def test_without_clip_init_names_keep_their_lengths() -> None:
    clip_start = FSNL.fit(task(), FsnlHyper(epochs=1), seed=0).tensors()
    tensors = FSNL.fit(task(), FsnlHyper(epochs=1, clip_init=False), seed=0).tensors()
    for name, tensor in tensors.items():
        assert tensor.shape == clip_start[name].shape
        assert not torch.allclose(tensor, clip_start[name], atol=1e-3)


def test_imagined_images_count_as_much_as_told() -> None:
    cell = task(imagined=True)
    plain, none = (FSNL.fit(task(imagined=which), HYPER, seed=0) for which in (True, False))
    assert all(torch.equal(plain.tensors()[n], t) for n, t in none.tensors().items())
    alone = FSNL.fit(cell, replace(HYPER, imagined_weight=1.0), seed=0)
    mixed = FSNL.fit(cell, replace(HYPER, imagined_weight=0.5), seed=0)
    name = "name_embedding.0"
    assert len({m.tensors()[name].norm().item() for m in (plain, alone, mixed)}) == 3
    assert accuracy(alone.logits(cell.train.clean), cell.train.labels) > 0.5


def test_image_features_blend_in_the_teachers_adapted_class_token(tmp_path: Path) -> None:
    sizes = AdapterConfig(depth=1, inner=12, heads=2)
    torch.manual_seed(5)
    teacher = MomentAdapter(tiny_clip().embed_dim, sizes)
    weights, tokens = dict(teacher.state_dict()), features(3, 7).clean
    hyper = replace(HYPER, adapted_weight=0.25, adapter=sizes)
    adapted = FSNL.fit(task(imagined=True), hyper, seed=0, teacher=weights)
    plain, moved = (normalize(t[:, 0], dim=-1) for t in (tokens.float(), teacher(tokens.float())))
    image = normalize(0.75 * plain + 0.25 * moved, dim=-1)
    logits = (
        METHODS["fsnl"]
        .restore(
            replace(adapted.card, hyper={**adapted.card.hyper, "adapted_weight": 0.0}),
            {name: t for name, t in adapted.tensors().items() if name.startswith("name_")},
            tiny_clip(),
        )
        .logits(image[:, None])
    )
    torch.testing.assert_close(adapted.logits(tokens), logits)
    adapted.save(tmp_path)
    assert torch.equal(load_adapted(tmp_path, tiny_clip()).logits(tokens), adapted.logits(tokens))


@pytest.mark.parametrize(
    ("weight", "teacher", "message"),
    [
        (0.0, {}, "fsnl without adapted_weight learns without a teacher"),
        (0.5, None, r"adapted_weight: 0\.5; allowed without a teacher: 0"),
        (0.5, {}, r"blocks\.0\.attn\.proj\.bias: expected .*, found none"),
    ],
)
def test_a_teacher_is_neither_ignored_nor_missed(
    weight: float, teacher: dict[str, torch.Tensor] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FSNL.fit(task(), replace(HYPER, adapted_weight=weight), seed=0, teacher=teacher)


def test_contexts_come_from_another_class() -> None:
    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    for seed in range(20):
        places = other_class(labels, torch.Generator().manual_seed(seed))
        assert (labels[places] != labels).all()
    assert other_class(torch.zeros(3, dtype=torch.int64), torch.Generator()).tolist() == [0, 1, 2]


def test_reports_come_at_every_evaluation_point() -> None:
    seen: list[dict[str, float]] = []
    FSNL.fit(task(), HYPER, seed=0, watch=seen.append)
    assert [metrics["step"] for metrics in seen] == [10, 20, 30, 40]
    assert all(metrics.keys() == {"step", "loss", "val_accuracy", "val_loss"} for metrics in seen)
