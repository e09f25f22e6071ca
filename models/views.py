"""Random views of images for pretraining, as linear maps on a whole batch.

Crop, resize, flip and blur are linear along each axis, and each output pixel depends on few input
pixels: neighbouring outputs share one small matrix. Brightness, contrast, saturation, hue and grey
are affine in colour, so each image's are one 3 x 3 matrix and an offset. The spatial rows sum to 1,
so the two commute. Deviations from torchvision's chain: values are clamped once, at the end (before
solarisation), not after every step; hue turns in YIQ, not HSV; crops lie between pixels, and one
that would not fit is cut to the image instead of drawn again; blur is cut off at four deviations.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, PositiveFloat
from torch import Tensor

NUMBERS = 18
"""Uniform numbers in [0, 1) that one view is made of."""

BLOCK = 64
"""Most neighbouring outputs that share a matrix."""
ELEMENTS = 1 << 24
"""Most numbers of the blocks' inputs in memory at once (64 MiB)."""
BLUR_REACH = 4.0
"""Standard deviations to which a blur reaches."""

LUMA = (0.299, 0.587, 0.114)
TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.321), (0.211, -0.523, 0.311))


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """How a view is drawn; the defaults are those released. Probabilities are per view."""

    smallest_crop: PositiveFloat = 0.32
    """Smallest part of the image's area in a crop."""
    largest_crop: PositiveFloat = 1.0
    """Largest part of the image's area in a crop."""
    flip: ClosedUnitInterval = 0.5
    jitter: ClosedUnitInterval = 0.8
    """Probability of colour jitter: the four strengths below, in random order."""
    brightness: NonNegativeFloat = 0.4
    contrast: NonNegativeFloat = 0.4
    saturation: NonNegativeFloat = 0.2
    hue: NonNegativeFloat = 0.1
    """Largest turn of the hue, as a part of the circle."""
    grey: ClosedUnitInterval = 0.2
    blur: tuple[ClosedUnitInterval, ClosedUnitInterval] = (1.0, 0.1)
    """Probability of blur in view 1 and in view 2."""
    blur_sigma: tuple[PositiveFloat, PositiveFloat] = (0.1, 2.0)
    """Smallest and largest standard deviation of the blur, in pixels of the view."""
    solarise: tuple[ClosedUnitInterval, ClosedUnitInterval] = (0.0, 0.2)
    """Probability of inverting what is brighter than half, in view 1 and in view 2."""


def make_views(images: Tensor, numbers: Tensor, view: int, size: int, config: ViewConfig) -> Tensor:
    """One view of every image.

    images: (B, 3, H, W) uint8; numbers: (B, NUMBERS) uniform in [0, 1), all that is random; view: 0
    or 1, which of the two recipes; size: R. Returns (B, 3, R, R) float32 in [0, 1].
    Source: the augmentations of BYOL (Grill et al., 2020), table 6, with ImagineFSL's sizes.
    """
    column = iter(numbers[:, 4:].unbind(dim=1))
    (height, top), (width, left) = _crops(images, numbers[:, :4], config)
    is_blurred = next(column) < config.blur[view]
    sigma = torch.where(is_blurred, _between(next(column), *config.blur_sigma), 0.0)
    flipped = next(column) < config.flip
    x = images.transpose(1, 2).flatten(2)  # (B, H, 3 W): the axis that is resized comes first
    x = resized(x, top, height, torch.zeros_like(flipped), size)
    x = x.unflatten(2, (3, -1)).permute(0, 3, 2, 1).flatten(2)  # (B, W, 3 R)
    x = _blurred_some(resized(x, left, width, flipped, size), sigma, config)
    x = x.unflatten(2, (3, -1)).permute(0, 3, 2, 1).flatten(2)  # (B, R, 3 R), rows first again
    x = _blurred_some(x, sigma, config).unflatten(2, (3, -1)).transpose(1, 2).flatten(2) / 255
    solarised = (next(column) < config.solarise[view]).nonzero().squeeze(1)
    matrix, offset = colour_map(torch.stack(list(column), dim=1), x.mean(dim=2), config)
    x = torch.baddbmm(offset.unsqueeze(2), matrix, x).clamp_(0, 1)
    x[solarised] = torch.where(x[solarised] >= 0.5, 1 - x[solarised], x[solarised])
    return x.unflatten(2, (size, size))


def resized(x: Tensor, start: Tensor, length: Tensor, flipped: Tensor, size: int) -> Tensor:
    """Crop, resize and flip along the first axis of each image: (B, P, K) to (B, size, K) float32.

    x: P pixels, any dtype; start, length: (B,) of the crop, in pixels; flipped: (B,) bool. Bicubic
    (a = −0.5), widened when shrinking, as PIL's; weights beyond the image's edge are left out.
    """
    places = torch.arange(size, dtype=torch.float32, device=start.device)
    scale = (length / size).view(-1, 1)
    turned = torch.where(flipped.unsqueeze(1), size - 1 - places, places)
    centres = start.view(-1, 1) + (turned + 0.5) * scale - 0.5
    widened = scale.clamp(min=1).view(-1, 1, 1, 1)
    most = x.shape[1] / size
    return _weighted(x, centres, most, 2 * max(most, 1.0), lambda d: _bicubic(d / widened))


def blurred(x: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Gaussian blur along the first axis of each image, (B, P, K) float32.

    sigma: (B,) standard deviation in pixels, above 0 and at most `largest`.
    """
    centres = torch.arange(x.shape[1], dtype=torch.float32, device=x.device).expand(len(x), -1)
    twice = 2 * sigma.square().view(-1, 1, 1, 1)
    return _weighted(
        x, centres, 1.0, BLUR_REACH * largest, lambda d: torch.exp(-d.square() / twice)
    )


def _blurred_some(x: Tensor, sigma: Tensor, config: ViewConfig) -> Tensor:
    """sigma: (B,), 0 for none."""
    rows = sigma.nonzero().squeeze(1)
    if not len(rows):
        return x
    return x.index_copy(0, rows, blurred(x[rows], sigma[rows], config.blur_sigma[1]))


def _weighted(
    x: Tensor, centres: Tensor, spacing: float, reach: float, weight_of: Callable[[Tensor], Tensor]
) -> Tensor:
    """Weighted means along the first axis: (B, P, K) to (B, size, K) float32.

    centres: (B, size) places on that axis, neighbours at most `spacing` apart; weight_of: distances
    to weights, (B, blocks, outputs, inputs) both; it must be 0 beyond `reach`, or little enough.
    """
    pixels = x.shape[1]
    block = math.gcd(centres.shape[1], BLOCK)
    grouped = centres.unflatten(1, (-1, block))
    width = min(pixels, math.floor((block - 1) * spacing + 2 * reach) + 1)
    first = (grouped.amin(dim=2) - reach).ceil().clamp(0, pixels - width)
    inputs = first.unsqueeze(2) + torch.arange(width, device=x.device)
    weights = weight_of((inputs.unsqueeze(2) - grouped.unsqueeze(3)).abs_())
    weights = weights / weights.sum(dim=3, keepdim=True)
    at_once = max(1, ELEMENTS // (inputs.shape[1] * width * x.shape[2]))
    parts = [
        weight @ _rows(part, at).float()
        for part, at, weight in zip(
            x.split(at_once), inputs.long().split(at_once), weights.split(at_once), strict=True
        )
    ]
    return torch.cat(parts).flatten(1, 2)


def _rows(x: Tensor, at: Tensor) -> Tensor:
    """Rows (B, n, m) of each image: (B, P, K) to (B, n, m, K).

    Whole rows are copied faster than by indexing.
    """
    images, pixels = x.shape[:2]
    if at.shape[1:] == (1, pixels):  # all of them
        return x.unsqueeze(1)
    offset = pixels * torch.arange(images, device=x.device).view(-1, 1, 1)
    return x.flatten(0, 1).index_select(0, (at + offset).flatten()).view(*at.shape, -1)


def colour_map(numbers: Tensor, mean: Tensor, config: ViewConfig) -> tuple[Tensor, Tensor]:
    """Jitter and grey as one affine map per image: matrix (B, 3, 3) and offset (B, 3).

    numbers: (B, 10) uniform; mean: (B, 3) mean colour of the image, to which contrast refers.
    """
    jittered, greyed = numbers[:, 0] < config.jitter, numbers[:, 1] < config.grey
    order = numbers[:, 2:6].argsort(dim=1)
    strengths = (config.brightness, config.contrast, config.saturation)
    brightness, contrast, saturation = (
        _between(numbers[:, 6 + i], max(0.0, 1 - s), 1 + s) for i, s in enumerate(strengths)
    )
    one = torch.eye(3, device=mean.device).expand(len(mean), 3, 3)
    luma = torch.tensor(LUMA, device=mean.device)
    to_grey = luma.expand(len(mean), 3, 3)
    steps = torch.stack(
        [
            one * brightness.view(-1, 1, 1),
            one * contrast.view(-1, 1, 1),
            torch.lerp(to_grey, one, saturation.view(-1, 1, 1)),
            hue_turn(_between(numbers[:, 9], -config.hue, config.hue)),
        ],
        dim=1,
    )
    matrix, offset = one, torch.zeros_like(mean)
    for place in order.unbind(dim=1):
        current = _apply(matrix, mean) + offset
        step = steps[torch.arange(len(place)), place]
        lift = (1 - contrast) * (current @ luma) * (place == 1)  # towards the image's mean grey
        matrix, offset = step @ matrix, _apply(step, offset) + lift.unsqueeze(1)
    matrix = torch.where(jittered.view(-1, 1, 1), matrix, one)
    offset = torch.where(jittered.unsqueeze(1), offset, 0.0)
    last = torch.where(greyed.view(-1, 1, 1), to_grey, one)
    return last @ matrix, _apply(last, offset)


def hue_turn(turns: Tensor) -> Tensor:
    """(B,) parts of the circle to (B, 3, 3) rotations of the hue about the grey axis, in YIQ."""
    to_yiq = torch.tensor(TO_YIQ, device=turns.device)
    angle = 2 * math.pi * turns
    rotation = torch.zeros(len(turns), 3, 3, device=turns.device)
    rotation[:, 0, 0] = 1
    rotation[:, 1, 1] = rotation[:, 2, 2] = angle.cos()
    rotation[:, 2, 1] = angle.sin()
    rotation[:, 1, 2] = -angle.sin()
    return torch.linalg.inv(to_yiq) @ rotation @ to_yiq


def _crops(
    images: Tensor, numbers: Tensor, config: ViewConfig
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(height, top), (width, left), each (B,), in pixels of the source."""
    rows, columns = images.shape[2:]
    area, aspect, down, across = numbers.unbind(dim=1)
    pixels = _between(area, config.smallest_crop, config.largest_crop) * rows * columns
    ratio = torch.exp(_between(aspect, math.log(3 / 4), math.log(4 / 3)))
    height = (pixels / ratio).sqrt().clamp(max=rows)
    width = (pixels * ratio).sqrt().clamp(max=columns)
    return (height, down * (rows - height)), (width, across * (columns - width))


def _bicubic(distance: Tensor) -> Tensor:
    """Keys' cubic with a = −0.5 at non-negative distances."""
    d = distance.clamp(max=2)  # its far branch is 0 at 2
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return torch.where(d < 1, near, far)


def _between(uniform: Tensor, low: float, high: float) -> Tensor:
    return low + uniform * (high - low)


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(2)).squeeze(2)
