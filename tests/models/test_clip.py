"""The frozen CLIP against open_clip's own forward passes, and its refusals."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import interpolate

from models.backbones import load_clip
from models.building import clip_from_config
from models.clip import Clip

CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 4, "width": 24, "layers": 2, "head_width": 8},
    "text_cfg": {"width": 16, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def clip() -> Clip:
    torch.manual_seed(0)
    return clip_from_config(CONFIG)


def test_class_token_is_open_clips_image_feature(clip: Clip) -> None:
    images = torch.randn(3, 3, 16, 16)
    tokens = clip.encode_tokens(images)
    assert tokens.shape == (3, clip.num_tokens, clip.embed_dim) == (3, 17, 16)
    assert torch.allclose(tokens[:, 0], clip.model.encode_image(images), atol=1e-5)


def test_trimmed_texts_are_open_clips_texts(clip: Clip) -> None:
    ids = clip.tokenizer(["a cat", "two dogs, running happily on the beach", ""])
    assert torch.allclose(clip.encode_text(ids), clip.model.encode_text(ids), atol=1e-5)


def test_text_from_embeddings_is_text_from_ids(clip: Clip) -> None:
    ids = clip.tokenizer(["a cat", "two dogs"])
    embeds = clip.token_embedding(ids)
    assert torch.allclose(
        clip.encode_embeddings(embeds, ids.argmax(dim=-1)), clip.encode_text(ids), atol=1e-5
    )


def test_gradients_reach_inputs_but_no_weight(clip: Clip) -> None:
    mask_token = torch.zeros(1, clip.vision_width, requires_grad=True)
    masks = torch.zeros(2, 16, dtype=torch.bool)
    masks[0, 3] = True
    clip.encode_tokens(torch.randn(2, 3, 16, 16), masks, mask_token)[0].sum().backward()
    assert mask_token.grad is not None
    assert mask_token.grad.abs().sum() > 0
    assert not any(weight.requires_grad for weight in clip.parameters())
    assert not clip.train().model.training


def test_a_masked_patch_leaves_no_trace_of_its_pixels(clip: Clip) -> None:
    images = torch.randn(1, 3, 16, 16)
    changed = images.clone()
    changed[:, :, :4, :4] += 1
    masks = torch.zeros(1, 16, dtype=torch.bool)
    masks[0, 0] = True
    token = torch.randn(1, clip.vision_width)
    assert torch.equal(
        clip.encode_tokens(images, masks, token), clip.encode_tokens(changed, masks, token)
    )


def test_bytes_and_unit_floats_normalise_alike(clip: Clip) -> None:
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(clip.normalise(images), clip.normalise(images.float() / 255))


def test_weights_come_back_from_a_file_with_their_activation(tmp_path: Path, clip: Clip) -> None:
    save_file(clip.model.state_dict(), tmp_path / "own.safetensors")
    (tmp_path / "own.json").write_text(json.dumps(CONFIG | {"quick_gelu": True}))
    loaded = load_clip(f"config:{tmp_path / 'own.safetensors'}")
    assert loaded.weights_hash == clip.weights_hash
    gelu = loaded.model.visual.transformer.resblocks[0].mlp.gelu
    assert isinstance(gelu, open_clip.transformer.QuickGELU)


def test_another_weight_is_another_hash(clip: Clip) -> None:
    state = {name: tensor.clone() for name, tensor in clip.model.state_dict().items()}
    assert clip_from_config(CONFIG, state).weights_hash == clip.weights_hash
    state["logit_scale"] += 1e-3
    assert clip_from_config(CONFIG, state).weights_hash != clip.weights_hash


def test_quick_gelu_for_weights_without_it_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    (tmp_path / "w.json").write_text(json.dumps({"quick_gelu": False}))
    with pytest.raises(ValueError, match="QuickGELU"):
        load_clip(f"ViT-B-32-quickgelu:{tmp_path / 'w.safetensors'}")


def test_weights_of_another_shape_are_refused(clip: Clip) -> None:
    state = clip.model.state_dict() | {"positional_embedding": torch.zeros(3, 3)}
    with pytest.raises(ValueError, match=r"do not fit.*positional_embedding"):
        clip_from_config(CONFIG, state, "mine")


def test_positions_of_another_grid_are_interpolated_only_if_asked(
    tmp_path: Path, clip: Clip
) -> None:
    wider = CONFIG | {"vision_cfg": {**CONFIG["vision_cfg"], "image_size": 24}}
    save_file(clip.model.state_dict(), tmp_path / "own.safetensors")
    backbone = f"config:{tmp_path / 'own.safetensors'}"
    (tmp_path / "own.json").write_text(json.dumps(wider))
    with pytest.raises(ValueError, match=r'do not fit.*"interpolate_positions": true beside them'):
        load_clip(backbone)
    (tmp_path / "own.json").write_text(json.dumps(wider | {"interpolate_positions": True}))
    loaded = load_clip(backbone)
    positions = clip.model.visual.positional_embedding
    plane = positions[1:].T.view(1, -1, 4, 4)
    resized = interpolate(plane, (6, 6), mode="bicubic", antialias=True).flatten(2)[0].T
    torch.testing.assert_close(
        loaded.model.visual.positional_embedding, torch.cat([positions[:1], resized])
    )
    assert loaded.encode_tokens(torch.randn(1, 3, 24, 24)).shape == (1, 37, 16)
    for wrong in (torch.zeros(12, 24), torch.zeros(1, 24), torch.zeros(5)):
        state = clip.model.state_dict() | {"visual.positional_embedding": wrong}
        save_file(state, tmp_path / "own.safetensors")
        with pytest.raises(ValueError, match="positions of a class token and a square of patches"):
            load_clip(backbone)
    (tmp_path / "own.json").write_text(json.dumps({"interpolate_positions": True}))
    with pytest.raises(ValueError, match="its config describes no CLIP of these weights"):
        load_clip(backbone)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("huge", "ARCH/TAG"),
        ("ViT-B-16/nothing", "laion400m_e32"),
        ("ViT-Z-1/openai", "list_models"),
        ("ViT-B-16:/no/such/file.pt", "no file"),
    ],
)
def test_an_unknown_backbone_is_named_with_what_is_allowed(backbone: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"backbone: .*{backbone}.*{message}"):
        load_clip(backbone)


def test_weights_come_back_from_what_training_programs_save(tmp_path: Path, clip: Clip) -> None:
    state = {f"module.{name}": tensor for name, tensor in clip.model.state_dict().items()}
    facts = {f"module.{name}": torch.tensor(16) for name in ("input_resolution", "vocab_size")}
    torch.save({"epoch": 3, "state_dict": state | facts}, tmp_path / "own.pt")
    (tmp_path / "own.json").write_text(json.dumps(CONFIG))
    assert load_clip(f"config:{tmp_path / 'own.pt'}").weights_hash == clip.weights_hash


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, clip: Clip, value: float) -> None:
    state = clip.model.state_dict() | {"logit_scale": torch.tensor(value)}
    save_file(state, tmp_path / "own.safetensors")
    (tmp_path / "own.json").write_text(json.dumps(CONFIG))
    backbone = f"config:{tmp_path / 'own.safetensors'}"
    with pytest.raises(ValueError, match=r"^backbone: .*\['logit_scale'\] hold infinite .* or NaN"):
        load_clip(backbone)
