"""Reading the small files that say what a dataset holds; a bad one is a ConfigError."""

import json
from pathlib import Path
from typing import Any

from cluster.catalog.listing import SPLITS
from cluster.errors import ConfigError


def read_lines(path: Path) -> list[str]:
    """Lines of a text file, trimmed, without empty ones."""
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def read_json(path: Path) -> Any:
    """What a JSON file holds."""
    text = _text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"root: {str(path)!r} is no JSON ({error}); allowed: JSON") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"root: {str(path)!r} cannot be read ({error}); allowed: UTF-8"
        ) from error


def part_of(content: Any, split: str, kind: type, path: Path) -> Any:
    """One split of a JSON file's content, a list or dict as `kind` says."""
    part = content.get(split) if isinstance(content, dict) else None
    if not isinstance(part, kind):
        raise ConfigError(f"root: {str(path)!r} has no {split!r}; allowed: {', '.join(SPLITS)}")
    return part
