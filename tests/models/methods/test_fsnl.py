from pathlib import Path

import pytest
import torch

from models.methods import METHODS
from models.methods.fsnl import FsnlHyper, ShotLoss, other_class
from models.name_learner import NameLearner
from tests.models.methods.tasks import NAMES, features, task, tiny_clip
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


def test_one_class_alone_and_empty_captions_are_handled() -> None:
    FSNL.fit(task(classes=1), HYPER, seed=0)
    FSNL.fit(task(classes=1, captions=True), FsnlHyper(epochs=2), seed=0)
    cell = task(captions=True)
    train = cell.train
    empty = type(train)(train.tokens, train.labels, ("",) * len(train))
    object.__setattr__(cell, "train", empty)
    FSNL.fit(cell, FsnlHyper(epochs=2), seed=0)


def test_captions_take_part_in_the_loss() -> None:
    plain, told = task(), task(captions=True)
    learner = NameLearner(tiny_clip(), NAMES, "animal")
    rows = torch.arange(len(plain.train))
    images = torch.nn.functional.normalize(plain.train.clean[:, 0].float(), dim=-1)
    losses = [
        ShotLoss(learner, cell, torch.Generator().manual_seed(0))(images, rows).item()
        for cell in (plain, told)
    ]
    assert losses[0] != pytest.approx(losses[1])


def test_contexts_come_from_another_class() -> None:
    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    for seed in range(20):
        drawn = other_class(labels, torch.Generator().manual_seed(seed))
        assert (labels[drawn] != labels).all()
    assert other_class(torch.zeros(3, dtype=torch.int64), torch.Generator()).tolist() == [0, 1, 2]


def test_reports_come_at_every_evaluation_point() -> None:
    seen: list[dict[str, float]] = []
    FSNL.fit(task(), HYPER, seed=0, report=seen.append)
    assert [figures["step"] for figures in seen] == [10, 20, 30, 40]
    assert all(figures.keys() == {"step", "loss", "val_accuracy", "val_loss"} for figures in seen)
