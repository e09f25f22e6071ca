"""The original's files: what is in them is taken to the last bit, or named."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv1d, linear, normalize

from kernels.moments import moments
from models.clip import Clip
from models.methods.imagine_training import ImagineFslHyper
from models.methods.imaginefsl import ImagineFsl
from models.moment_adapter import AdapterConfig, MomentAdapter
from models.released.fine_tuned import FineTunedConfig, read_fine_tuned, write_fine_tuned
from models.released.lora import read_visual_model
from models.released.teacher import read_branch, read_state, read_teacher, write_teacher
from tests.models.methods.tasks import NAMES, features, task, tiny_clip
from tests.parity import golden_clip

GOLDEN = Path(__file__).parents[2] / "golden" / "imaginefsl"
TEACHER = GOLDEN / "teacher_checkpoint.pth"
HEADS, RANK, ALPHA = 3, 2, 8.0


@pytest.fixture(scope="module")
def clip() -> Clip:
    return golden_clip(json.loads((GOLDEN / "config.json").read_text()), read_branch(TEACHER))


@pytest.fixture
def teacher() -> dict[str, Tensor]:
    return torch.load(TEACHER, weights_only=True)["teacher"]


def saved(folder: Path, content: Any, name: str = "file.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


def same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return actual.keys() == expected.keys() and all(
        torch.equal(tensor, expected[name]) for name, tensor in actual.items()
    )


def test_the_golden_teacher_is_read_by_component(clip: Clip) -> None:
    config = json.loads((GOLDEN / "config.json").read_text())
    _, model, inventory = read_teacher(TEACHER, clip, HEADS)
    assert model.adapter.depth == config["adapter"]["depth"]
    assert model.adapter.inner == config["adapter"]["qkv_dim"]
    assert model.dino_head.prototypes == config["dino_head"]["out_dim"]
    assert model.ibot_head.bottleneck == config["ibot_head"]["bottleneck_dim"]
    assert inventory.taken == {"mask_token": 1, "adapter": 24, "dino_head": 8, "ibot_head": 8}
    assert len(inventory.ignored) == 32
    assert "config has them, within 0e+00" in str(inventory)


def test_a_teacher_written_is_the_one_read(tmp_path: Path, clip: Clip) -> None:
    write_teacher(tmp_path / "again.pth", read_teacher(TEACHER, clip, HEADS)[0], clip)
    whole, again = (torch.load(p, weights_only=True) for p in (TEACHER, tmp_path / "again.pth"))
    assert whole.keys() == again.keys()
    assert again["text_adapter"] is None
    assert same(again["teacher"], whole["teacher"])


def test_wrappers_and_prefixes_change_nothing(
    tmp_path: Path, clip: Clip, teacher: dict[str, Tensor]
) -> None:
    prefixed = {f"module.{name}": tensor for name, tensor in teacher.items()}
    path = saved(tmp_path, {"model": {"teacher": prefixed}, "iteration": 7})
    assert same(read_teacher(path, clip, HEADS)[0], read_teacher(TEACHER, clip, HEADS)[0])


def test_every_tensor_that_does_not_fit_is_named(
    tmp_path: Path, clip: Clip, teacher: dict[str, Tensor]
) -> None:
    del teacher["adapter.blocks.1.mlp.fc2.bias"]
    teacher["text_adapter.weight"] = torch.zeros(2)
    teacher["dino_head.mlp.2.weight"] = torch.zeros(3, 3)
    with pytest.raises(ValueError, match=r"file\.pth: .*teacher") as refused:
        read_teacher(saved(tmp_path, {"teacher": teacher}), clip, HEADS)
    names = str(refused.value).split(": ", 2)[2].split("; ")
    assert names == [
        "adapter.blocks.1.mlp.fc2.bias: expected (16,), found none",
        "dino_head.mlp.2.weight: expected (32, 32), found (3, 3)",
        "text_adapter.weight: expected none, found (2,)",
    ]


def test_heads_and_clip_that_do_not_fit_are_named(
    tmp_path: Path, clip: Clip, teacher: dict[str, Tensor]
) -> None:
    with pytest.raises(ValueError, match=r"heads: none, and the adapter .* is 12 wide"):
        read_teacher(TEACHER, clip)
    teacher["backbone.ln_post.weight"] = teacher["backbone.ln_post.weight"] * 1.01
    with pytest.raises(ValueError, match=r"another CLIP than 'config': \['ln_post.weight'\]"):
        read_teacher(saved(tmp_path, {"teacher": teacher}), clip, HEADS)


class Code:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made by a checkpoint",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"teacher": Code()}, "refused"),
        ({"student": {}}, r"no 'teacher'; found are \['student'\]"),
        ({"teacher": {"a": "text"}}, r"\['a'\] are no tensors"),
        ({"teacher": {"a": torch.zeros(1), "module.a": torch.ones(1)}}, "with and without module"),
        ({"teacher": {"a": torch.tensor([math.nan])}}, r"\['a'\] hold infinite numbers or NaN"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_state(saved(tmp_path, content), "teacher")
    assert not Path("made by a checkpoint").exists()


def fine_tuned(folder: Path, names: list[str], dim: int, lora: bool = False) -> dict[str, Any]:
    """Settings of a set of random files in the original's layout."""
    rng = torch.Generator().manual_seed(3)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng)

    blocks = MomentAdapter(dim, AdapterConfig(depth=2, inner=8, heads=2)).state_dict()
    adapter = {f"adapter.{name}": drawn(*t.shape) / 4 for name, t in blocks.items()}
    visual = {"linear.weight": drawn(len(names), 4 * dim), "linear.bias": drawn(len(names))}
    layer = "linear" if lora else "text_classifier"
    text = {f"{layer}.weight": drawn(len(names), dim), f"{layer}.bias": drawn(len(names))}
    if lora:
        del visual["linear.bias"]
    else:
        text["bias"] = drawn(len(names))
    return {
        "adapter": str(saved(folder, {"model": adapter}, "a.pth")),
        "visual_head": str(saved(folder, visual, "v.pth")),
        "text_head": str(saved(folder, text, "t.pth")),
        "names": names,
        "fusion_weight": 0.3,
        "dataset": "animals",
    }


def by_hand(settings: dict[str, Any], tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Visual logits, and text logits before their temperature."""
    files = [read_state(Path(settings[r])) for r in ("adapter", "visual_head", "text_head")]
    adapter = MomentAdapter(tokens.shape[-1], AdapterConfig(depth=2, inner=8, heads=2))
    adapter.load_state_dict({n.removeprefix("adapter."): t for n, t in files[0].items()})
    with torch.no_grad():
        pooled, cls = moments(adapter(tokens)), normalize(tokens[:, 0], dim=-1)
    visual = linear(pooled, files[1]["linear.weight"], files[1].get("linear.bias"))
    (layer,) = {name.split(".")[0] for name in files[2] if name != "bias"}
    return visual, linear(cls, files[2][f"{layer}.weight"], files[2].get(f"{layer}.bias"))


def test_a_fine_tuned_set_predicts_as_the_original_does(tmp_path: Path) -> None:
    clip, tokens = tiny_clip(), features(2, 7).clean.float()
    settings = fine_tuned(tmp_path, NAMES, clip.embed_dim)
    cfg = FineTunedConfig(**settings, log_temperature=4.5)
    model, inventories = read_fine_tuned(cfg, clip, heads=2)
    visual, text = by_hand(settings, tokens)
    text = text * math.exp(4.5)
    expected = 0.3 * normalize(visual, dim=1) + 0.7 * normalize(text, dim=1)
    torch.testing.assert_close(model.logits(tokens), expected)
    (ignored,) = [inventory.ignored for inventory in inventories if inventory.ignored]
    assert ignored == {"bias": "a second bias that the original never uses"}
    with pytest.raises(ValueError, match="log_temperature: none"):
        read_fine_tuned(FineTunedConfig(**settings), clip, heads=2)
    fewer = FineTunedConfig(**{**settings, "names": NAMES[1:]}, log_temperature=4.5)
    with pytest.raises(ValueError, match=r"linear.bias: expected \(4,\), found \(5,\); linear.wei"):
        read_fine_tuned(fewer, clip, heads=2)


def test_two_classes_of_a_fine_tuned_set_may_have_one_name(tmp_path: Path) -> None:
    clip, tokens, names = tiny_clip(), features(2, 7).clean.float(), ["fox", *NAMES[1:4], "fox"]
    cfg = FineTunedConfig(**fine_tuned(tmp_path, names, clip.embed_dim), log_temperature=4.5)
    model, _ = read_fine_tuned(cfg, clip, heads=2)
    assert model.card.names == names
    assert model.logits(tokens).shape == (len(tokens), 5)
    with pytest.raises(ValueError, match="names: class 1 has an empty one"):
        read_fine_tuned(replace(cfg, names=["fox", " "]), clip, heads=2)


def test_a_fitted_model_goes_out_and_comes_back(tmp_path: Path) -> None:
    hyper = ImagineFslHyper(
        adapter=AdapterConfig(depth=1, inner=12, heads=2), head_steps=20, steps=2, precision="fp32"
    )
    fitted, tokens = ImagineFsl.fit(task(), hyper, seed=0), features(3, 7).clean
    models = [fitted]
    for name in ("first", "second"):
        write_fine_tuned(tmp_path, name, models[-1])
        content = json.loads((tmp_path / f"{name}.json").read_text())
        heads = content.pop("heads")
        del content["backbone"]
        models.append(read_fine_tuned(FineTunedConfig(**content), tiny_clip(), heads)[0])
    _, first, second = models
    torch.testing.assert_close(
        first.heads(tokens)["fused"], fitted.heads(tokens)["fused"], rtol=1e-4, atol=1e-4
    )
    assert same(second.tensors(), first.tensors())
    assert second.card == first.card


def lora_files(clip: Clip, folder: Path) -> tuple[Path, Path, dict[str, Tensor]]:
    """An image tower in the original's layout, merged and unmerged; the right weights in float64.

    The update is a grouped convolution, as in the package of LoRA's authors.
    """
    rng, scale = torch.Generator().manual_seed(4), ALPHA / RANK
    plain = clip.model.visual.state_dict()
    right = {name: tensor.double() for name, tensor in plain.items()}
    merged, unmerged = {"mask_token": torch.zeros(1, clip.vision_width)}, {}
    for name, tensor in plain.items():
        before, mark, after = name.partition(".attn.")
        layer = "qkv" if after == "in_proj_weight" else "proj"
        old = {"in_proj_weight": "qkv.weight", "in_proj_bias": "qkv.bias"}
        key = before + mark + old.get(after, after.replace("out_proj", "proj"))
        merged[key] = unmerged[key] = tensor
        if mark and tensor.ndim == 2:
            groups = len(tensor) // clip.vision_width
            a = torch.randn(groups * RANK, clip.vision_width, generator=rng) / 9
            b = torch.randn(len(tensor), RANK, generator=rng) / 9
            update = conv1d(a.double()[None], b.double()[:, :, None], groups=groups)[0]
            right[name] = tensor.double() + scale * update
            merged[key] = right[name].float()
            factors = {f"{before}.attn.{layer}.lora_A": a, f"{before}.attn.{layer}.lora_B": b}
            merged |= factors
            unmerged |= factors
    return saved(folder, merged, "merged.pth"), saved(folder, unmerged, "unmerged.pth"), right


def test_a_lora_update_is_in_the_weights_once(tmp_path: Path, clip: Clip) -> None:
    merged, unmerged, right = lora_files(clip, tmp_path)
    for path, state_of_update in ((merged, "merged"), (unmerged, "unmerged")):
        state, lora, inventory = read_visual_model(path, clip, ALPHA)
        assert (lora.rank, lora.alpha, lora.found) == (RANK, ALPHA, state_of_update)
        assert same(state, {name: tensor.float() for name, tensor in right.items()})
        assert sum(".lora_" in name for name in inventory.ignored) == 8
    with pytest.raises(ValueError, match=r"lora_alpha: 16.0, .* in it 0.50 times"):
        read_visual_model(merged, clip, 2 * ALPHA)
    with pytest.raises(ValueError, match=r"lora_alpha: none"):
        read_visual_model(merged, clip, None)


def test_a_lora_set_predicts_on_its_own_tower(tmp_path: Path, clip: Clip) -> None:
    merged, unmerged, right = lora_files(clip, tmp_path)
    settings = fine_tuned(tmp_path, NAMES, clip.embed_dim, lora=True)
    images = torch.randn(3, 3, clip.image_size, clip.image_size)
    logits = []
    for path in (merged, unmerged):
        cfg = FineTunedConfig(**settings, visual_model=str(path), lora_alpha=ALPHA)
        model, _ = read_fine_tuned(cfg, clip, heads=2)
        assert model.card.weights_hash == model.clip.weights_hash != clip.weights_hash
        tokens = model.clip.encode_tokens(images)
        visual, text = by_hand(settings, tokens)
        logits.append(model.logits(tokens))
        torch.testing.assert_close(logits[-1], 0.3 * visual + text / 0.01)
    assert torch.equal(*logits)
    double = golden_clip(json.loads((GOLDEN / "config.json").read_text()), read_branch(TEACHER))
    double.double().model.visual.load_state_dict(right)
    torch.testing.assert_close(tokens, double.encode_tokens(images.double()).float())
