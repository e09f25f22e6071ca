"""The lines that lie beside a base set in view folders, and say what its paths cannot hold."""

from pathlib import Path, PurePosixPath
from typing import Any

from cluster.errors import ConfigError
from cluster.text_files import read_json_lines

FIELDS = {
    "file": str, "dataset": str, "class_name": str, "index": int, "view": int, "caption": str,
}  # fmt: skip
"""What a line says, and its types."""
LARGEST_NUMBER = (1 << 31) - 1


def read_index(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of JSON lines with FIELDS, one per picture.

    Raises ConfigError, which names the line, for one that is anything else, and for a file that is
    no path inside the folder.
    """
    lines = read_json_lines(path, "folder")
    for where, line in lines:
        _require_fields(where, line)
    return [line for _, line in lines]


def _require_fields(where: str, line: Any) -> None:
    if not isinstance(line, dict) or {k: type(v) for k, v in line.items()} != FIELDS:
        wanted = ", ".join(f"{name} ({kind.__name__})" for name, kind in FIELDS.items())
        raise ConfigError(f"{where}: {str(line)[:80]!r}; allowed are the fields {wanted}")
    file = PurePosixPath(line["file"])
    if file.is_absolute() or ".." in file.parts:
        raise ConfigError(f"{where}: file {line['file']!r}; allowed: a path inside the folder")
    for name, kind in FIELDS.items():
        value = line[name]
        if kind is int and not 0 <= value <= LARGEST_NUMBER:
            raise ConfigError(f"{where}: {name} {value}; allowed: 0 to {LARGEST_NUMBER}")
        if kind is str and ("\0" in value or not (value.strip() or name == "caption")):
            raise ConfigError(f"{where}: {name} {value!r}; allowed: text without NUL, not empty")
