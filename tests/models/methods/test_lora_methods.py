"""What holds for the methods whose towers learn by LoRA."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.methods import METHODS, load_adapted
from models.methods.image_batches import ImageBatches
from models.views import ViewConfig
from tests.models.methods.tasks import NAMES, features, task, tiny_clip
from tests.models.methods.test_methods import QUICK

LORA = ["clip_lora", "imaginefsl_lora"]
STILL = {
    "clip_lora": replace(QUICK["clip_lora"], steps=1, lr=1e-12),
    "imaginefsl_lora": replace(
        QUICK["imaginefsl_lora"], lora_steps=1, lora_lr=1e-12, adapter_lr=1e-12
    ),
}


@pytest.mark.parametrize("method", LORA)
def test_clip_is_left_as_it_was_and_not_saved(method: str) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_clip().state_dict().items()}
    adapted = METHODS[method].fit(task(imagined=True), QUICK[method], seed=0)
    assert all(torch.equal(before[name], t) for name, t in tiny_clip().state_dict().items())
    inside = {name for name in adapted.tensors() if "resblocks" in name}
    assert {name.rsplit(".", 1)[1] for name in inside} == {"lora_A", "lora_B"}
    updates = [tensor for name, tensor in adapted.tensors().items() if name.endswith("lora_B")]
    assert all(tensor.abs().max() > 0 for tensor in updates), "every update has learned"


def test_unmoved_they_are_zero_shot_and_imaginefsl() -> None:
    cell, images = task(), features(3, 7).inputs("images")
    tokens = tiny_clip().encode_tokens(tiny_clip().normalise(images)).half()
    zero = METHODS["zero_shot"].fit(cell, QUICK["zero_shot"], seed=0).logits(tokens)
    still = replace(STILL["clip_lora"], precision="fp32")
    lora = METHODS["clip_lora"].fit(cell, still, seed=0).logits(images)
    torch.testing.assert_close(lora, zero, rtol=1e-3, atol=1e-2)
    still = replace(STILL["imaginefsl_lora"], precision="fp32")
    before = METHODS["imaginefsl"].fit(cell, still, seed=0).heads(tokens)["visual"]
    after = METHODS["imaginefsl_lora"].fit(cell, still, seed=0).heads(images)["visual"]
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", LORA)
def test_tensors_of_another_rank_are_named(method: str, tmp_path: Path) -> None:
    METHODS[method].fit(task(), STILL[method], seed=0).save(tmp_path)
    saved = load_file(tmp_path / "adapted.safetensors")
    name = next(name for name in saved if name.endswith("attn.q.lora_A"))
    save_file(saved | {name: saved[name][:1].contiguous()}, tmp_path / "adapted.safetensors")
    with pytest.raises(ValueError, match=r"attn\.q\.lora_A: expected .*, found \(1, "):
        load_adapted(tmp_path, tiny_clip())


def test_a_view_depends_on_seed_epoch_and_row_alone() -> None:
    split, config = features(1, 7), ViewConfig()

    def epochs(batch: int, seed: int) -> list[torch.Tensor]:
        """The views of two epochs, by label, which is the row."""
        batches = ImageBatches(split, batch, 32, config, [seed])
        pairs = [batches.next() for _ in range(2 * len(NAMES) // batch)]
        views, labels = torch.cat([v for v, _ in pairs]), torch.cat([rows for _, rows in pairs])
        first, second = views[: len(NAMES)], views[len(NAMES) :]
        return [
            first[labels[: len(NAMES)].argsort()],
            second[labels[len(NAMES) :].argsort()],
        ]

    alone, together, other = epochs(1, 0), epochs(5, 0), epochs(5, 1)
    for one, all_at_once in zip(alone, together, strict=True):
        torch.testing.assert_close(one, all_at_once)
    assert not torch.allclose(together[0], together[1])
    assert not torch.allclose(together[0], other[0])
