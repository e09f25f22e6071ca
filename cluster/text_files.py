"""Text files from outside: one way to read them, so that a bad one is told by file and line."""

import json
import re
from pathlib import Path
from typing import Any

from cluster.errors import ConfigError
from cluster.storage import resolve

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""In the text of JSON: half of a character, which is one character only beside its other half."""


def read_text(path: str | Path, field: str, allowed: str = "a local text file") -> str:
    """What a local text file holds: UTF-8, with or without a byte order mark, lines ended by "\n".

    field: the setting that says where it lies; allowed: what else it may say. Raises ConfigError,
    naming file and line, on another encoding and on what is no regular file.
    """
    file = Path(resolve(str(path)))
    try:
        if file.exists() and not file.is_file():
            raise OSError(0, "no regular file")
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{field}: {str(path)!r} cannot be read ({error.strerror}); allowed: {allowed}"
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{field}: {str(path)!r}, line {line}: byte 0x{data[error.start]:02x} is no UTF-8; "
            "allowed: text saved as UTF-8"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: str | Path, field: str, allowed: str = "a local text file") -> list[str]:
    """Lines of a text file, trimmed, without empty ones; see `read_text`."""
    lines = read_text(path, field, allowed).split("\n")
    return [line.strip() for line in lines if line.strip()]


def read_json(path: str | Path, field: str) -> Any:
    """What a JSON file holds; see `read_text` and `parse_json`."""
    return parse_json(read_text(path, field), f"{field}: {str(path)!r}")


def read_json_lines(path: str | Path, field: str) -> list[tuple[str, Any]]:
    """Of each line that is not empty the place, for messages, and what its JSON holds."""
    lines = enumerate(read_text(path, field).split("\n"), start=1)
    places = ((f"{field}: {str(path)!r}, line {number}", line) for number, line in lines)
    return [(place, parse_json(line, place)) for place, line in places if line.strip()]


def parse_json(text: str, where: str) -> Any:
    """What JSON holds.

    where: the beginning of messages. Raises ConfigError on what is no JSON, is nested too deep,
    says a key of an object twice, or holds half a character.
    """
    try:
        content = json.loads(text, object_pairs_hook=_each_key_once)
        if _SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ConfigError(f"{where} is nested too deep; allowed: JSON") from error
    except ValueError as error:
        raise ConfigError(f"{where} is no JSON ({error}); allowed: JSON") from error
    return content


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {repeated!r} is there twice")
    return content
