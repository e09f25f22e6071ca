"""Views against torchvision, where the two mean the same."""

from collections.abc import Callable

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from models.views import (
    NUMBERS,
    ViewConfig,
    blurred,
    colour_map,
    make_views,
    resized,
)

STILL = ViewConfig(
    smallest_crop=1.0, flip=0.0, jitter=0.0, grey=0.0, blur=(0.0, 0.0), solarise=(0.0, 0.0)
)


def numbers(batch: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, NUMBERS, generator=torch.Generator().manual_seed(seed))


def picture(batch: int, size: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, 3, size, size), generator=rng, dtype=torch.uint8)


def both_axes(images: torch.Tensor, along: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Applies a map of the first axis of (B, P, K) to both axes of (B, C, H, W)."""
    x = images
    for _ in range(2):
        x = x.movedim(2, 1)  # (B, H, C, W)
        x = along(x.flatten(2)).unflatten(2, x.shape[2:]).movedim(1, 3)  # (B, C, W, H)
    return x


@pytest.mark.parametrize(("pixels", "size"), [(48, 20), (512, 224), (20, 48), (33, 7)])
def test_resizing_is_torchvisions_antialiased_bicubic(pixels: int, size: int) -> None:
    images = torch.rand(2, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))
    start, length = torch.zeros(2), torch.full((2,), float(pixels))
    still = torch.zeros(2, dtype=torch.bool)
    got = both_axes(images, lambda x: resized(x, start, length, still, size))
    bicubic = F.InterpolationMode.BICUBIC
    assert torch.allclose(got, F.resize(images, [size, size], bicubic, antialias=True), atol=1e-4)


def test_a_flipped_crop_is_the_mirror_image() -> None:
    row, start, length = torch.rand(1, 48, 5), torch.tensor([3.0]), torch.tensor([30.0])
    straight = resized(row, start, length, torch.tensor([False]), 20)
    turned = resized(row, start, length, torch.tensor([True]), 20)
    assert torch.allclose(turned, straight.flip(1), atol=1e-5)


def test_blur_is_torchvisions_away_from_the_edges() -> None:
    images = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    got = both_axes(images, lambda x: blurred(x, torch.tensor([1.5]), 2.0))
    expected = F.gaussian_blur(images, [17, 17], [1.5, 1.5])
    inner = (..., slice(10, 30), slice(10, 30))
    assert torch.allclose(got[inner], expected[inner], atol=1e-4)


def test_a_few_images_at_a_time_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    images, uniform = picture(5, 64), numbers(5)
    whole = make_views(images, uniform, 1, 32, ViewConfig())
    monkeypatch.setattr("models.views.ELEMENTS", 1)
    assert torch.allclose(make_views(images, uniform, 1, 32, ViewConfig()), whole, atol=1e-6)


def test_colour_map_is_torchvisions_brightness_contrast_and_saturation() -> None:
    images = 0.4 + 0.2 * torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    uniform = torch.tensor([[0.0, 1.0, 0.1, 0.2, 0.3, 0.4, 0.7, 0.3, 0.9, 0.5]])  # order as written
    config = ViewConfig(jitter=1.0, grey=0.0, hue=0.1)  # the last number: hue turned by 0
    matrix, offset = colour_map(uniform, images.mean(dim=(2, 3)), config)
    got = (matrix @ images.flatten(2) + offset.unsqueeze(2)).unflatten(2, (8, 8))
    expected = F.adjust_brightness(images, 0.6 + 0.8 * 0.7)
    expected = F.adjust_contrast(expected, 0.6 + 0.8 * 0.3)
    expected = F.adjust_saturation(expected, 0.8 + 0.4 * 0.9)
    assert torch.allclose(got, expected, atol=1e-3)


def test_grey_has_equal_channels() -> None:
    config = ViewConfig(grey=1.0, solarise=(0.0, 0.0))
    views = make_views(picture(4, 32), numbers(4), 0, 16, config)
    assert torch.allclose(views[:, 0], views[:, 2], atol=1e-5)


def test_an_untouched_view_is_the_image() -> None:
    images, still = picture(2, 16), numbers(2)
    still[:, 1] = 0.5  # aspect ratio 1
    assert torch.allclose(make_views(images, still, 0, 16, STILL), images.float() / 255, atol=1e-5)


def test_solarise_inverts_the_bright_half_in_view_two_only() -> None:
    config = ViewConfig(**(vars(STILL) | {"solarise": (0.0, 1.0)}))
    images, uniform = picture(2, 16), numbers(2)
    first = make_views(images, uniform, 0, 16, config)
    second = make_views(images, uniform, 1, 16, config)
    assert torch.allclose(second, torch.where(first >= 0.5, 1 - first, first))


def test_a_view_does_not_depend_on_its_batch() -> None:
    images, uniform = picture(5, 32), numbers(5)
    together = make_views(images, uniform, 1, 16, ViewConfig())
    alone = make_views(images[3:4], uniform[3:4], 1, 16, ViewConfig())
    assert torch.allclose(together[3:4], alone, atol=1e-6)
    assert together.min() >= 0
    assert together.max() <= 1
