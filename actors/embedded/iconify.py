"""An artist whose pictures lie in a folder of the user's: emoji as Iconify's packages have them.

Such as npm's `@iconify-json/fluent-emoji-flat` (Microsoft's Fluent emoji, MIT): `icons.json` holds
each picture as a piece of SVG by its name, `chars.json` the name of each code point.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from actors.embedded.concepts import load_concepts
from actors.embedded.sprites import SPRITE_SIZE, svg_picture
from cluster.errors import ConfigError
from cluster.rows import digest

MOST_FILE_BYTES, MOST_BODY_BYTES = 2**26, 2**18
REFUSED = ("<image", "<!", "<style", "<script", "<foreignobject")
"""What a picture may not hold: it could reach for other files, or unfold without an end."""


class IconSet:
    """The pictures of a folder, by code point."""

    def __init__(self, folder: str) -> None:
        """Raises ConfigError, in one line, if the folder has no such set of emoji."""
        icons, names = _mapping(folder, "icons.json"), _mapping(folder, "chars.json")
        bodies, self.size = icons.get("icons"), (icons.get("width"), icons.get("height"))
        sizes_fit = all(isinstance(side, int) and 0 < side <= 1024 for side in self.size)
        if not isinstance(bodies, dict) or not sizes_fit:
            raise ConfigError(
                f"{folder}/icons.json has no icons, or no width and height; allowed: an Iconify set"
            )
        self.digest = digest(json.dumps([names, bodies, self.size], sort_keys=True)).hex()
        """Names what is drawn."""
        self._bodies = {
            code.upper(): body
            for code, name in names.items()
            if isinstance(name, str) and (body := _drawable(bodies.get(name)))
        }
        """Pieces of SVG by code point."""

    def has(self, code: str) -> bool:
        """Whether there is a picture of this code point (upper-case hexadecimal) to be drawn."""
        return code in self._bodies

    def count_concepts(self) -> int:
        """Embedded concepts that it has pictures of."""
        return sum(self.has(concept.code) for concept in load_concepts())

    def sprite(self, code: str) -> Image.Image:
        """RGBA, (SPRITE_SIZE, SPRITE_SIZE). Raises KeyError if `has` says no."""
        width, height = self.size
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {width} {height}">{self._bodies[code]}</svg>'
        )
        return svg_picture(svg_string=svg).convert("RGBA").resize((SPRITE_SIZE, SPRITE_SIZE))


def _drawable(icon: Any) -> str:
    """An icon's piece of SVG; empty if it has none, or it is refused."""
    body = icon.get("body") if isinstance(icon, dict) else None
    if not isinstance(body, str) or len(body) > MOST_BODY_BYTES:
        return ""
    return "" if any(piece in body.lower() for piece in REFUSED) else body


@cache
def icon_set(folder: str) -> IconSet:
    """The set of a folder, read once in a process. Raises as `IconSet` does."""
    return IconSet(folder)


def _mapping(folder: str, name: str) -> dict[str, Any]:
    path = Path(folder, name)
    try:
        if path.stat().st_size > MOST_FILE_BYTES:
            raise ConfigError(f"{path} has over {MOST_FILE_BYTES} bytes; allowed: an Iconify set")
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} cannot be read ({type(error).__name__}); allowed: icons.json and chars.json "
            "of an Iconify set"
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no mapping; allowed: an Iconify set")
    return content
