"""One of several parts, each a field of its own: `painter: {sd3: {…}}` or `painter: {sprites: {}}`.

What the parts are is said by the fields alone: one more is a field more.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from cluster.content import HASHED
from cluster.errors import ConfigError

DEFAULT = "default"
"""Key of a field's metadata."""


def choice(default: Callable[[], Any] | None = None) -> Any:
    """A dataclass field `X | None`, of which at most one may be given.

    default: makes what is chosen where none is given; of one of the fields.

    Not hashed, so that a choice more changes no hash: who makes an artifact puts what is `chosen`
    into its content.
    """
    return dataclasses.field(default=None, metadata={HASHED: False, DEFAULT: default})


def chosen(config: Any) -> Any:
    """The value of the one `choice` that is given, else the default.

    Raises ConfigError if several are given.
    """
    choices = {f.name: f.metadata[DEFAULT] for f in dataclasses.fields(config)
               if DEFAULT in f.metadata}  # fmt: skip
    if name := only_one(config, list(choices)):
        return getattr(config, name)
    (default,) = filter(None, choices.values())
    return default()


def only_one(config: Any, names: Sequence[str]) -> str | None:
    """Name of the one of these fields that is not None; None if all are.

    Raises ConfigError if several are given.
    """
    given = [name for name in names if getattr(config, name) is not None]
    if len(given) > 1:
        raise ConfigError(f"{given[0]}: given together with {given[1]}; allowed: one of them")
    return given[0] if given else None
