"""An artist whose pictures lie in a folder of the user's: emoji as Iconify's packages have them.

Such as npm's `@iconify-json/fluent-emoji-flat` (Microsoft's Fluent emoji, MIT): `icons.json` holds
each picture as a piece of SVG by its name, `chars.json` the name of each code point.
"""

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from actors.embedded.concepts import load_concepts
from actors.embedded.sprites import SPRITE_SIZE
from cluster.errors import ConfigError
from cluster.rows import digest

MOST_FILE_BYTES, MOST_BODY_BYTES = 2**26, 2**18
REFUSED = ("<image", "<!", "<style", "<script", "<foreignobject")
"""What a picture may not hold: it could reach for other files, or unfold without an end."""


class IconSet:
    """The pictures of a folder, by code point."""

    def __init__(self, folder: str) -> None:
        """Raises ConfigError, in one line, if the folder has no such set of emoji."""
        self.folder = folder
        icons, self.names = _mapping(folder, "icons.json"), _mapping(folder, "chars.json")
        bodies, self.size = icons.get("icons"), (icons.get("width"), icons.get("height"))
        sizes_fit = all(isinstance(side, int) and 0 < side <= 1024 for side in self.size)
        if not isinstance(bodies, dict) or not sizes_fit:
            raise ConfigError(
                f"{folder}/icons.json has no icons, or no width and height; allowed: an Iconify set"
            )
        self.bodies: dict[Any, Any] = bodies
        self.digest = digest(json.dumps([self.names, self.bodies, self.size], sort_keys=True)).hex()
        """Names what is drawn."""

    def has(self, code: str) -> bool:
        """Whether there is a picture of this code point (upper-case hexadecimal) to be drawn."""
        return bool(self._body(code))

    def count_concepts(self) -> int:
        """Embedded concepts that it has pictures of."""
        return sum(self.has(concept.code) for concept in load_concepts())

    def sprite(self, code: str) -> Image.Image:
        """RGBA, (SPRITE_SIZE, SPRITE_SIZE). Raises KeyError if `has` says no."""
        import resvg_py

        body = self._body(code)
        if not body:
            raise KeyError(code)
        width, height = self.size
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {width} {height}">{body}</svg>'
        )
        png = resvg_py.svg_to_bytes(svg_string=svg, width=SPRITE_SIZE, height=SPRITE_SIZE)
        image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
        return image.resize((SPRITE_SIZE, SPRITE_SIZE))

    def _body(self, code: str) -> str:
        """The piece of SVG of a code point; empty if there is none, or it is refused."""
        icon = self.bodies.get(self.names.get(code.lower()))
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
