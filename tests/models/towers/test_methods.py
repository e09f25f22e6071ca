"""Methods that go through the text tower, fitted, saved and loaded on other towers than CLIP's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.methods import METHODS, load_adapted
from models.methods.clip_lora import ClipLoraHyper
from models.methods.cocoop import CoCoOpHyper
from models.methods.coop import CoOpHyper
from models.methods.fsnl import FsnlHyper
from models.task import Features
from models.text_classifier import text_classifier
from tests.models.methods.tasks import TEMPLATE, task
from tests.models.towers.families import family_clip

NAMES = ["red panda", "okapi", "ant eater"]
HYPERS: dict[str, Any] = {
    "fsnl": FsnlHyper(lr=0.1, epochs=2),
    "coop": CoOpHyper(lr=0.1, epochs=2),
    "cocoop": CoCoOpHyper(epochs=1),
    "clip_lora": ClipLoraHyper(lr=0.01, steps=2, towers=("text",), dropout=0.0),
}


@pytest.mark.parametrize("method", HYPERS)
@pytest.mark.parametrize("family", ["siglip2", "clipa", "coca", "roberta", "mt5"])
def test_texts_of_every_kind_are_learned_saved_and_loaded(
    family: str, method: str, tmp_path: Path
) -> None:
    clip = family_clip(family, tmp_path)
    labels = torch.arange(3).repeat(4)
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randn(1, 12, clip.num_tokens, clip.embed_dim, generator=rng)
    images = torch.randint(256, (12, 3, clip.image_size, clip.image_size), generator=rng)
    captions = tuple(f"a photo of {NAMES[label]} at night" for label in labels.tolist())
    train = Features(tokens.half(), labels, captions, images.to(torch.uint8))
    text = text_classifier(clip, NAMES, [TEMPLATE])
    cell = replace(task(classes=3), names=NAMES, train=train, val=None, clip=clip, text=text)
    adapted = METHODS[method].fit(cell, HYPERS[method], seed=0)
    given = images.to(torch.uint8) if adapted.reads == "images" else train.clean
    logits = adapted.logits(given)
    assert logits.isfinite().all()
    plain = METHODS["zero_shot"].fit(cell, METHODS["zero_shot"].Hyper(), seed=0)
    assert (logits - plain.logits(train.clean)).abs().max() > 1e-3
    (tmp_path / "saved").mkdir()
    adapted.save(tmp_path / "saved")
    again = load_adapted(tmp_path / "saved", clip)
    torch.testing.assert_close(again.logits(given), logits, atol=1e-4, rtol=1e-4)
    joint = again.logits(given, [*NAMES, "dog"])  # any other name can be asked for
    torch.testing.assert_close(joint[:, :3], logits, atol=1e-4, rtol=1e-4)
