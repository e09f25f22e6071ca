"""What holds for every method alike."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.methods import METHODS, load_adapted
from models.methods.class_means import ClassMeansHyper
from models.methods.clip_adapter import ClipAdapterHyper
from models.methods.clip_lora import ClipLoraHyper
from models.methods.cocoop import CoCoOpHyper
from models.methods.coop import CoOpHyper
from models.methods.fsnl import FsnlHyper
from models.methods.imagine_training import ImagineFslHyper
from models.methods.imaginefsl_lora import ImagineFslLoraHyper
from models.methods.linear_probe import LinearProbeHyper
from models.methods.taskres import TaskResHyper
from models.methods.tip_adapter import TipAdapterFHyper, TipAdapterHyper
from models.methods.zero_shot import ZeroShotHyper
from models.moment_adapter import AdapterConfig
from models.task import Features
from models.views import ViewConfig
from tests.models.methods.tasks import NAMES, accuracy, features, task, tiny_clip

PLAIN = ViewConfig(
    smallest_crop=0.9, flip=0.0, jitter=0.0, grey=0.0, blur=(0.0, 0.0), solarise=(0.0, 0.0)
)
QUICK: dict[str, Any] = {
    "zero_shot": ZeroShotHyper(),
    "linear_probe": LinearProbeHyper(),
    "class_means": ClassMeansHyper(
        adapter=AdapterConfig(depth=1, inner=12, heads=2), without_teacher="random"
    ),
    "imaginefsl": ImagineFslHyper(
        adapter=AdapterConfig(depth=1, inner=12, heads=2), head_steps=100, steps=20
    ),
    "fsnl": FsnlHyper(lr=0.01, epochs=40),
    "tip_adapter": TipAdapterHyper(),
    "tip_adapter_f": TipAdapterFHyper(),
    "clip_adapter": ClipAdapterHyper(ratio=0.8, lr=0.1, epochs=40),
    "taskres": TaskResHyper(lr=0.05),
    "coop": CoOpHyper(epochs=40),
    "cocoop": CoCoOpHyper(lr=1.0, epochs=60, batch=64),
    "clip_lora": ClipLoraHyper(lr=0.02, alpha=8.0, steps=40, augmentation=PLAIN),
    "imaginefsl_lora": ImagineFslLoraHyper(
        adapter=AdapterConfig(depth=1, inner=12, heads=2),
        head_steps=20,
        lora_steps=40,
        lora_lr=3e-3,
        adapter_lr=3e-3,
        head_lr_factor=3.0,
        rank=4,
        alpha=4.0,
        augmentation=PLAIN,
    ),
}
OPEN = ["zero_shot", "clip_adapter", "coop", "cocoop", "fsnl", "clip_lora"]
CLOSED = [method for method in METHODS if method not in OPEN]
NO_TEACHER = [
    m for m in METHODS if m not in ("class_means", "imaginefsl", "imaginefsl_lora", "fsnl")
]


def seen(method: str, features: Features) -> Tensor:
    """What the method's models answer from."""
    return features.inputs(METHODS[method].reads)


def test_every_method_has_a_quick_setting_here() -> None:
    assert QUICK.keys() == METHODS.keys()


@pytest.mark.parametrize("method", [method for method in METHODS if method != "zero_shot"])
def test_few_shots_beat_zero_shot(method: str) -> None:
    cell, test = task(), features(20, 7)
    zero = METHODS["zero_shot"].fit(cell, QUICK["zero_shot"], seed=0).logits(test.clean)
    adapted = METHODS[method].fit(cell, QUICK[method], seed=0).logits(seen(method, test))
    assert accuracy(adapted, test.labels) > accuracy(zero, test.labels) + 0.2


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_model_predicts_the_same_digits(method: str, tmp_path: Path) -> None:
    adapted = METHODS[method].fit(task(imagined=True), QUICK[method], seed=0)
    adapted.save(tmp_path)
    again = load_adapted(tmp_path, tiny_clip())
    tokens = seen(method, features(3, 7))
    for head, logits in adapted.heads(tokens).items():
        assert torch.equal(again.heads(tokens)[head], logits), head
    assert again.card == adapted.card


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_model_lies_where_its_clip_does(method: str, tmp_path: Path) -> None:
    METHODS[method].fit(task(imagined=True), QUICK[method], seed=0).save(tmp_path)
    if method.startswith("tip_adapter"):
        pytest.skip("its labels are looked at, and tensors of this device have no values")
    elsewhere = copy.deepcopy(tiny_clip()).to("meta")
    again = load_adapted(tmp_path, elsewhere)
    assert {tensor.device.type for tensor in again.tensors().values()} == {"meta"}
    if again.reads == "class token":  # what more needs an arithmetic, which this device has not
        assert again.logits(features(3, 7).inputs(again.reads).to("meta")).device.type == "meta"


@pytest.mark.parametrize("method", [m for m in METHODS if METHODS[m].reads == "class token"])
def test_who_reads_the_class_token_reads_no_other(method: str) -> None:
    """Neither in a task nor in a question."""
    cell, test = task(imagined=True), features(3, 7)
    assert cell.val
    assert cell.imagined
    alone = replace(
        cell,
        train=_first_token(cell.train),
        val=_first_token(cell.val),
        imagined=_first_token(cell.imagined),
    )
    one, other = (METHODS[method].fit(of, QUICK[method], seed=0) for of in (cell, alone))
    assert one.reads == "class token"
    assert torch.equal(one.logits(test.clean), other.logits(test.inputs("class token")))


def _first_token(features: Features) -> Features:
    return replace(features, stored=features.without_patches)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_learns_the_same_model(method: str) -> None:
    runs = [METHODS[method].fit(task(imagined=True), QUICK[method], seed=3) for _ in range(2)]
    first, second = (run.tensors() for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", METHODS)
def test_without_val_the_declared_default_answers(method: str) -> None:
    adapted = METHODS[method].fit(task(val=False), QUICK[method], seed=0)
    assert adapted.card.selection.val_accuracy is None
    assert adapted.card.selection.curve == ()
    assert adapted.logits(seen(method, features(1, 7))).shape == (len(NAMES), len(NAMES))


@pytest.mark.parametrize("method", METHODS)
def test_val_accuracy_is_that_of_the_chosen_head(method: str) -> None:
    cell = task()
    adapted = METHODS[method].fit(cell, QUICK[method], seed=0)
    assert cell.val is not None
    stated = adapted.card.selection.val_accuracy
    assert stated == pytest.approx(
        accuracy(adapted.logits(seen(method, cell.val)), cell.val.labels)
    )


@pytest.mark.parametrize("method", NO_TEACHER)
def test_a_teacher_is_not_silently_ignored(method: str) -> None:
    with pytest.raises(ValueError, match=f"{method} learns without a teacher"):
        METHODS[method].fit(task(), QUICK[method], seed=0, teacher={})


@pytest.mark.parametrize("method", CLOSED)
def test_a_classifier_per_class_refuses_other_names(method: str) -> None:
    adapted = METHODS[method].fit(task(), QUICK[method], seed=0)
    with pytest.raises(ValueError, match="names: allowed are the 5 of animals"):
        adapted.logits(seen(method, features(1, 7)), names=["saola"])


@pytest.mark.parametrize("method", OPEN)
def test_other_names_are_answered_beside_its_own(method: str) -> None:
    tokens, new = seen(method, features(3, 7)), ["saola", "mew two"]
    adapted = METHODS[method].fit(task(), QUICK[method], seed=0)
    joint = adapted.logits(tokens, [*NAMES, *new])
    torch.testing.assert_close(joint[:, : len(NAMES)], adapted.logits(tokens))
    torch.testing.assert_close(joint[:, len(NAMES) :], adapted.logits(tokens, new))


@pytest.mark.parametrize("method", [method for method in METHODS if method != "linear_probe"])
def test_one_class_and_a_class_without_shots_are_handled(method: str) -> None:
    alone = METHODS[method].fit(task(classes=1), QUICK[method], seed=0)
    assert alone.logits(seen(method, features(2, 7))).shape == (2 * len(NAMES), 1)
    cell = task()
    others = cell.train.labels != 3
    split = cell.train
    assert split.images is not None
    train = Features(split.tokens[:, others], split.labels[others], None, split.images[others])
    logits = METHODS[method].fit(replace(cell, train=train), QUICK[method], seed=0).logits
    assert logits(seen(method, features(2, 7))).isfinite().all()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    METHODS["linear_probe"].fit(task(), QUICK["linear_probe"], seed=0).save(tmp_path)
    return tmp_path


def change_card(folder: Path, **values: Any) -> None:
    card = json.loads((folder / "adapted.json").read_text())
    (folder / "adapted.json").write_text(json.dumps({**card, **values}))


def test_another_clip_is_refused(saved: Path) -> None:
    with pytest.raises(ValueError, match="backbone is 'random-0', the given CLIP's 'random-1'"):
        load_adapted(saved, tiny_clip(1))


def test_other_weights_of_the_same_backbone_are_refused(saved: Path) -> None:
    change_card(saved, weights_hash="0" * 32)
    with pytest.raises(ValueError, match="weights_hash is '0000"):
        load_adapted(saved, tiny_clip())


def test_a_half_written_model_is_named(saved: Path) -> None:
    (saved / "adapted.json").unlink()
    with pytest.raises(ValueError, match=r"no adapted\.json"):
        load_adapted(saved, tiny_clip())


def test_an_unknown_method_and_an_unknown_field_are_named(saved: Path) -> None:
    change_card(saved, method="magic")
    with pytest.raises(ValueError, match="method 'magic'; allowed are"):
        load_adapted(saved, tiny_clip())
    change_card(saved, magic=1)
    with pytest.raises(ValueError, match=r"unknown fields \['magic'\]"):
        load_adapted(saved, tiny_clip())


def test_tensors_that_do_not_fit_are_all_named(saved: Path) -> None:
    tensors = load_file(saved / "adapted.safetensors")
    wrong = {"weight": tensors["weight"][:2].contiguous(), "extra": torch.zeros(1)}
    save_file(wrong, saved / "adapted.safetensors")
    with pytest.raises(ValueError, match=r"bias: .*found none; extra: .*; weight: .*\(2, 16\)"):
        load_adapted(saved, tiny_clip())
