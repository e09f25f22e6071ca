"""Hyper-parameters as methods declare them: plain values are checked field by field."""

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

from cluster.content import plain
from cluster.errors import ConfigError


def replaced(where: str, settings: Any, values: Mapping[str, Any]) -> Any:
    """`settings`, a dataclass, with some of its fields replaced by plain values.

    A mapping replaces fields of a nested dataclass. where: what errors call `settings`, such as
    "methods.fsnl.hyper". Raises ConfigError; see `checked`.
    """
    fields = {name: checked(where, settings, name, value) for name, value in values.items()}
    return dataclasses.replace(settings, **fields)


def checked(where: str, settings: Any, name: str, value: Any) -> Any:
    """A plain value as the field `name` of `settings` holds it.

    Raises ConfigError, naming field, value and what is allowed, for an unknown field (all are
    listed with types and values), a wrong type, a number out of range, NaN and infinity.
    """
    kinds, value = get_type_hints(type(settings)), plain(value)
    if name not in kinds:
        raise ConfigError(f"{where}.{name}: {value!r}; allowed fields: {_fields(settings)}")
    current = getattr(settings, name)
    if dataclasses.is_dataclass(current) and isinstance(value, Mapping):
        return replaced(f"{where}.{name}", current, value)
    parser = ArgumentParser(exit_on_error=False)
    # in a list, for None alone would mean that nothing is given
    parser.add_argument("--value", type=list[kinds[name]])  # type: ignore[valid-type]
    try:
        (parsed,) = parser.parse_object({"value": [value]}).value
    except (ArgumentError, OverflowError) as error:  # the second: integers without end
        raise ConfigError(f"{where}.{name}: {value!r}; allowed: {words(kinds[name])}") from error
    if isinstance(parsed, float) and not math.isfinite(parsed):
        raise ConfigError(f"{where}.{name}: {value!r}; allowed: finite numbers")
    return parsed


def words(kind: Any) -> str:
    """What a field of this type may hold, for a user."""
    if dataclasses.is_dataclass(kind):
        return f"a mapping of {', '.join(field.name for field in dataclasses.fields(kind))}"
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(map(str, parts))
    if origin is tuple:
        return f"list of {', '.join(words(part) for part in parts if part is not ...)}"
    if parts:
        return " or ".join("null" if part is types.NoneType else words(part) for part in parts)
    # jsonargparse says of its ranges "float restricted to be ≥0"
    ranged = kind.__doc__ if "restricted to be" in (kind.__doc__ or "") else kind.__name__
    return ranged.replace(" restricted to be", "")


def _fields(settings: Any) -> str:
    kinds = get_type_hints(type(settings))
    nested = {name: dataclasses.is_dataclass(getattr(settings, name)) for name in kinds}
    return "; ".join(
        f"{name} ({words(kind)}{'' if nested[name] else f'; {getattr(settings, name)}'})"
        for name, kind in kinds.items()
    )
