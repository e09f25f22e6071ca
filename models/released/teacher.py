"""ImagineFSL's own checkpoint files: read strictly, by component, and the pretrained one written.

Files come from outside: only tensors are unpickled (`weights_only`), and every tensor is either
taken, left out for a reason that the inventory states, or named in an error.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.clip import Clip
from models.dino_head import HeadConfig
from models.methods.adapted import exactly
from models.moment_adapter import AdapterConfig
from models.moment_dino import COMPONENTS, Branch, MomentDinoConfig
from models.weights import State, plain_state, read_file, unwrapped

HEAD_WIDTH = 64
"""Channels per attention head of every released adapter."""
DRIFT = 1e-3
"""Largest distance of a frozen weight from CLIP's, over its length: half precision is 3e-4."""


@dataclass(frozen=True)
class Inventory:
    """What became of the tensors of one file."""

    file: str
    taken: dict[str, int]
    """Number of the tensors that were taken, by component."""
    ignored: dict[str, str]
    """Reasons why tensors were ignored, by key."""

    def __str__(self) -> str:
        parts = [f"{component} {count}" for component, count in self.taken.items()]
        text = f"{self.file}: {', '.join(parts)} tensors"
        for reason, count in Counter(self.ignored.values()).items():
            first = next(key for key, why in self.ignored.items() if why == reason)
            text += f"; {count} ignored ({first}{', …' * (count > 1)}): {reason}"
        return text


@dataclass(frozen=True)
class BranchState:
    """A student or teacher as the original saves it."""

    trained: State
    """The components by the names in `Branch`: mask_token, adapter.*, dino_head.*, ibot_head.*."""
    visual: State
    """The frozen image tower, by open_clip's names."""


def read_state(path: Path, section: str | None = None) -> State:
    """The tensors of a file, float32, on the CPU; wrapped in {"model": …} or not.

    section: key that they lie under ("teacher"). Raises ValueError, naming the file, if it lacks
    the section, and for what `models.weights` refuses.
    """
    content = unwrapped(read_file(path))
    if section is not None:
        content = _section(path, content, section)
    return {name: t.float().contiguous() for name, t in plain_state(path, content).items()}


def read_branch(path: Path, section: str = "teacher") -> BranchState:
    """The tensors of a student or teacher, split by component but not yet checked."""
    trained, visual = {}, {}
    for name, tensor in read_state(path, section).items():
        if name == "backbone.mask_token":
            trained["mask_token"] = tensor
        elif name.startswith("backbone."):
            visual[name.removeprefix("backbone.")] = tensor
        else:
            trained[name] = tensor
    return BranchState(trained, visual)


def read_teacher(
    path: Path, clip: Clip, heads: int | None = None
) -> tuple[State, MomentDinoConfig, Inventory]:
    """A teacher's tensors by the names in `Branch`, its sizes, and what became of the file.

    heads: attention heads of the adapter, which no shape tells; None: one per HEAD_WIDTH channels.
    What has no tensor (drop path, temperatures, loss weights) is that of the released recipe.
    Raises ValueError, naming the file and all tensors concerned, if one is missing, unknown or of
    another shape, or if the image tower is not that of `clip`.
    """
    saved = read_branch(path)
    config = MomentDinoConfig(
        adapter=adapter_config(path, saved.trained, heads),
        dino_head=_head_config(path, saved.trained, "dino_head"),
        ibot_head=_head_config(path, saved.trained, "ibot_head"),
    )
    with torch.device("meta"):
        fit(path, saved.trained, shapes(Branch(clip, config).state_dict()), "teacher")
    farthest = require_frozen(path, saved.visual, clip)
    taken = {part: sum(key.split(".")[0] == part for key in saved.trained) for part in COMPONENTS}
    reason = f"{clip.backbone} has them, within {farthest:.0e} of their length"
    ignored = dict.fromkeys((f"backbone.{name}" for name in saved.visual), reason)
    return saved.trained, config, Inventory(path.name, taken, ignored)


def write_teacher(path: Path, trained: State, clip: Clip) -> None:
    """`teacher_checkpoint.pth`: a teacher (named as in `Branch`) and the image tower of `clip`."""
    visual = {f"backbone.{name}": t for name, t in clip.model.visual.state_dict().items()}
    others = {name: tensor for name, tensor in trained.items() if name != "mask_token"}
    teacher = {**visual, "backbone.mask_token": trained["mask_token"], **others}
    torch.save({"teacher": teacher, "text_adapter": None}, path)


def adapter_config(path: Path, state: State, heads: int | None) -> AdapterConfig:
    """Sizes of the adapter.blocks.* in a file; see `read_teacher`."""
    blocks = {name.split(".")[2] for name in state if name.startswith("adapter.blocks.")}
    qkv, dim = (
        size_of(path, state, "attn.qkv.weight", 0),
        size_of(path, state, "attn.qkv.weight", 1),
    )
    inner = qkv // 3
    if heads is None and inner % HEAD_WIDTH:
        raise ValueError(
            f"heads: none, and the adapter of {path} is {inner} wide; allowed: its attention heads "
            f"(only multiples of {HEAD_WIDTH} have {HEAD_WIDTH} channels per head)"
        )
    return AdapterConfig(
        depth=len(blocks),
        inner=inner,
        heads=heads or inner // HEAD_WIDTH,
        mlp_ratio=size_of(path, state, "mlp.fc1.weight", 0) / dim,
    )


def require_frozen(path: Path, visual: State, clip: Clip) -> float:
    """The largest distance of image tower weights from those of `clip`, relative to their length.

    Raises ValueError, naming all weights concerned, if that is above DRIFT or the names differ.
    """
    expected = clip.model.visual.state_dict()
    fit(path, visual, shapes(expected), "CLIP image tower")
    return require_near(path, visual, expected, clip)


def require_near(path: Path, state: State, expected: Mapping[str, Tensor], clip: Clip) -> float:
    """`require_frozen` for weights whose names and shapes are known to fit."""
    distances = {name: distance(tensor, expected[name]) for name, tensor in state.items()}
    if far := sorted(name for name, d in distances.items() if not d <= DRIFT):
        raise ValueError(
            f"{path} was made on another CLIP than {clip.backbone!r}: {far} differ by up to "
            f"{max(distances[name] for name in far):.1e} of their length; allowed: {DRIFT}"
        )
    return max(distances.values(), default=0.0)


def distance(actual: Tensor, expected: Tensor) -> float:
    """Distance of two tensors of one shape, relative to the length of `expected`; in float64."""
    length = expected.double().norm().clamp(min=1e-12)
    return float((actual.double() - expected.double()).norm() / length)


def fit(path: Path, state: State, expected: dict[str, tuple[int, ...]], what: str) -> None:
    """ValueError that names the file and every tensor missing, unknown or of another shape."""
    try:
        exactly(state, expected, what)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _head_config(path: Path, state: State, head: str) -> HeadConfig:
    return HeadConfig(
        prototypes=size_of(path, state, f"{head}.last_layer.weight_v", 0),
        hidden=size_of(path, state, f"{head}.mlp.0.weight", 0),
        bottleneck=size_of(path, state, f"{head}.last_layer.weight_v", 1),
    )


def size_of(path: Path, state: State, ending: str, axis: int) -> int:
    """The most common size among matrices of this ending, so that a single odd one is found out."""
    sizes = [t.shape[axis] for name, t in state.items() if name.endswith(ending) and t.ndim == 2]
    if not sizes:
        raise ValueError(f"{path} has no matrix …{ending}; found are {sorted(state)[:5]}, …")
    return Counter(sizes).most_common(1)[0][0]


def _section(path: Path, saved: Any, name: str) -> Any:
    keys = sorted(map(str, saved)) if isinstance(saved, Mapping) else []
    if name not in keys:
        raise ValueError(f"{path} has no {name!r}; found are {keys[:5]}")
    return saved[name]
