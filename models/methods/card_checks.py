"""What the file of a card may hold, field by field: it may have been edited, or come from outside.

Hyper-parameters are checked where the types that methods declare can be (`actors.search.hyper`).
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, get_args

from kernels.fusion import Rule
from models.methods.selection import Head

LARGEST_SEED = 2**63 - 1


def read_card_file(path: Path) -> dict[str, Any]:
    """The fields of a card, checked; ValueError, in one line that names file, field and value."""
    try:
        raw = json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}); allowed: JSON"
        ) from error
    _check(str(path), raw, _CARD)
    _check(f"{path}: selection", raw["selection"], _SELECTION)
    return raw


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _check(where: str, raw: Any, fields: Mapping[str, tuple[Callable[[Any], bool], str]]) -> None:
    if not isinstance(raw, dict):
        raise ValueError(f"{where}: {_short(raw)}; allowed: fields with values")
    missing, unknown = sorted(fields.keys() - raw.keys()), sorted(raw.keys() - fields.keys())
    if missing or unknown:
        raise ValueError(f"{where}: missing fields {missing}, unknown fields {_short(unknown)}")
    for name, (allows, allowed) in fields.items():
        if not allows(raw[name]):
            raise ValueError(f"{where}: {name} is {_short(raw[name])}; allowed: {allowed}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _text(value: Any) -> bool:
    """JSON can hold half a character, which nothing can print."""
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def _number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e300 and math.isfinite(value)  # the first: of integers without end


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_text(n) and n.strip() for n in value)


def _seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_SEED


def _pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_share, value))


_CARD: dict[str, tuple[Callable[[Any], bool], str]] = {
    "method": (_text, "a text"),
    "dataset": (_text, "a text"),
    "names": (_names, "a list of class names, none empty"),
    "hint": (_text, "a text"),
    "template": (
        lambda v: _text(v) and (not v or "{}" in v),
        "a text with {} in it, or an empty one",
    ),
    "backbone": (lambda v: _text(v) and bool(v), "the name of a CLIP"),
    "weights_hash": (_text, "a text"),
    "hyper": (lambda v: isinstance(v, dict), "fields with values"),
    "seed": (_seed, f"an integer from 0 to {LARGEST_SEED}"),
    "selection": (lambda v: isinstance(v, dict), "fields with values"),
}
_SELECTION: dict[str, tuple[Callable[[Any], bool], str]] = {
    "head": (lambda v: v in get_args(Head), ", ".join(get_args(Head))),
    "fusion_weight": (_share, "0 to 1"),
    "visual_temperature": (lambda v: _number(v) and v > 0, "a number above 0"),
    "val_accuracy": (lambda v: v is None or _share(v), "0 to 1, or null"),
    "val_loss": (lambda v: v is None or (_number(v) and v >= 0), "a number from 0, or null"),
    "head_accuracy": (
        lambda v: v is None or (isinstance(v, dict) and all(map(_share, v.values()))),
        "heads with numbers from 0 to 1, or null",
    ),
    "curve": (
        lambda v: isinstance(v, list) and all(map(_pair, v)),
        "pairs of numbers from 0 to 1",
    ),
    "rule": (lambda v: v in get_args(Rule), ", ".join(get_args(Rule))),
}
