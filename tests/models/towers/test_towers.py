"""Every family against open_clip's own forward passes: in batch, masked, from embeddings."""

from typing import Any

import pytest
import torch

from models.clip import Clip
from models.context_learner import ContextLearner
from models.name_learner import NameLearner
from models.text_classifier import text_classifier
from tests.models.towers.families import (
    FAMILIES,
    HUB_TEXTS,
    TEXT_FAMILIES,
    WORD_TOKENIZERS,
    family_clip,
)

TEXTS = ["a photo of a cat", "two happy dog, a type of animal at night.", ""]
PATCHES = [f for f in FAMILIES if f not in ("resnet", "convnext", "mobileclip2_s")]
MASKED = [f for f in PATCHES if f != "vitamin"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[str, Clip] = {}

    def clip(family: str) -> Clip:
        if family not in made:
            made[family] = family_clip(family, tmp_path_factory.mktemp(family))
        return made[family]

    return clip


def images_of(clip: Clip, count: int = 3) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, clip.image_size, clip.image_size, generator=rng)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_token_is_open_clips_image_feature(clips: Any, family: str) -> None:
    clip = clips(family)
    images = images_of(clip)
    tokens = clip.encode_tokens(images)
    assert tokens.shape == (3, clip.num_tokens, clip.embed_dim)
    theirs = clip.model.encode_image(images, normalize=False)
    assert theirs.std() > 1e-3
    torch.testing.assert_close(tokens[:, 0], theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(clip.encode_images(images), theirs, atol=1e-5, rtol=1e-5)
    alone = torch.cat([clip.encode_tokens(image[None]) for image in images])
    torch.testing.assert_close(tokens, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_texts_are_open_clips_texts(clips: Any, family: str) -> None:
    clip = clips(family)
    ids = clip.tokenizer(TEXTS)
    theirs = clip.model.encode_text(ids, normalize=False)
    assert theirs.std() > 1e-3
    torch.testing.assert_close(clip.encode_text(ids), theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_texts_from_embeddings_are_open_clips_texts(clips: Any, family: str) -> None:
    """As prompts give them: cut to the longest, and something else than padding behind an end."""
    clip = clips(family)
    ids = clip.tokenizer(TEXTS)
    theirs = clip.model.encode_text(ids, normalize=False)
    end = ids.argmax(dim=-1)
    if family in (*WORD_TOKENIZERS, *HUB_TEXTS):
        end = (ids == clip.tokenizer.tokenizer.sep_token_id).int().argmax(dim=-1)
        if family == "clipa":  # its tokenizer takes the end token away again
            end = (ids != 0).sum(dim=-1) - 1
    cut = ids[:, : int(end.max()) + 1].clone()
    cut[torch.arange(cut.shape[1]) > end.unsqueeze(1)] = 3
    ours = clip.encode_embeddings(clip.token_embedding(cut), end)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", MASKED)
def test_nothing_masked_is_no_mask(clips: Any, family: str) -> None:
    clip = clips(family)
    images, patches = images_of(clip), clip.num_tokens - 1
    assert patches == clip.grid[0] * clip.grid[1] > 0
    none = torch.zeros(3, patches, dtype=torch.bool)
    token = torch.randn(1, clip.vision_width)
    plain = clip.encode_tokens(images)
    assert torch.equal(clip.encode_tokens(images, none, token), plain)
    clip.encode_tokens(images, ~none, token)
    assert torch.equal(clip.encode_tokens(images), plain)


@pytest.mark.parametrize("family", MASKED)
def test_a_masked_patch_leaves_no_trace_of_its_pixels(clips: Any, family: str) -> None:
    clip = clips(family)
    images, size = images_of(clip), clip.patch_size
    changed = images.clone()
    changed[:, :, :size, size : 2 * size] += 1
    masks = torch.zeros(3, clip.num_tokens - 1, dtype=torch.bool)
    masks[:, 1] = True  # the second patch of the first row
    token = torch.randn(1, clip.vision_width)
    first, second = (clip.encode_tokens(x, masks, token) for x in (images, changed))
    assert torch.equal(first, second)
    assert not torch.allclose(clip.encode_tokens(images), clip.encode_tokens(changed))


@pytest.mark.parametrize("family", MASKED)
def test_gradients_reach_the_mask_token_and_no_weight(clips: Any, family: str) -> None:
    clip = clips(family)
    images, masks = images_of(clip), torch.zeros(3, clip.num_tokens - 1, dtype=torch.bool)
    masks[0, 3] = True
    gradients = []
    for recompute in (False, True):
        clip.recompute = recompute
        token = torch.zeros(1, clip.vision_width, requires_grad=True)
        clip.encode_tokens(images, masks, token)[0].sum().backward()
        assert token.grad is not None
        gradients.append(token.grad)
    clip.recompute = False
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(gradients[1], gradients[0])
    assert not any(weight.requires_grad for weight in clip.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_tower_gives_is_what_it_has(clips: Any, family: str) -> None:
    clip = clips(family)
    assert ("patches" in clip.gifts) == (clip.num_tokens > 1) == (family in PATCHES)
    assert ("masks" in clip.gifts) == (family in MASKED)
    assert "names" in clip.gifts


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_untrained_names_and_contexts_are_zero_shot(clips: Any, family: str) -> None:
    clip, names = clips(family), ["red panda", "okapi", "ant eater at night"]
    hand = "a photo of {}, a type of animal."
    learned = NameLearner(clip, names, "animal").class_features()
    plain = text_classifier(clip, names, [hand])
    torch.testing.assert_close(learned, plain, atol=1e-5, rtol=0)
    assert (plain @ plain.T).min() < 0.999
    context = ContextLearner(clip, names).class_features()
    plain = text_classifier(clip, names, ["a photo of a {}."])
    torch.testing.assert_close(context, plain, atol=1e-5, rtol=0)


def test_a_text_tower_of_ids_alone_gives_no_names(
    clips: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = clips("roberta")
    monkeypatch.setattr(clip.text, "reads_embeddings", False)
    assert "names" not in clip.gifts
    with pytest.raises(ValueError, match="read from ids alone"):
        clip.encode_embeddings(torch.zeros(1, 3, clip.text_width), torch.tensor([2]))


def test_where_patches_overlap_none_can_be_masked(clips: Any) -> None:
    clip = clips("vitamin")
    images, changed = images_of(clip), images_of(clip)
    changed[:, :, :16, :16] += 1
    embed = clip.model.visual.trunk.patch_embed
    other = embed(images)[:, 1:] != embed(changed)[:, 1:]
    assert other.any()
    assert "masks" not in clip.gifts


def test_a_patchs_token_is_what_the_pool_makes_of_it_alone(clips: Any) -> None:
    for family in ("siglip2", "pe", "pe_big"):
        clip = clips(family)
        images, visual = images_of(clip), clip.model.visual
        first = visual.trunk.num_prefix_tokens
        x = visual.trunk.forward_features(images)[:, first + 5 : first + 6]
        alone = visual.head(visual.trunk.forward_head(x))
        torch.testing.assert_close(clip.encode_tokens(images)[:, 6], alone, atol=1e-6, rtol=1e-6)
    coca = clips("coca")
    images, visual = images_of(coca), coca.model.visual
    x = visual.transformer(visual._embeds(images))[:, 6:7]
    alone = visual._pool(x)[0] @ visual.proj
    torch.testing.assert_close(coca.encode_tokens(images)[:, 6], alone, atol=1e-5, rtol=1e-5)


def test_a_sigmoids_bias_is_there(clips: Any) -> None:
    assert clips("siglip2").logit_bias == -10
    assert clips("eva02").logit_bias == 0
