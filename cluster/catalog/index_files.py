"""Parts of the small files that say what a dataset holds; a bad one is a ConfigError."""

from pathlib import Path
from typing import Any

from cluster.catalog.listing import SPLITS
from cluster.errors import ConfigError


def part_of(content: Any, split: str, kind: type, path: Path) -> Any:
    """One split of a JSON file's content, a list or dict as `kind` says."""
    part = content.get(split) if isinstance(content, dict) else None
    if not isinstance(part, kind):
        raise ConfigError(f"root: {str(path)!r} has no {split!r}; allowed: {', '.join(SPLITS)}")
    return part


def label_of(value: Any) -> int | None:
    """A class's number as JSON has it: a whole number, also one written 0.0; else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None
