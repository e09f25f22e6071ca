"""Cells of an evaluation: dataset × shots × method, and how each one is set up."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from jsonargparse.typing import NonNegativeInt, PositiveFloat
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from cluster.catalog.splits import Concepts
from cluster.content import plain
from cluster.errors import ConfigError
from cluster.rows import slug
from models.methods import METHODS


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


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """One line of the result table: a method, the shots it gets, and what is searched."""

    method: str
    """One of models.methods.METHODS."""
    shots: list[NonNegativeInt]
    """Training images per class; 0 for a method that looks at none."""
    concepts: Concepts = "all"
    """Which classes it learns."""
    teacher: bool = False
    """Whether it starts from the pretrained teacher."""
    hyper: dict[str, Any] = field(default_factory=dict)
    """Hyper-parameters that differ from the method's defaults."""
    space: dict[str, Range | Choice] = field(default_factory=dict)
    """Hyper-parameters to search. The first trial takes the values declared without a search."""
    trials: NonNegativeInt = 0
    """Configurations to try in each cell; 0 takes the declared ones without a search."""
    seconds: PositiveFloat | None = None
    """Working time of a cell's trials, after which no new generation is begun; default: no end."""


@dataclass(frozen=True)
class Cell:
    """One dataset, one number of shots, one method."""

    dataset: str
    name: str
    """Of the method, as result tables show it."""
    shots: int
    config: MethodConfig
    hyper: Any
    """The method's hyper-parameters before any search (its dataclass)."""

    @property
    def key(self) -> str:
        """A safe file name that no other cell of a search has."""
        return f"{slug(self.dataset)}-{self.shots}shot-{slug(self.name)}"

    def seeds(self, seeds: list[int]) -> list[int]:
        """Without shots nothing is drawn, so the first seed stands for all of them."""
        return seeds if self.shots else seeds[:1]

    def distributions(self) -> dict[str, BaseDistribution]:
        """The search space as Optuna's; ConfigError if it is none."""
        return {name: self._distribution(name, s) for name, s in self.config.space.items()}

    def with_values(self, values: Mapping[str, Any]) -> Any:
        """The hyper-parameters with some replaced, checked; ConfigError that names the field."""
        field_name = f"methods.{self.name}"
        return parsed_hyper(field_name, self.config.method, plain(self.hyper) | dict(values))

    def _distribution(self, name: str, space: Range | Choice) -> BaseDistribution:
        where = f"methods.{self.name}.space.{name}"
        known = [f.name for f in dataclasses.fields(self.hyper)]
        if name not in known:
            raise ConfigError(f"{where}: {name!r} is unknown; allowed: {', '.join(known)}")
        try:
            if isinstance(space, Choice):
                return CategoricalDistribution(space.choices)
            if isinstance(getattr(self.hyper, name), int):
                return IntDistribution(int(space.low), int(space.high), log=space.log)
            return FloatDistribution(space.low, space.high, log=space.log)
        except ValueError as error:
            raise ConfigError(f"{where}: {space}; allowed: {error}") from error


def declared_cells(
    datasets: list[str], methods: Mapping[str, MethodConfig], shared: Mapping[str, Any]
) -> Iterator[Cell]:
    """All cells, datasets first. Raises ConfigError on an unknown method or hyper-parameter.

    shared: hyper-parameters of all methods that know them, unless their own config says else.
    """
    for name, config in methods.items():
        if config.method not in METHODS:
            raise ConfigError(
                f"methods.{name}.method: {config.method!r} is unknown; "
                f"allowed: {', '.join(sorted(METHODS))}"
            )
        known = {f.name for f in dataclasses.fields(METHODS[config.method].Hyper)}
        own = {key: value for key, value in shared.items() if key in known} | config.hyper
        hyper = parsed_hyper(f"methods.{name}.hyper", config.method, own)
        for dataset in datasets:
            for shots in config.shots:
                cell = Cell(dataset, name, shots, config, hyper)
                cell.distributions()
                yield cell


def parsed_hyper(where: str, method: str, values: Mapping[str, Any]) -> Any:
    """The method's dataclass from plain values; ConfigError that names the field."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--hyper", type=METHODS[method].Hyper)
    try:
        made = parser.parse_object({"hyper": plain(values)})
        return parser.instantiate_classes(made).hyper if values else METHODS[method].Hyper()
    except (ArgumentError, TypeError) as error:
        known = [f.name for f in dataclasses.fields(METHODS[method].Hyper)]
        reason = " ".join(str(error).split())
        raise ConfigError(f"{where}: {reason}; allowed fields: {', '.join(known)}") from error
