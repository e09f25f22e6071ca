"""Weights of transformers' models give what transformers' own forward passes give."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from models.backbones import load_clip
from models.building import clip_from_config
from models.clip import Clip
from models.hugging_face import as_open_clips
from tests.models.towers.families import EMBED_DIM, FAMILIES, VIT

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
PICTURES = {"image_size": 32, "patch_size": 8}
IDS = torch.tensor([[5, 3, 7, 63, 0, 0, 0, 0, 0, 0, 0, 0], [9, 8, 63, 0, 0, 0, 0, 0, 0, 0, 0, 0]])


def transformers_clip(activation: str) -> Any:
    act = {"hidden_act": activation, "intermediate_size": 128}
    ends = {"bos_token_id": 62, "eos_token_id": 63, "pad_token_id": 0}
    text = {**SIZES, **act, **ends, "vocab_size": 64, "max_position_embeddings": 12}
    config = CLIPConfig(
        text_config=text, vision_config={**SIZES, **act, **PICTURES}, projection_dim=EMBED_DIM
    )
    return _drawn(CLIPModel(config))


def transformers_siglip() -> Any:
    act = {"hidden_act": "gelu_pytorch_tanh", "intermediate_size": 128}
    text = {**SIZES, **act, "vocab_size": 64, "max_position_embeddings": 12}
    vision = {**SIZES, **act, **PICTURES, "hidden_act": "gelu"}
    return _drawn(SiglipModel(SiglipConfig(text_config=text, vision_config=vision)))


def _drawn(model: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        if weight.ndim:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.2
    return model.eval()


def assert_alike(clip: Clip, model: Any) -> None:
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        pictures = model.get_image_features(pixel_values=images)
        texts = model.get_text_features(input_ids=IDS)
    pictures, texts = (
        out if isinstance(out, torch.Tensor) else out.pooler_output for out in (pictures, texts)
    )
    torch.testing.assert_close(clip.encode_tokens(images)[:, 0], pictures, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(clip.encode_text(IDS), texts, atol=1e-4, rtol=1e-4)
    assert pictures.std() > 1e-2
    assert texts.std() > 1e-2


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_clip_model_is_read_with_its_activation(activation: str, tmp_path: Path) -> None:
    model = transformers_clip(activation)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    config = {
        "embed_dim": EMBED_DIM,
        "vision_cfg": VIT,
        "text_cfg": {"context_length": 12, "vocab_size": 64, "width": 32, "heads": 2, "layers": 2},
        "quick_gelu": activation == "quick_gelu",
    }
    (tmp_path / "model.json").write_text(json.dumps(config))
    assert_alike(load_clip(f"config:{tmp_path / 'model.safetensors'}"), model)


def test_siglip_model_is_read() -> None:
    model = transformers_siglip()
    text = {"width": 32, "heads": 2, "layers": 2, **FAMILIES["siglip2"]["text_cfg"]}
    config = {"embed_dim": EMBED_DIM, **FAMILIES["siglip2"], "text_cfg": text}
    state = as_open_clips(model.state_dict())
    assert_alike(clip_from_config(config, state), model)


def test_the_activation_beside_a_file_is_taken(tmp_path: Path) -> None:
    """transformers' config.json; the weights are of another size, which is said after it."""
    save_file(transformers_clip("gelu").state_dict(), tmp_path / "model.safetensors")
    for act, message in (("gelu", "QuickGELU"), ("quick_gelu", "do not fit")):
        settings = {"model_type": "clip", "vision_config": {"hidden_act": act}}
        (tmp_path / "config.json").write_text(json.dumps(settings))
        with pytest.raises(ValueError, match=message):
            load_clip(f"ViT-B-32-quickgelu:{tmp_path / 'model.safetensors'}")


def test_other_weights_stay_as_they_are() -> None:
    state = {"visual.proj": torch.zeros(2, 2)}
    assert as_open_clips(state) == state
