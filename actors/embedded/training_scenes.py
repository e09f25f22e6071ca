"""Scenes and captions that the tiny CLIP is trained on: IP concepts only, drawn in batches as torch
operations.

One of three scene generators of the embedded world; the painter of base sets and the composer of
target datasets share no code with it, so that nothing but concepts carries over from training to
test.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from actors.embedded.concepts import SUBJECTS, EmojiConcept, load_concepts
from actors.embedded.sprites import sprite_array

TEXTURE = 56
"""Side of the stored sprite textures in pixels: between the smallest and the largest one in a
scene."""
GENERAL_TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
    "a drawing of a {}.",
    "{}",
)
BACKGROUNDS = ("plain", "gradient", "noisy", "striped", "checked")


def ip_concepts() -> list[EmojiConcept]:
    """The only concepts whose names and pictures may enter the tiny CLIP's training."""
    return [concept for concept in load_concepts() if concept.group == "IP"]


def training_caption(
    concept: EmojiConcept, background: int, small: bool, dark: bool, rng: np.random.Generator
) -> str:
    """A caption for one scene; four in ten also say what is behind, how far and how light it is."""
    if concept.dataset and rng.random() < 0.3:
        return f"a photo of a {concept.name}, a type of {SUBJECTS[concept.dataset].hint}."
    text = GENERAL_TEMPLATES[rng.integers(len(GENERAL_TEMPLATES))].format(concept.name)
    if rng.random() < 0.4:
        distance = "far away" if small else "close"
        light = "dim" if dark else "bright"
        tail = (
            f"on a {BACKGROUNDS[background]} background",
            f"seen from {distance}",
            f"in {light} light",
        )
        text = f"{text.rstrip('.')} {tail[rng.integers(len(tail))]}."
    return text


class BootstrapScenes:
    """Draws batches of scenes of the given concepts.

    artists: names from `actors.embedded.sprites.ARTISTS` and how often a scene is drawn by each.
    """

    def __init__(
        self, concepts: Sequence[EmojiConcept], artists: Mapping[str, float], size: int
    ) -> None:
        self.concepts, self.size = list(concepts), size
        codes = [concept.code for concept in concepts]
        stacked = np.stack([sprite_array(artist, codes) for artist in artists])
        textures = (
            torch.from_numpy(stacked).movedim(-1, 2).float() / 255
        )  # (artists, concepts, 4, S, S)
        textures[:, :, :3] *= textures[
            :, :, 3:
        ]  # premultiplied alpha survives interpolation without fringes
        shrunk = F.interpolate(
            textures.flatten(0, 1), size=(TEXTURE, TEXTURE), mode="bilinear", antialias=True
        )
        self.textures = shrunk.unflatten(0, textures.shape[:2])
        self.artist_weights = torch.tensor(list(artists.values()))
        self.ink_only = torch.tensor([artist == "noto" for artist in artists])
        axis = (torch.arange(size) + 0.5) / size * 2 - 1
        self.y, self.x = torch.meshgrid(axis, axis, indexing="ij")

    def batch(self, rows: np.ndarray, seed: int) -> tuple[Tensor, list[str]]:
        """Scenes of the concepts with these numbers: (B, 3, size, size) float32 in [0, 1], and
        B captions."""
        g = torch.Generator().manual_seed(seed)
        rng = np.random.default_rng(seed)
        count = len(rows)
        behind, kinds = self._backgrounds(count, g)
        clutter = torch.randint(len(self.concepts), (count,), generator=g)
        faint = (
            torch.rand(count, 1, 1, 1, generator=g)
            * 0.6
            * (torch.rand(count, 1, 1, 1, generator=g) < 0.4)
        )
        layer, _ = self._sprites(clutter, g, smallest=0.4, largest=1.3, reach=0.9)
        scene = behind * (1 - faint * layer[:, 3:]) + faint * layer[:, :3]
        layer, scale = self._sprites(
            torch.from_numpy(rows), g, smallest=0.45, largest=1.05, reach=0.35
        )
        scene = scene * (1 - layer[:, 3:]) + layer[:, :3]
        scene, light = self._degrade(scene, g)
        captions = [
            training_caption(
                self.concepts[row], kinds[i], bool(scale[i] < 0.7), bool(light[i] < 0.9), rng
            )
            for i, row in enumerate(rows)
        ]
        return scene, captions

    def _backgrounds(self, count: int, g: torch.Generator) -> tuple[Tensor, list[int]]:
        kinds = torch.randint(len(BACKGROUNDS), (count,), generator=g)
        first, second = torch.rand(2, count, 3, 1, 1, generator=g)
        angle = torch.rand(count, 1, 1, generator=g) * 2 * torch.pi
        along = torch.cos(angle) * self.x + torch.sin(angle) * self.y  # (B, size, size)
        across = torch.cos(angle) * self.y - torch.sin(angle) * self.x
        often = 2 + 8 * torch.rand(count, 1, 1, generator=g)
        stripes = (torch.sin(along * often) > 0).float()
        squares = (torch.sin(along * often) * torch.sin(across * often) > 0).float()
        cells = int(torch.randint(3, 17, (1,), generator=g))
        noise = torch.rand(count, 3, cells, cells, generator=g)
        noise = F.interpolate(noise, size=(self.size, self.size), mode="bilinear")
        mix = torch.stack(
            [torch.zeros_like(along), along * 0.5 + 0.5, torch.zeros_like(along), stripes, squares]
        )
        mix = mix[kinds, torch.arange(count)].unsqueeze(1)
        scene = first * (1 - mix) + second * mix
        noisy = (kinds == BACKGROUNDS.index("noisy")).view(-1, 1, 1, 1)
        return torch.where(noisy, noise, scene), kinds.tolist()

    def _sprites(
        self, rows: Tensor, g: torch.Generator, *, smallest: float, largest: float, reach: float
    ) -> tuple[Tensor, Tensor]:
        """Sprites turned, sheared, scaled and shifted into the frame: premultiplied RGBA, and
        the scales."""
        count = len(rows)
        artist = torch.multinomial(self.artist_weights, count, replacement=True, generator=g)
        texture = self._recolour(self.textures[artist, rows], self.ink_only[artist], g)
        scale = smallest + (largest - smallest) * torch.rand(count, generator=g)
        aspect = torch.exp(torch.randn(count, generator=g) * 0.12)
        angle = torch.randn(count, generator=g) * 0.25
        shear = torch.randn(count, generator=g) * 0.12
        flip = 1 - 2 * (torch.rand(count, generator=g) < 0.3).float()
        cos, sin = torch.cos(angle), torch.sin(angle)
        inverse = torch.stack(
            [
                torch.stack([flip * cos / (scale * aspect), (sin + shear) / scale], dim=-1),
                torch.stack([-sin * flip / (scale * aspect), cos / scale], dim=-1),
            ],
            dim=1,
        )
        room = (1 - scale).abs() * 0.5 + reach * 0.5
        shift = (torch.rand(count, 2, generator=g) * 2 - 1) * room.unsqueeze(1)
        theta = torch.cat([inverse, -(inverse @ shift.unsqueeze(2))], dim=2)
        grid = F.affine_grid(theta, [count, 4, self.size, self.size], align_corners=False)
        return F.grid_sample(texture, grid, align_corners=False), scale

    @staticmethod
    def _recolour(texture: Tensor, ink_only: Tensor, g: torch.Generator) -> Tensor:
        """Turns the hues by up to 20 degrees or so; line drawings get an ink, and some of them
        a paper, of any colour."""
        count = len(texture)
        colour, alpha = texture[:, :3], texture[:, 3:]
        mixing = torch.eye(3) + torch.randn(count, 3, 3, generator=g) * 0.08
        gain = 0.8 + 0.4 * torch.rand(count, 1, 1, 1, generator=g)
        turned = (torch.einsum("bij,bjhw->bihw", mixing, colour) * gain).clamp(min=0).minimum(alpha)
        ink = 0.4 * torch.rand(count, 3, 1, 1, generator=g)
        paper = 0.6 + 0.4 * torch.rand(count, 3, 1, 1, generator=g)
        paper_alpha = (torch.rand(count, 1, 1, 1, generator=g) < 0.7).float() * 0.9
        drawn = ink * alpha + paper * paper_alpha * (1 - alpha)
        covered = alpha + paper_alpha * (1 - alpha)
        lines = ink_only.view(-1, 1, 1, 1)
        return torch.cat(
            [torch.where(lines, drawn, turned), torch.where(lines, covered, alpha)], dim=1
        )

    def _degrade(self, scene: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Light, colour cast, blur, noise and an occluding patch. Returns the scene and the
        light's strength (B,)."""
        count = len(scene)
        light = 0.6 + 0.7 * torch.rand(count, 1, 1, 1, generator=g)
        cast = 1 + 0.12 * torch.randn(count, 3, 1, 1, generator=g)
        contrast = 0.6 + 0.6 * torch.rand(count, 1, 1, 1, generator=g)
        mean = scene.mean(dim=(1, 2, 3), keepdim=True)
        scene = ((scene - mean) * contrast + mean) * light * cast
        small = F.interpolate(scene, scale_factor=0.5, mode="bilinear", antialias=True)
        blurred = F.interpolate(small, size=scene.shape[-2:], mode="bilinear")
        scene = torch.where(torch.rand(count, 1, 1, 1, generator=g) < 0.3, blurred, scene)
        strength = (
            0.07
            * torch.rand(count, 1, 1, 1, generator=g)
            * (torch.rand(count, 1, 1, 1, generator=g) < 0.5)
        )
        scene = scene + strength * torch.randn(scene.shape, generator=g)
        centre = torch.rand(count, 2, 1, 1, generator=g) * 2 - 1
        side = 0.1 + 0.2 * torch.rand(count, 1, 1, generator=g)
        hidden = ((self.x - centre[:, 0]).abs() < side) & ((self.y - centre[:, 1]).abs() < side)
        hidden &= torch.rand(count, 1, 1, generator=g) < 0.25
        patch = torch.rand(count, 3, 1, 1, generator=g)
        return torch.where(hidden.unsqueeze(1), patch, scene).clamp(0, 1), light.flatten()
