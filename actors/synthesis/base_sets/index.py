"""The lines that lie beside a base set in view folders, and say what its paths cannot hold."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from cluster.errors import ConfigError

FIELDS = {
    "file": str, "dataset": str, "class_name": str, "index": int, "view": int, "caption": str,
}  # fmt: skip
"""What a line says, and its types."""
LARGEST_NUMBER = (1 << 31) - 1


def read_index(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of JSON lines with FIELDS, one per picture.

    Raises ConfigError, which names the line, for one that is anything else, and for a file that is
    no path inside the folder. UTF-8, a byte order mark is passed over.
    """
    lines = (
        path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    )  # a caption may hold U+2028
    return [
        _line(text, f"{path}, line {number}")
        for number, text in enumerate(lines, start=1)
        if text.strip()
    ]


def _line(text: bytes, where: str) -> dict[str, Any]:
    try:
        line = json.loads(text.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: {error}; allowed: UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: {error}; allowed: one JSON object per line") from error
    if not isinstance(line, dict) or {k: type(v) for k, v in line.items()} != FIELDS:
        wanted = ", ".join(f"{name} ({kind.__name__})" for name, kind in FIELDS.items())
        raise ConfigError(f"{where}: {_shown(text)}; allowed are the fields {wanted}")
    file = PurePosixPath(line["file"])
    if file.is_absolute() or ".." in file.parts:
        raise ConfigError(f"{where}: file {line['file']!r}; allowed: a path inside the folder")
    for name, kind in FIELDS.items():
        if kind is int and not 0 <= line[name] <= LARGEST_NUMBER:
            raise ConfigError(f"{where}: {name} {line[name]}; allowed: 0 to {LARGEST_NUMBER}")
        if kind is str and not _is_text(line[name], empty=name == "caption"):
            raise ConfigError(f"{where}: {name} {line[name]!r}; allowed: text that can be written")
    return line


def _shown(text: bytes) -> str:
    return repr(text[:80].decode("utf-8", "replace"))


def _is_text(value: str, *, empty: bool) -> bool:
    """Whether it has a letter or sign (or may be empty), no NUL and no half of a surrogate pair."""
    if "\0" in value or not (empty or value.strip()):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
