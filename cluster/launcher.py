"""ray_cluster.yaml before a cluster is started from it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cluster.errors import ConfigError, one_line

FILL_IN = "FILL-IN"
"""Stands in the file where only its user knows the value."""


def unfilled(path: str) -> dict[str, str]:
    """Values in which FILL_IN still stands, by the first place of each, as in `docker.image`.

    Raises ConfigError if the file cannot be read.
    """
    try:
        launcher = yaml.safe_load(Path(path).expanduser().read_text("utf-8-sig"))
    except (OSError, ValueError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(
            f"launcher: {path!r} cannot be read ({one_line(error)}); allowed: a launcher file of "
            "Ray, such as ray_cluster.yaml"
        ) from error
    if not isinstance(launcher, dict):
        raise ConfigError(
            f"launcher: {path!r} holds {type(launcher).__name__}; allowed: a launcher file of Ray, "
            "such as ray_cluster.yaml"
        )
    places: dict[str, str] = {}
    for place, text in _texts(launcher, ()):
        if FILL_IN in text:
            places.setdefault(text, place)
    return {place: text for text, place in places.items()}


def _texts(value: Any, place: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield ".".join(place), value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _texts(part, (*place, str(name)))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _texts(part, (*place, str(number)))
