"""The embedded target datasets: an artist's emoji, Twemoji's if no other is named, photographed by
a generator of its own, and real handwritten digits.

Shares no code with the painter of base sets or with the scenes that the tiny CLIP was trained on:
other backgrounds, a true perspective, things in front, another camera, and, where jobs see to it,
another artist than the painter's.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter

from actors.embedded.concepts import DIGIT_NAMES, DIGITS, SUBJECTS, load_concepts
from actors.embedded.sprites import SPRITE_SIZE, Artist, sprite
from actors.pictures.codec import png_bytes
from cluster.rows import row_id, row_rng

SIDE = 96
"""Width and height of a picture in pixels."""
PER_CLASS = {"train": 16, "val": 8, "test": 20}
"""Pictures of each class and split."""
RECIPE = "target-scenes-1"
"""Names how these pictures are made; part of every row's id."""
TWEMOJI: Artist = "twemoji"

Row = dict[str, Any]


class TargetConcept(NamedTuple):
    """One class of an embedded dataset."""

    name: str
    group: str
    """IP or OOP."""


def target_concepts(dataset: str) -> list[TargetConcept]:
    """Classes of an embedded dataset in order of their label, IP ones first. Digits are out of
    pre-training."""
    if dataset == DIGITS:
        return [TargetConcept(name, "OOP") for name in DIGIT_NAMES]
    members = [TargetConcept(c.name, c.group) for c in load_concepts() if c.dataset == dataset]
    return sorted(members, key=lambda concept: (concept.group, concept.name))


def target_hint(dataset: str) -> str:
    """What the classes of an embedded dataset are, in a few words."""
    return "handwritten digit" if dataset == DIGITS else SUBJECTS[dataset].hint


def target_recipe(artist: Artist = TWEMOJI) -> str:
    """Names how an artist's pictures are made."""
    return RECIPE if artist == TWEMOJI else f"{RECIPE}/{artist}"


def target_rows(dataset: str, artist: Artist = TWEMOJI) -> Iterator[Row]:
    """All rows of an embedded dataset: `id`, `dataset`, `class_name`, `label`, `group`, `split`,
    `image` (PNG). Digits have no artist.
    """
    concepts = target_concepts(dataset)
    label = {concept.name: i for i, concept in enumerate(concepts)}
    pictures = _digit_pictures() if dataset == DIGITS else _scene_pictures(dataset, artist)
    for picture_id, name, split, picture in pictures:
        yield {
            "id": picture_id,
            "dataset": dataset,
            "class_name": name,
            "label": label[name],
            "group": concepts[label[name]].group,
            "split": split,
            "image": png_bytes(picture),
        }


def target_count(dataset: str) -> int:
    """Number of rows of an embedded dataset."""
    return len(target_concepts(dataset)) * sum(PER_CLASS.values())


def _scene_pictures(dataset: str, artist: Artist) -> Iterator[tuple[str, str, str, Image.Image]]:
    splits = [split for split, count in PER_CLASS.items() for _ in range(count)]
    for concept in load_concepts():
        if concept.dataset == dataset:
            for index, split in enumerate(splits):
                picture_id = row_id(dataset, concept.name, index, 0, target_recipe(artist))
                yield (
                    picture_id,
                    concept.name,
                    split,
                    photograph(concept.code, row_rng(picture_id, "scene"), artist),
                )


def _digit_pictures() -> Iterator[tuple[str, str, str, Image.Image]]:
    """scikit-learn's handwritten digits (UCI, 8 x 8 pixels, 16 grey levels), dark on light,
    enlarged."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    splits = [split for split, count in PER_CLASS.items() for _ in range(count)]
    for digit, name in enumerate(DIGIT_NAMES):
        places = np.flatnonzero(digits.target == digit)[: len(splits)]
        for index, (row, split) in enumerate(zip(places, splits, strict=True)):
            grey = Image.fromarray((255 - digits.images[row] * 15.9).astype(np.uint8))
            inner = grey.resize((SIDE - 24, SIDE - 24), Image.Resampling.BICUBIC).convert("RGB")
            picture = Image.new("RGB", (SIDE, SIDE), "white")
            picture.paste(inner, (12, 12))
            yield row_id(DIGITS, name, index, 0, RECIPE), name, split, picture


def photograph(code: str, rng: np.random.Generator, artist: Artist = TWEMOJI) -> Image.Image:
    """One scene with the artist's emoji of this code point, RGB, (SIDE, SIDE)."""
    drawn = sprite(artist, code)
    picture = _plasma(rng)
    _blobs(picture, rng)
    subject = ImageEnhance.Color(drawn).enhance(rng.uniform(0.7, 1.3))
    subject.putalpha(drawn.getchannel("A"))
    side = int(SPRITE_SIZE * rng.uniform(0.6, 1.15))
    canvas = Image.new("RGBA", (SIDE, SIDE))
    spare = SIDE - side
    x, y = (int(spare / 2 + rng.uniform(-0.4, 0.4) * max(spare, 14)) for _ in range(2))
    canvas.paste(subject.resize((side, side), Image.Resampling.LANCZOS), (x, y))
    canvas = _in_perspective(canvas, rng)
    shadow = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    shadow.putalpha(
        canvas.getchannel("A").point(lambda a: a // 3).filter(ImageFilter.GaussianBlur(2))
    )
    picture.paste(ImageChops.offset(shadow, 3, 3), (0, 0), ImageChops.offset(shadow, 3, 3))
    picture.paste(canvas, (0, 0), canvas)
    if rng.random() < 0.3:
        _stalks(picture, rng)
    return _camera(picture, rng)


def _plasma(rng: np.random.Generator) -> Image.Image:
    """Soft clouds of two hues: octaves of noise, the coarsest strongest."""
    field = np.zeros((SIDE, SIDE), np.float32)
    for cells in (2, 4, 8, 16):
        octave = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
        field += np.asarray(octave.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / cells
    field = (field - field.min()) / (np.ptp(field) + 1e-6)
    one, other = rng.integers(40, 230, (2, 3))
    return Image.fromarray(
        (field[:, :, None] * one + (1 - field[:, :, None]) * other).astype(np.uint8)
    )


def _blobs(picture: Image.Image, rng: np.random.Generator) -> None:
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(0, 6)):
        x, y = rng.integers(-10, SIDE, 2)
        width, height = rng.integers(6, 40, 2)
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x, y, x + width, y + height), fill=tuple(rng.integers(30, 240, 3).tolist()))


def _in_perspective(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The image seen askew: its four corners moved by up to an eighth of the side."""
    corners = np.array([(0, 0), (0, SIDE), (SIDE, SIDE), (SIDE, 0)]) + rng.uniform(
        -SIDE / 8, SIDE / 8, (4, 2)
    )
    turned = image.rotate(rng.normal(0, 10), Image.Resampling.BICUBIC)
    return turned.transform(
        (SIDE, SIDE), Image.Transform.QUAD, corners.flatten().tolist(), Image.Resampling.BICUBIC
    )


def _stalks(picture: Image.Image, rng: np.random.Generator) -> None:
    """Thin things in front of the subject."""
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(1, 4)):
        ends = rng.integers(0, SIDE, 4).tolist()
        draw.line(
            ends, fill=tuple(rng.integers(20, 240, 3).tolist()), width=int(rng.integers(2, 5))
        )


def _camera(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    picture = ImageEnhance.Brightness(picture).enhance(rng.uniform(0.65, 1.25))
    picture = ImageEnhance.Contrast(picture).enhance(rng.uniform(0.6, 1.2))
    if rng.random() < 0.4:
        picture = picture.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 1.5)))
    if rng.random() < 0.4:
        grain = rng.normal(0, rng.uniform(3, 14), (SIDE, SIDE, 3))
        picture = Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))
    return picture
