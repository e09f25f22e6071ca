"""Pictures and hashes by the weights' own settings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from actors.pictures.codec import resized_square
from models.backbones import OPENAIS_FACTS, load_clip, released_preprocessing
from models.building import clip_from_config
from models.clip import Clip
from models.towers.preprocessing import CLIPS_OWN, Preprocessing, preprocessing
from tests.models.test_clip import CONFIG
from tests.models.towers.families import family_config

SQUASHED = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bilinear",
    "resize_mode": "squash",
}


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(61, 40), (40, 61), (32, 32), (20, 20)])
def test_a_picture_is_prepared_as_open_clip_does(
    resize_mode: str, interpolation: str, size: tuple[int, int]
) -> None:
    settings = SQUASHED | {"resize_mode": resize_mode, "interpolation": interpolation}
    config = CONFIG | {"vision_cfg": {**CONFIG["vision_cfg"], "image_size": 32}}
    clip = clip_from_config(config, prepare=preprocessing(settings))
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    transform: Any = open_clip.image_transform(
        32,
        is_train=False,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation=interpolation,
        resize_mode=resize_mode,
    )
    pixels = torch.from_numpy(resized_square(image, *clip.square).copy()).permute(2, 0, 1)
    ours = clip.normalise(pixels.unsqueeze(0))[0]
    torch.testing.assert_close(ours, transform(image), atol=1e-6, rtol=0)


@pytest.mark.parametrize("arch", ["RN50", "ViT-B-16", "ViT-B-16-SigLIP2", "PE-Core-B-16"])
def test_the_weights_own_settings_are_read(arch: str) -> None:
    for tag in open_clip.list_pretrained_tags_by_model(arch):
        settings = open_clip.get_pretrained_cfg(arch, tag)
        ours = preprocessing(settings)
        assert ours.mean == tuple(settings["mean"])
        assert (ours.resize == "squash") == (settings["resize_mode"] == "squash")
        assert ours.interpolation == settings["interpolation"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resize_mode": "longest"}, "resize_mode: 'longest'; allowed: shortest, squash"),
        ({"interpolation": "random"}, "interpolation: 'random'; allowed: bicubic, bilinear"),
        ({"mean": [0.5]}, "mean: .*; allowed: three numbers"),
        ({"std": [1, 0, 1]}, "std: .*; allowed: above 0"),
    ],
)
def test_settings_that_are_none_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preprocessing(settings)


def test_settings_are_in_the_hash() -> None:
    clip = clip_from_config(CONFIG)
    state = clip.model.state_dict()
    others = [
        Preprocessing(),
        Preprocessing(mean=(0.5, 0.5, 0.5)),
        Preprocessing(resize="squash"),
        Preprocessing(interpolation="bilinear"),
    ]
    hashes = [clip_from_config(CONFIG, state, prepare=other).weights_hash for other in others]
    assert hashes[0] == clip.weights_hash
    assert len(set(hashes)) == 4


def test_what_no_weight_says_of_another_tower_is_in_its_hash(tmp_path: Path) -> None:
    config = family_config("siglip2", tmp_path)
    clip = clip_from_config(config)
    text = {k: v for k, v in config["text_cfg"].items() if k != "act_kwargs"}
    state = clip.model.state_dict()
    assert clip_from_config(config, state).weights_hash == clip.weights_hash
    assert clip_from_config(config | {"text_cfg": text}, state).weights_hash != clip.weights_hash
    moved = config["text_cfg"] | {"hf_tokenizer_name": "elsewhere"}
    assert clip_from_config(config | {"text_cfg": moved}, state).weights_hash == clip.weights_hash


def test_the_hubs_config_beside_weights_is_read(tmp_path: Path) -> None:
    clip = clip_from_config(CONFIG)
    save_file(clip.model.state_dict(), tmp_path / "open_clip_model.safetensors")
    hub = {"model_cfg": CONFIG | {"quick_gelu": True}, "preprocess_cfg": SQUASHED}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(hub))
    loaded = load_clip(f"config:{tmp_path / 'open_clip_model.safetensors'}")
    assert _activation(loaded) is open_clip.transformer.QuickGELU
    assert loaded.preprocessing == preprocessing(SQUASHED) != CLIPS_OWN


@pytest.mark.parametrize(
    ("arch", "resize", "interpolation"),
    [
        ("ViT-B-16-SigLIP", "squash", "bicubic"),
        ("PE-Core-B-16", "squash", "bilinear"),
        ("RN50", "crop", "bicubic"),
        ("ViT-H-14", "crop", "bicubic"),  # one of its released weights says squash
    ],
)
def test_a_file_without_settings_is_prepared_as_released_weights(
    arch: str, resize: str, interpolation: str
) -> None:
    ours = released_preprocessing(arch)
    assert (ours.resize, ours.interpolation) == (resize, interpolation)


def test_openais_file_under_a_gelu_name_is_said(tmp_path: Path) -> None:
    """The file is too small for the architecture, which is said after it."""
    facts = {name: torch.tensor(224) for name in OPENAIS_FACTS}
    torch.save(facts | {"visual.proj": torch.zeros(2, 2)}, tmp_path / "own.pt")
    backbone = f"ViT-B-32:{tmp_path / 'own.pt'}"
    with (
        pytest.warns(UserWarning, match="OpenAI's, trained with QuickGELU"),
        pytest.raises(ValueError, match="describes no CLIP of these weights"),
    ):
        load_clip(backbone)


def _activation(clip: Clip) -> type:
    return type(clip.model.visual.transformer.resblocks[0].mlp.gelu)
