"""Low-rank updates on every family's towers, and merged into their weights."""

from pathlib import Path

import pytest
import torch

from models.lora import Lora, LoraConfig, Part, Tower
from tests.models.towers.families import FAMILIES, TEXT_FAMILIES, family_clip

IMAGE_MAPS = [f for f in FAMILIES if f not in ("resnet", "convnext", "mobileclip2_s")]


def updated(family: str, folder: Path, tower: Tower, parts: tuple[Part, ...]) -> Lora:
    """Updates of a family that are not 0."""
    config = LoraConfig(rank=3, alpha=2.0, dropout=0.0, towers=(tower,), parts=parts)
    lora = Lora(family_clip(family, folder), config, seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in lora.parameters().values():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return lora


@pytest.mark.parametrize("parts", [("q", "v"), ("k", "out", "fc", "proj")])
@pytest.mark.parametrize("family", IMAGE_MAPS)
def test_merged_image_towers_are_open_clips(
    family: str, parts: tuple[Part, ...], tmp_path: Path
) -> None:
    lora = updated(family, tmp_path, "image", parts)
    plain, merged, size = lora.frozen, lora.merged(), lora.frozen.image_size
    images = torch.randn(2, 3, size, size)
    ours = lora.clip.encode_tokens(images)
    torch.testing.assert_close(merged.encode_tokens(images), ours, atol=1e-4, rtol=1e-4)
    theirs = merged.model.encode_image(images, normalize=False)
    torch.testing.assert_close(theirs, ours[:, 0], atol=1e-4, rtol=1e-4)
    assert (ours - plain.encode_tokens(images)).abs().max() > 1e-2
    assert merged.state_dict().keys() == plain.state_dict().keys()
    ours.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in lora.parameters().values())


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_merged_text_towers_are_open_clips(family: str, tmp_path: Path) -> None:
    lora = updated(family, tmp_path, "text", ("q", "k", "v", "out", "fc", "proj"))
    ids = lora.frozen.tokenizer(["a photo of a red panda", "okapi"])
    ours, merged = lora.clip.encode_text(ids), lora.merged()
    torch.testing.assert_close(merged.encode_text(ids), ours, atol=1e-4, rtol=1e-4)
    theirs = merged.model.encode_text(ids, normalize=False)
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
    assert (ours - lora.frozen.encode_text(ids)).abs().max() > 1e-2
    assert merged.state_dict().keys() == lora.frozen.state_dict().keys()
    ours.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in lora.parameters().values())


def test_a_tower_without_maps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the image tower of 'random-resnet' has no linear"):
        updated("resnet", tmp_path, "image", ("q",))


def test_evas_maps_taken_apart_are_the_whole_one(tmp_path: Path) -> None:
    config = LoraConfig(rank=1, alpha=1.0, dropout=0.0, towers=("image",), parts=("q", "k", "v"))
    lora = Lora(family_clip("eva01", tmp_path), config, seed=0)
    images = torch.randn(2, 3, 32, 32)
    whole = lora.frozen.encode_tokens(images)
    torch.testing.assert_close(lora.clip.encode_tokens(images), whole, atol=1e-6, rtol=0)
    assert lora.frozen.model.visual.trunk.blocks[0].attn.q_bias.any()
    merged, frozen = lora.merged().state_dict(), lora.frozen.state_dict()
    assert all(torch.equal(merged[name], weight) for name, weight in frozen.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_said_which_towers_have_maps(family: str, tmp_path: Path) -> None:
    gifts = family_clip(family, tmp_path).gifts
    assert ("image maps" in gifts) == (family in IMAGE_MAPS)
    assert "text maps" in gifts
