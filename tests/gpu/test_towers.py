"""Every family's towers on the GPU: what they give on the CPU, and what open_clip gives there."""

from pathlib import Path

import pytest
import torch

from models.name_learner import NameLearner
from tests.models.towers.families import FAMILIES, TEXT_FAMILIES, family_clip

LINES = ["a photo of a cat", "two happy dog"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_gives_what_the_cpu_gives(family: str, tmp_path: Path) -> None:
    clip = family_clip(family, tmp_path)
    images = torch.randn(3, 3, clip.image_size, clip.image_size)
    ids = clip.tokenizer(LINES)
    tokens, texts = clip.encode_tokens(images), clip.encode_text(ids)
    clip.to("cuda")
    here = clip.encode_tokens(images.cuda())
    torch.testing.assert_close(here.cpu(), tokens, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(clip.encode_text(ids.cuda()).cpu(), texts, atol=1e-3, rtol=1e-3)
    theirs = clip.model.encode_image(images.cuda(), normalize=False)
    torch.testing.assert_close(here[:, 0], theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["eva02", "siglip2", "pe", "mobileclip2_b", "coca", "clipa"])
def test_masked_patches_have_gradients_there(family: str, tmp_path: Path) -> None:
    clip = family_clip(family, tmp_path).to("cuda")
    images = torch.randn(3, 3, clip.image_size, clip.image_size, device="cuda")
    masks = torch.zeros(3, clip.num_tokens - 1, dtype=torch.bool, device="cuda")
    masks[0, 3] = True
    token = torch.zeros(1, clip.vision_width, device="cuda", requires_grad=True)
    with torch.autocast("cuda", torch.bfloat16):
        clip.encode_tokens(images, masks, token)[0].sum().backward()
    assert token.grad is not None
    assert token.grad.any()


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_names_are_learned_there_as_on_the_cpu(family: str, tmp_path: Path) -> None:
    clip, results = family_clip(family, tmp_path), []
    for device in ("cpu", "cuda"):
        learner = NameLearner(clip.to(device), ["red panda", "okapi"], "animal")
        features = learner.class_features()
        features[:, 0].sum().backward()
        assert learner.table.grad is not None
        results.append((features.detach().cpu(), learner.table.grad.cpu()))
    for there, here in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(there, here, atol=1e-3, rtol=1e-3)
