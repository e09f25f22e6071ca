"""A small set of emoji as Iconify's packages have it."""

import json
from collections.abc import Mapping
from pathlib import Path

FOX, KOALA = "1F98A", "1F428"
RED_SQUARE = '<path fill="#ff0000" d="M8 8h16v16H8z"/>'


def icon_folder(folder: Path, bodies: Mapping[str, object]) -> str:
    """A folder whose chars.json knows fox and koala, and whose icons.json has these bodies."""
    folder.mkdir(exist_ok=True)
    icons = {name: {"body": body} for name, body in bodies.items()}
    sizes = {"prefix": "small", "width": 32, "height": 32}
    (folder / "icons.json").write_text(json.dumps({**sizes, "icons": icons}))
    names = {FOX.lower(): "fox", KOALA.lower(): "koala"}
    (folder / "chars.json").write_text(json.dumps(names))
    return str(folder)
