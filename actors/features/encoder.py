"""Encoders: encoded images to frozen CLIP tokens, clean and augmented."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jsonargparse.typing import PositiveInt
from PIL import Image
from torch import Tensor

from actors.pictures.codec import BadImageError, decode_rgb, resized_square
from actors.pictures.places import read_images
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.rows import row_rng
from models.backbones import load_clip
from models.clip import Clip
from models.precision import Precision, autocast
from models.prompts.registry import require_readable
from models.views import NUMBERS, ViewConfig, make_views

AUGMENTATION = ViewConfig(smallest_crop=0.3, grey=0.0, blur=(0.0, 0.0), solarise=(0.0, 0.0))


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """What tokens depend on, besides the images."""

    backbone: str = "tiny"
    """CLIP: "tiny", "ARCH/TAG" of open_clip, or "ARCH:FILE" with a local file."""
    views: PositiveInt = 4
    """Views of a training image: the clean one and views - 1 augmented ones."""
    imagined_views: PositiveInt = 1
    """Views of an imagined image, the first one clean."""
    patches: bool = True
    """Whether the tokens of patches are kept beside the class token. ImagineFSL reads them, FSNL
    with `adapted_weight`, and discovery by mean shift; without them features take 1 / (1 + P) of
    the room: for ViT-B/16 1 kB a view instead of 202."""
    augmentation: ViewConfig = AUGMENTATION
    """How an augmented view is drawn. Of `blur` and `solarise` the first number counts."""
    precision: Precision = "auto"
    """Arithmetic of the image tower; tokens are stored in float16."""
    batch_size: PositiveInt = unhashed(128)
    """Views in one forward pass."""


def stored_image(config: EncoderConfig, clip: Clip) -> tuple[int, int]:
    """Tokens of a view that are kept, and channels."""
    return (clip.num_tokens if config.patches else 1, clip.embed_dim)


def backbone(name: str, *, download: bool = True, device: str = "cpu") -> Clip:
    """The CLIP of this name; ConfigError if it cannot be loaded. download: see `load_clip`."""
    try:
        return load_clip(name, download=download).to(device)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def require_names(
    clip: Clip, where: str, names: Sequence[str], contexts: Collection[str] = ()
) -> None:
    """ConfigError if CLIP cannot read one of these class names as a whole.

    where: the beginning of the message. contexts: templates, see `require_readable`.
    """
    try:
        require_readable(clip, names, contexts)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


class Encoder:
    """Images to tokens: the CLIP is loaded once, batches are mapped.

    Reads `id`, the place of the image (`actors.pictures.places`) and `views` (how many). Adds
    `tokens` (bytes of float16 (views, T, D), empty if refused; T is 1 + N, or 1 without patches)
    and `reason` (empty if fine).
    What a view shows depends on its row alone. device: "cpu" or "cuda", of augmentation and image
    tower. clip: the CLIP of `config.backbone` where it is loaded already.
    """

    def __init__(
        self, config: EncoderConfig, device: str = "cpu", clip: Clip | None = None
    ) -> None:
        self.config = config
        self.clip = (clip or backbone(config.backbone)).to(device)
        self.device = torch.device(device)

    @property
    def image(self) -> tuple[int, int]:
        """Tokens of a view that are kept, and channels."""
        return stored_image(self.config, self.clip)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self.encoded(batch, read_images(batch))

    def encoded(
        self, batch: dict[str, np.ndarray], encoded_images: Iterable[bytes]
    ) -> dict[str, np.ndarray]:
        """The batch as it is called with, of images that are read already, one of each row."""
        reasons, images, good = [], [], []
        for row, data in enumerate(encoded_images):
            try:
                images.append(decode_rgb(data))
                good.append(row)
                reasons.append("")
            except BadImageError as error:
                reasons.append(str(error))
        ids, counts = (
            batch["id"][np.array(good, dtype=int)].tolist(),
            [int(batch["views"][row]) for row in good],
        )
        tokens = [b""] * len(reasons)
        for row, views in zip(good, self.tokens(images, ids, counts).split(counts), strict=True):
            tokens[row] = views.numpy().tobytes()
        return {
            **batch,
            "tokens": np.array(tokens, dtype=object),
            "reason": np.array(reasons, dtype=object),
        }

    @torch.no_grad()
    def tokens(self, images: list[Image.Image], ids: Sequence[str], counts: list[int]) -> Tensor:
        """All views of all images, one after the other: (sum of counts, T, D) float16, CPU.

        ids, counts: of each image, its row id and how many views of it.
        """
        views = self._views(images, ids, counts)
        tokens = torch.empty(len(views), *self.image, dtype=torch.half)
        for start in range(0, len(views), self.config.batch_size):
            part = views[start : start + self.config.batch_size]
            tokens[start : start + len(part)] = self._tokens(part)
        return tokens

    def _tokens(self, views: Tensor) -> Tensor:
        """(B, 3, R, R) views to (B, T, D) float16."""
        if self.config.patches:
            return view_tokens(self.clip, views, self.config.precision)
        with autocast(views.device, self.config.precision):
            return self.clip.encode_images(self.clip.normalise(views)).half().unsqueeze(1)

    def _views(self, images: list[Image.Image], ids: Sequence[str], counts: list[int]) -> Tensor:
        """(sum of counts, 3, R, R) float32 in [0, 1], on the device."""
        size = self.clip.image_size
        views = torch.empty(sum(counts), 3, size, size, device=self.device)
        first = np.cumsum([0, *counts])[: len(counts)]
        by_size: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
        for number, image in enumerate(images):
            views[first[number]] = clean_view(image, *self.clip.square) / 255
            for view in range(1, counts[number]):
                by_size[image.size].append((number, view, int(first[number]) + view))
        for views_of_size in by_size.values():
            for start in range(0, len(views_of_size), self.config.batch_size):
                part = views_of_size[start : start + self.config.batch_size]
                pixels = torch.stack([_channels_first(np.asarray(images[n])) for n, _, _ in part])
                numbers = view_numbers([(ids[n], view) for n, view, _ in part])
                places = [place for _, _, place in part]
                views[places] = make_views(
                    pixels.to(self.device),
                    numbers.to(self.device),
                    0,
                    size,
                    self.config.augmentation,
                )
        return views


@torch.no_grad()
def view_tokens(clip: Clip, views: Tensor, precision: Precision = "auto") -> Tensor:
    """Views (B, 3, R, R), uint8 or float in [0, 1], to tokens (B, 1 + N, D) float16, as stored."""
    with autocast(views.device, precision):
        return clip.encode_tokens(clip.normalise(views)).half()


def clean_view(
    image: Image.Image, size: int, resize: str = "crop", interpolation: str = "bicubic"
) -> Tensor:
    """View 0 of an RGB image: (3, size, size) uint8. The rest: see `resized_square`."""
    return _channels_first(resized_square(image, size, resize, interpolation))


def view_numbers(views: Sequence[tuple[str, int]]) -> Tensor:
    """All that is random about views, from row id and view number alone: (B, NUMBERS) in [0, 1)."""
    numbers = [
        row_rng(row, f"view {view}").random(NUMBERS, dtype=np.float32) for row, view in views
    ]
    return torch.from_numpy(np.stack(numbers))


def _channels_first(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
