"""`python -m jobs.bench encodings`: what pictures take in each encoding, and what is lost by it."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from jsonargparse.typing import PositiveInt
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.nn import functional as F

from actors.embedded.imagined_scenes import Scene, paint, sprite_codes
from actors.embedded.sprite_factors import factor_table
from actors.features.encoder import backbone
from actors.pictures.codec import Encoding, decode_rgb, resized_square
from cluster.rows import row_id
from models.clip import Clip

Value = TypeVar("Value")
Result = TypeVar("Result")
ENCODINGS = {
    "png": Encoding(),
    **{f"webp_{q}": Encoding(format="webp", quality=q) for q in (80, 90, 95)},
    **{f"jpeg_{q}": Encoding(format="jpeg", quality=q) for q in (80, 90, 95)},
}
SMALLEST_CUT = 300
"""Pixels on a side of a cut from a photograph, at least."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodingsBench:
    """Bytes of a picture, how near its embedding by the tiny CLIP stays, and time beside PNG's."""

    pictures: PositiveInt = 128
    """Of each kind: sprite scenes in their size, and cuts of two photographs."""
    size: PositiveInt = 512
    """Pixels on a side of the cuts."""


def encodings(cfg: EncodingsBench) -> dict[str, float]:
    """By kind and encoding: bytes, cosine (mean and least) of the embeddings of the picture before
    and after, and time of encoding and of decoding over PNG's."""
    kinds = {"sprites": sprites(cfg.pictures), "photographs": cuts(cfg.pictures, cfg.size)}
    clip = backbone("tiny")
    return {
        f"{kind}_{encoding}_{name}": value
        for kind, pictures in kinds.items()
        for encoding, measurements in _measured(pictures, clip).items()
        for name, value in measurements.items()
    }


def sprites(count: int) -> list[Image.Image]:
    """Scenes of the sprite painter."""
    names, grounds = list(sprite_codes()), list(factor_table()["backgrounds"])
    return [
        paint(
            Scene(names[n % len(names)], background=grounds[n % len(grounds)]),
            row_id("bench", "", n, 0, "encodings"),
        )
        for n in range(count)
    ]


def cuts(count: int, size: int) -> list[Image.Image]:
    """Squares of scikit-learn's two photographs, resized."""
    rng, photographs = np.random.default_rng(0), load_sample_images().images
    pictures = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        side = int(rng.integers(SMALLEST_CUT, min(photograph.shape[:2]) + 1))
        top, left = (int(rng.integers(0, room - side + 1)) for room in photograph.shape[:2])
        cut = Image.fromarray(photograph[top : top + side, left : left + side])
        pictures.append(cut.resize((size, size), Image.Resampling.BICUBIC))
    return pictures


def _measured(pictures: Sequence[Image.Image], clip: Clip) -> dict[str, dict[str, float]]:
    before = _embeddings(pictures, clip)
    measurements = {}
    for name, encoding in ENCODINGS.items():
        data, encode_seconds = _timed(encoding.encode, pictures)
        after, decode_seconds = _timed(decode_rgb, data)
        cosines = (before * _embeddings(after, clip)).sum(dim=1)
        measurements[name] = {
            "bytes": sum(map(len, data)) / len(data),
            "mean_cosine": cosines.mean().item(),
            "least_cosine": cosines.min().item(),
            "encode_over_png": encode_seconds,
            "decode_over_png": decode_seconds,
        }
    png = dict(measurements["png"])
    for of_encoding in measurements.values():
        for name in ("encode_over_png", "decode_over_png"):
            of_encoding[name] /= png[name]
    return measurements


def _timed(
    function: Callable[[Value], Result], values: Sequence[Value]
) -> tuple[list[Result], float]:
    """What a function makes of each, and the CPU seconds that took."""
    started = time.process_time()
    results = [function(value) for value in values]
    return results, time.process_time() - started


@torch.no_grad()
def _embeddings(pictures: Sequence[Image.Image], clip: Clip) -> torch.Tensor:
    """(N, D) of unit length."""
    squares = np.stack([resized_square(picture, clip.image_size) for picture in pictures])
    pixels = torch.from_numpy(squares).permute(0, 3, 1, 2)
    return F.normalize(clip.encode_tokens(clip.normalise(pixels))[:, 0].double(), dim=-1)
