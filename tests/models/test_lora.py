"""LoRA in our own blocks against peft's wrapped nn.MultiheadAttention in open_clip's forward."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import peft
import pytest
import torch
from torch import Tensor

from models.clip import Clip
from models.lora import Lora, LoraConfig, Part
from tests.models.methods.tasks import tiny_clip

ALL = LoraConfig(
    rank=3,
    alpha=2.0,
    dropout=0.0,
    towers=("image", "text"),
    parts=("q", "k", "v", "out", "fc", "proj"),
)
LINES = ["a red panda at night", "okapi"]


def drawn(clip: Clip, config: LoraConfig = ALL) -> Lora:
    """LoRA whose B is not 0."""
    lora = Lora(clip, config, seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in lora.parameters().values():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return lora


def as_peft_wraps(clip: Clip, lora: Lora) -> Any:
    """open_clip's model wrapped by peft alone, with the same updates.

    peft has one A for q, k and v, and release 0.21 adds the output's update twice: so ours get the
    same A, and no update of the output.
    """
    model = copy.deepcopy(clip.model)
    config = peft.LoraConfig(r=ALL.rank, lora_alpha=2, target_modules=["attn", "c_fc", "c_proj"])
    peft.inject_adapter_in_model(config, model)
    updates = {name: parameter.data for name, parameter in lora.parameters().items()}
    for name, tensor in updates.items():
        if ".attn.out_proj." in name:
            tensor.zero_()
        elif name.endswith(("attn.k.lora_A", "attn.v.lora_A")):
            tensor.copy_(updates[name.replace(".k.", ".q.").replace(".v.", ".q.")])
    for name, parameter in model.named_parameters():
        name = name.replace(".base_layer.", ".").replace(".default.weight", "")
        if name.endswith("attn.lora_A"):
            parameter.data = updates[name.replace("lora_A", "q.lora_A")]
        elif name.endswith("attn.lora_B"):
            parameter.data = torch.cat(
                [updates[name.replace("lora_B", f"{x}.lora_B")] for x in "qkv"]
            )
        elif ".lora_" in name:
            parameter.data = updates[name]
    return model


def merged(clip: Clip, lora: Lora) -> Any:
    """open_clip's model with every update added to its weight by hand."""
    model, updates = copy.deepcopy(clip.model), lora.parameters()
    weights = dict(model.named_parameters())
    for name in updates:
        layer, factor = name.rsplit(".", 1)
        if factor == "lora_B":
            continue
        update = ALL.alpha / ALL.rank * updates[f"{layer}.lora_B"] @ updates[name]
        block, part = layer.rsplit(".", 1)
        if part in "qkv":
            rows = torch.arange(len(update)) + "qkv".index(part) * len(update)
            weights[f"{block}.in_proj_weight"].data.index_add_(0, rows, update.data)
        else:
            weights[f"{layer}.weight"].data.add_(update.data)
    return model


def outputs(clip: Clip, images: Tensor) -> tuple[Tensor, Tensor]:
    return clip.encode_tokens(images)[:, 0], clip.encode_text(clip.tokenizer(LINES))


@pytest.mark.parametrize("reference", [as_peft_wraps, merged])
@pytest.mark.parametrize("training", [False, True])
def test_both_towers_are_what_open_clips_forward_says(
    reference: Callable[[Clip, Lora], Any], training: bool
) -> None:
    clip, images = tiny_clip(), torch.randn(2, 3, 32, 32)
    lora = drawn(clip)
    theirs = reference(clip, lora).train(training)
    lora.train(training)
    outputs_of_lora, plain = outputs(lora.clip, images), outputs(clip, images)
    expected = theirs.encode_image(images), theirs.encode_text(clip.tokenizer(LINES))
    for ours, correct, before in zip(outputs_of_lora, expected, plain, strict=True):
        torch.testing.assert_close(ours, correct, rtol=0, atol=1e-5)
        assert (ours - before).abs().max() > 0.1


@pytest.mark.parametrize("parts", [ALL.parts, ("q", "v"), ("fc",)])
def test_merged_weights_give_the_same_answers(parts: tuple[Part, ...]) -> None:
    clip, images = tiny_clip(), torch.randn(2, 3, 32, 32)
    before = {name: tensor.clone() for name, tensor in clip.state_dict().items()}
    lora = drawn(clip, replace(ALL, parts=parts))
    merged_clip = lora.merged()
    plain = outputs(clip, images)
    for one, other, unmoved in zip(
        outputs(merged_clip, images), outputs(lora.clip, images), plain, strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
        assert (one - unmoved).abs().max() > 0.1
    assert all(torch.equal(before[name], t) for name, t in clip.state_dict().items())
    assert merged_clip.state_dict().keys() == before.keys(), "a plain CLIP"
    of_clip, of_merged = dict(clip.named_parameters()), dict(merged_clip.named_parameters())
    copied = {name for name, weight in of_merged.items() if weight is not of_clip[name]}
    assert copied, "a weight with an update is one of its own"
    assert all("attn.in_proj_weight" in name or name.endswith(".weight") for name in copied)
    assert all("resblocks" in name for name in copied)


def test_only_the_update_learns_and_the_given_clip_is_untouched() -> None:
    clip = tiny_clip()
    before = {name: tensor.clone() for name, tensor in clip.state_dict().items()}
    lora = drawn(clip)
    images, texts = outputs(lora.clip, torch.randn(2, 3, 32, 32))
    (images.sum() + texts.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in lora.parameters().values())
    trained = {n for n, p in lora.clip.model.named_parameters() if p.requires_grad}
    assert len(trained) == len(lora.parameters()) == 2 * 6 * (1 + 2)
    assert clip.state_dict().keys() == before.keys()
    assert all(torch.equal(before[name], t) for name, t in clip.state_dict().items())
    frozen = dict(lora.clip.named_parameters())["model.visual.conv1.weight"]
    assert frozen is dict(clip.named_parameters())["model.visual.conv1.weight"]


def test_it_starts_as_the_plain_clip_and_drops_inputs_in_training_alone() -> None:
    clip, images = tiny_clip(), torch.randn(2, 3, 32, 32)
    config = LoraConfig(rank=2, alpha=1.0, dropout=0.5, towers=("image",), parts=("q", "v"))
    lora = Lora(clip, config, seed=0)
    torch.testing.assert_close(lora.clip.encode_tokens(images), clip.encode_tokens(images))
    for name, parameter in lora.parameters().items():
        if name.endswith("lora_B"):
            torch.nn.init.ones_(parameter)
    calm = lora.clip.encode_tokens(images)
    assert torch.equal(lora.clip.encode_tokens(images), calm)
    lora.train(True)
    assert not torch.allclose(lora.clip.encode_tokens(images), calm)
