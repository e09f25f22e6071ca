"""Decoding and augmentation in `python -m jobs.bench pretrain`: ours, and PIL with torchvision."""

import io
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from actors.pictures.codec import decode_rgb, png_bytes, resized_square
from models.views import NUMBERS, ViewConfig, make_views

PICTURES, REPEATS = 16, 5
MEAN = STD = [0.5, 0.5, 0.5]


def views_per_second(pixels: int, size: int, config: ViewConfig) -> dict[str, float]:
    """Views made per second on one core, of PNG pictures of pixels x pixels, at size x size.

    In the first epoch ours decodes every picture once for each view that it makes, as the plain
    path always does; later epochs read the decoded pixels. The plain path has the same
    augmentations at the same strengths.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pictures = [picture(pixels, seed) for seed in range(PICTURES)]
    decoded = _decoded(pictures, pixels)
    chains = [_plain_chain(view, size, config) for view in (0, 1)]
    generator = torch.Generator().manual_seed(0)

    def ours(images: Tensor) -> None:
        for view in (0, 1):
            numbers = torch.rand(PICTURES // 2, NUMBERS, generator=generator)
            (make_views(images[view::2], numbers, view, size, config) - 0.5) / 0.5

    def plain() -> None:
        for i, picture in enumerate(pictures):
            with Image.open(io.BytesIO(picture)) as image:
                chains[i % 2](image.convert("RGB"))

    seconds = _interleaved(
        {
            "first_epoch": lambda: ours(_decoded(pictures, pixels)),
            "later_epochs": lambda: ours(decoded),
            "plain": plain,
        }
    )
    torch.set_num_threads(threads)
    figures = {f"views_per_second_{name}": PICTURES / s for name, s in seconds.items()}
    return figures | {
        f"views_{name}_over_plain": seconds["plain"] / seconds[name]
        for name in ("first_epoch", "later_epochs")
    }


def _interleaved(runs: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Median seconds of each; taken in turns, so that other load meets all of them."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPEATS + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds[1:]) for name, seconds in taken.items()}


def _decoded(pictures: list[bytes], pixels: int) -> Tensor:
    images = np.empty((len(pictures), 3, pixels, pixels), dtype=np.uint8)
    for place, picture in enumerate(pictures):
        images[place] = resized_square(decode_rgb(picture), pixels).transpose(2, 0, 1)
    return torch.from_numpy(images)


def _plain_chain(view: int, size: int, config: ViewConfig) -> v2.Compose:
    jitter = v2.ColorJitter(config.brightness, config.contrast, config.saturation, config.hue)
    return v2.Compose(
        [
            v2.RandomResizedCrop(
                size, (config.smallest_crop, 1.0), interpolation=v2.InterpolationMode.BICUBIC
            ),
            v2.RandomHorizontalFlip(config.flip),
            v2.RandomApply([jitter], config.jitter),
            v2.RandomGrayscale(config.grey),
            v2.RandomApply([v2.GaussianBlur(9, list(config.blur_sigma))], config.blur[view]),
            v2.RandomSolarize(128, config.solarise[view]),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )


def picture(pixels: int, seed: int) -> bytes:
    """Smooth colours with some grain, so that PNG has work to do."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((pixels, pixels), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = rng.integers(-4, 5, smooth.shape, dtype=np.int16)
    return png_bytes(Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)))
