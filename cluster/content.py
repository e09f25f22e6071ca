"""What of a configuration goes into an artifact's hash, declared at the fields themselves.

A field counts unless it is declared `unhashed`: to forget that costs a run that is made twice, to
forget the opposite would pass off one artifact as another.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

HASHED = "hashed"
"""Key, in a field's metadata, of whether the field is hashed."""


def unhashed(
    default: Any = dataclasses.MISSING,
    *,
    default_factory: Callable[[], Any] | Any = dataclasses.MISSING,
) -> Any:
    """A dataclass field that changes no byte of the artifact.

    So are places (the inputs that lie there have hashes of their own), workers, and what is only
    shown.
    """
    if default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=default_factory, metadata={HASHED: False})
    return dataclasses.field(default=default, metadata={HASHED: False})


def content_of(value: Any) -> Any:
    """Settings as what JSON knows, without the fields that are `unhashed`."""
    return _as_json(value, lambda field: field.metadata.get(HASHED, True))


def plain(value: Any) -> Any:
    """Settings as what JSON knows: dataclasses and mappings to dict, sequences to list."""
    return _as_json(value, lambda field: True)


def canonical(value: Any) -> str:
    """JSON of plain settings, one text for equal settings. Raises ValueError on NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _as_json(value: Any, counts: Callable[[dataclasses.Field[Any]], bool]) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field for field in dataclasses.fields(value) if counts(field)]
        return {field.name: _as_json(getattr(value, field.name), counts) for field in fields}
    if isinstance(value, Mapping):
        return {str(key): _as_json(item, counts) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item, counts) for item in value]
    return str(value) if isinstance(value, os.PathLike) else value
