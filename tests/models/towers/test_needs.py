"""Which methods fit which towers, and what is said of a pair that does not."""

from pathlib import Path
from typing import Any

import pytest

from models.methods import METHODS
from models.methods.class_means import ClassMeansHyper
from models.methods.clip_lora import ClipLoraHyper
from models.methods.coop import CoOpHyper
from models.methods.fsnl import FsnlHyper
from models.methods.needs import fitting_methods, require_gifts, require_method
from tests.models.methods.tasks import tiny_clip
from tests.models.towers.families import family_clip

POOLED = ["zero_shot", "linear_probe", "tip_adapter", "tip_adapter_f", "clip_adapter", "taskres"]
NAMED = ["coop", "cocoop", "fsnl"]
PATCHED = ["class_means", "imaginefsl"]
LORAS = ["clip_lora", "imaginefsl_lora"]


@pytest.mark.parametrize(
    ("family", "fitting"),
    [
        ("vit", list(METHODS)),
        ("eva02", list(METHODS)),
        ("mobileclip2_b", list(METHODS)),
        ("eva01", list(METHODS)),
        ("siglip2", list(METHODS)),
        ("resnet", [*POOLED, *NAMED]),
        ("roberta", list(METHODS)),
    ],
)
def test_methods_that_fit_are_those_whose_needs_are_met(
    family: str, fitting: list[str], tmp_path: Path
) -> None:
    gifts = family_clip(family, tmp_path).gifts
    assert sorted(fitting_methods(gifts)) == sorted(fitting)


@pytest.mark.parametrize(
    ("method", "hyper", "searched", "message"),
    [
        ("imaginefsl", {}, (), "imaginefsl needs tokens of patches, which 'random-resnet' has not"),
        ("fsnl", {"adapted_weight": 0.5}, (), "fsnl needs tokens of patches"),
        ("fsnl", {}, ("adapted_weight",), "fsnl needs tokens of patches"),
        ("clip_lora", {}, (), "needs linear maps of the image tower"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused_in_one_line(
    method: str, hyper: dict[str, Any], searched: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    clip = family_clip("resnet", tmp_path)
    made = METHODS[method].Hyper(**hyper)
    with pytest.raises(ValueError, match=message) as refusal:
        require_method(clip, "methods.mine", method, made, searched)
    words = str(refusal.value)
    assert words.startswith("methods.mine: ")
    assert "fit it: zero_shot, linear_probe" in words
    assert "\n" not in words


def test_a_tokenizer_in_which_no_name_is_located_is_refused(tmp_path: Path) -> None:
    clip: Any = family_clip("siglip2", tmp_path)
    clip.tokenizer.tokenizer.padding_side = "left"
    require_method(clip, "methods.mine", "clip_lora", ClipLoraHyper(), ())
    with pytest.raises(ValueError, match=r"methods.mine: coop: .*its tokenizer pads on the left"):
        require_method(clip, "methods.mine", "coop", CoOpHyper(), ())


def test_what_is_there_passes(tmp_path: Path) -> None:
    resnet = family_clip("resnet", tmp_path)
    require_method(resnet, "methods.a", "fsnl", FsnlHyper(), ())
    require_method(resnet, "methods.b", "clip_lora", ClipLoraHyper(towers=("text",)), ())
    require_method(tiny_clip(), "methods.c", "class_means", ClassMeansHyper(), ())
    with pytest.raises(ValueError, match="backbone: moment-DINO needs tokens of patches"):
        require_gifts(resnet, {"patches", "masks"}, "backbone: moment-DINO")
