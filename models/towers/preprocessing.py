"""How a picture becomes what an image tower reads, by the weights' own settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

Resize = Literal["crop", "squash"]
"""crop: the shorter side becomes the size, and the centre is cut out. squash: both sides do."""
Interpolation = Literal["bicubic", "bilinear"]
_RESIZES: dict[str, Resize] = {"shortest": "crop", "squash": "squash"}
_INTERPOLATIONS: dict[str, Interpolation] = {"bicubic": "bicubic", "bilinear": "bilinear"}


@dataclass(frozen=True)
class Preprocessing:
    """Size, crop or squash, and the numbers that pixels in [0, 1] are normalised by."""

    mean: tuple[float, ...] = OPENAI_DATASET_MEAN
    std: tuple[float, ...] = OPENAI_DATASET_STD
    resize: Resize = "crop"
    interpolation: Interpolation = "bicubic"


CLIPS_OWN = Preprocessing()
"""OpenAI's, which most weights of plain CLIPs were trained with."""


def preprocessing(settings: Mapping[str, Any]) -> Preprocessing:
    """From open_clip's settings of weights: mean, std, interpolation, resize_mode; all may be
    missing. ValueError, naming the setting, for one that is not known."""
    resize = str(settings.get("resize_mode") or "shortest")
    if resize not in _RESIZES:
        raise ValueError(f"resize_mode: {resize!r}; allowed: {', '.join(_RESIZES)}")
    interpolation = str(settings.get("interpolation") or "bicubic")
    if interpolation not in _INTERPOLATIONS:
        raise ValueError(f"interpolation: {interpolation!r}; allowed: {', '.join(_INTERPOLATIONS)}")
    mean = _three("mean", settings.get("mean") or OPENAI_DATASET_MEAN)
    std = _three("std", settings.get("std") or OPENAI_DATASET_STD)
    if min(std) <= 0:
        raise ValueError(f"std: {list(std)}; allowed: above 0")
    return Preprocessing(mean, std, _RESIZES[resize], _INTERPOLATIONS[interpolation])


def _three(name: str, values: Any) -> tuple[float, ...]:
    numbers = isinstance(values, Sequence) and all(isinstance(v, int | float) for v in values)
    if not numbers or len(values) != 3:
        raise ValueError(f"{name}: {values!r}; allowed: three numbers")
    return tuple(map(float, values))
