"""Digits in a hand of our own: strokes through points that are moved a little each time.

The embedded painter imagines handwriting with them. Nothing here was taken from, or fitted to, the
handwriting that the target dataset `digits` shows.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float]
Strokes = Sequence[Sequence[Point]]

FORMS: tuple[tuple[Strokes, ...], ...] = (
    ([[(0.5, 0.0), (0.1, 0.25), (0.1, 0.75), (0.5, 1.0), (0.9, 0.75), (0.9, 0.25), (0.5, 0.0)]],),
    (
        [[(0.25, 0.25), (0.55, 0.0), (0.55, 1.0)]],
        [[(0.55, 0.0), (0.5, 1.0)]],
        [[(0.25, 0.25), (0.55, 0.0), (0.55, 1.0)], [(0.25, 1.0), (0.85, 1.0)]],
    ),
    (
        [[(0.1, 0.2), (0.45, 0.0), (0.85, 0.2), (0.7, 0.55), (0.1, 1.0), (0.9, 0.95)]],
        [[(0.1, 0.2), (0.5, 0.0), (0.85, 0.3), (0.3, 0.9), (0.15, 0.8), (0.5, 0.85), (0.95, 1.0)]],
    ),
    (
        [
            [
                (0.1, 0.1),
                (0.6, 0.0),
                (0.85, 0.25),
                (0.4, 0.48),
                (0.9, 0.7),
                (0.55, 1.0),
                (0.1, 0.9),
            ]
        ],
        [[(0.1, 0.0), (0.85, 0.0), (0.4, 0.4), (0.9, 0.65), (0.6, 1.0), (0.1, 0.9)]],
    ),
    (
        [[(0.45, 0.0), (0.1, 0.6), (0.9, 0.6)], [(0.7, 0.3), (0.65, 1.0)]],
        [[(0.7, 1.0), (0.7, 0.0), (0.1, 0.7), (0.95, 0.7)]],
    ),
    (
        [
            [
                (0.85, 0.0),
                (0.2, 0.0),
                (0.15, 0.45),
                (0.6, 0.38),
                (0.9, 0.7),
                (0.5, 1.0),
                (0.1, 0.9),
            ],
        ],
        [
            [(0.2, 0.05), (0.18, 0.45), (0.65, 0.4), (0.85, 0.7), (0.5, 1.0), (0.1, 0.9)],
            [(0.2, 0.05), (0.9, 0.0)],
        ],
    ),
    (
        [
            [
                (0.75, 0.0),
                (0.25, 0.4),
                (0.12, 0.75),
                (0.5, 1.0),
                (0.88, 0.75),
                (0.5, 0.5),
                (0.15, 0.72),
            ]
        ],
    ),
    (
        [[(0.1, 0.0), (0.9, 0.0), (0.4, 1.0)]],
        [[(0.1, 0.0), (0.9, 0.0), (0.4, 1.0)], [(0.3, 0.5), (0.85, 0.5)]],
    ),
    (
        [
            [
                (0.8, 0.15),
                (0.45, 0.0),
                (0.2, 0.22),
                (0.5, 0.47),
                (0.85, 0.75),
                (0.5, 1.0),
                (0.15, 0.75),
                (0.5, 0.47),
                (0.8, 0.15),
            ]
        ],
    ),
    (
        [[(0.85, 0.25), (0.5, 0.0), (0.15, 0.25), (0.45, 0.5), (0.85, 0.25), (0.75, 1.0)]],
        [
            [(0.8, 0.25), (0.45, 0.0), (0.15, 0.3), (0.5, 0.5), (0.82, 0.2)],
            [(0.82, 0.2), (0.85, 0.7), (0.5, 1.0), (0.2, 0.9)],
        ],
    ),
)
"""Of each digit, the ways to write it: strokes through points (x, y), both from 0 to 1, y down."""
ROUNDINGS = 3
DEVIATION = 0.04
"""Of a point's place, in heights of a digit."""


def numeral(digit: int, side: int, rng: np.random.Generator) -> Image.Image:
    """A digit, 0 to 9, in one ink, RGBA, (side, side); form, slant, ink and width are drawn."""
    forms = FORMS[digit]
    strokes = forms[rng.integers(len(forms))]
    slant, narrow = rng.normal(0, 0.12), rng.uniform(0.5, 0.8)
    ink = (*(int(level) for level in rng.integers(0, 90, 3)), 255)
    width = max(2, round(side * rng.uniform(0.07, 0.15)))
    image = Image.new("RGBA", (side, side), (*ink[:3], 0))
    draw = ImageDraw.Draw(image)
    for stroke in strokes:
        points = np.array(stroke) + rng.normal(0, DEVIATION, (len(stroke), 2))
        x = 0.5 + (points[:, 0] - 0.5) * narrow + slant * (0.5 - points[:, 1])
        line = _rounded(np.stack([x, points[:, 1]], axis=1)) * (side - 2 * width) + width
        draw.line([tuple(point) for point in line.tolist()], fill=ink, width=width, joint="curve")
        for x_end, y_end in (line[0], line[-1]):
            radius = width / 2
            draw.ellipse((x_end - radius, y_end - radius, x_end + radius, y_end + radius), fill=ink)
    return image


def _rounded(points: np.ndarray) -> np.ndarray:
    """(n, 2) points with their corners cut, ends kept. Source: Chaikin (1974)."""
    for _ in range(ROUNDINGS):
        before, after = points[:-1], points[1:]
        cut = np.stack([0.75 * before + 0.25 * after, 0.25 * before + 0.75 * after], axis=1)
        points = np.concatenate([points[:1], cut.reshape(-1, 2), points[-1:]])
    return points
