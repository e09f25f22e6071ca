"""Search spaces: what a search may try for a hyper-parameter."""

from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from actors.search.hyper import checked
from cluster.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from low to high, both included; whole ones where the hyper-parameter is whole."""

    low: float
    high: float
    log: bool = False
    """Whether factors count, not differences."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of a list."""

    choices: list[Any]


def distribution(where: str, hyper: Any, name: str, space: Range | Choice) -> BaseDistribution:
    """The space of the field `name` of `hyper` as Optuna's.

    where: what errors call the spaces. Raises ConfigError for an unknown field, an end or a choice
    that the field does not take, an empty range or list.
    """
    if isinstance(space, Choice):
        for value in space.choices:
            checked(where, hyper, name, value)
        if not space.choices:
            raise ConfigError(f"{where}.{name}.choices: []; allowed: one value at least")
        return CategoricalDistribution(space.choices)
    low, high = (checked(where, hyper, name, end) for end in (space.low, space.high))
    if low > high or (space.log and low <= 0):
        raise ConfigError(
            f"{where}.{name}: from {low} to {high}{' (log)' if space.log else ''}; "
            "allowed: low at most high, and above 0 with log"
        )
    kind = IntDistribution if isinstance(low, int) else FloatDistribution
    return kind(low, high, log=space.log)
