"""Cells of an evaluation: dataset × shots × method, and how each one is set up."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jsonargparse.typing import NonNegativeInt, PositiveFloat
from optuna.distributions import BaseDistribution

from actors.search.hyper import replaced
from actors.search.spaces import Choice, Range, distribution
from cluster.catalog.splits import Concepts, ValPolicy
from cluster.errors import ConfigError
from cluster.rows import slug
from models.methods import METHODS


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """One line of the result table: a method, the shots it gets, and what is searched.

    `hyper` and `space` speak of the fields of `METHODS[method].Hyper`, and `require_methods` checks
    them against those types. They are mappings, not that dataclass, because only what a user says
    may come before what all methods share: the templates, and the size of the teacher's adapter.
    """

    method: str
    """One of models.methods.METHODS."""
    shots: list[NonNegativeInt]
    """Training images per class; 0 for a method that looks at none."""
    concepts: Concepts = "all"
    """Which classes it learns."""
    teacher: bool = False
    """Whether it starts from the pretrained teacher."""
    hyper: dict[str, Any] = field(default_factory=dict)
    """Hyper-parameters that differ from the method's defaults, by the names of its fields; an
    unknown name is refused with a list of all, their types and defaults."""
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

    def seeds(self, seeds: Sequence[int]) -> Sequence[int]:
        """Seeds that it is fitted with: without shots nothing is drawn, and the first will do."""
        return seeds if self.shots else seeds[:1]

    def distributions(self) -> dict[str, BaseDistribution]:
        """The search space as Optuna's; ConfigError if it is none."""
        where = f"methods.{self.name}.space"
        spaces = self.config.space.items()
        return {name: distribution(where, self.hyper, name, space) for name, space in spaces}

    def with_values(self, values: Mapping[str, Any]) -> Any:
        """The hyper-parameters with some replaced, checked; ConfigError that names the field."""
        return replaced(f"methods.{self.name}.hyper", self.hyper, values)


def require_methods(
    where: str, methods: Mapping[str, MethodConfig], val_policy: ValPolicy = "min"
) -> None:
    """Refuses methods that cannot be: for the `__post_init__` of what holds them.

    So a user is told before Ray starts. where: the field that holds them. Raises ConfigError that
    names the field for an unknown method, a hyper-parameter or a space that its method does not
    take, and a search without val images to choose on or without a space.
    """
    for name, config in methods.items():
        if config.method not in METHODS:
            raise ConfigError(
                f"{where}.{name}.method: {config.method!r} is unknown; "
                f"allowed: {', '.join(sorted(METHODS))}"
            )
        hyper = replaced(f"{where}.{name}.hyper", METHODS[config.method].Hyper(), config.hyper)
        for field_name, space in config.space.items():
            distribution(f"{where}.{name}.space", hyper, field_name, space)
        if not config.trials:
            continue
        if val_policy == "none" or 0 in config.shots:
            raise ConfigError(
                f"{where}.{name}.trials: {config.trials} with val_policy {val_policy!r} and shots "
                f"{config.shots}; allowed: 0, for there is no val to choose on"
            )
        if not config.space:
            raise ConfigError(f"{where}.{name}.trials: {config.trials}; allowed: 0 without a space")


def declared_cells(
    datasets: list[str], methods: Mapping[str, MethodConfig], shared: Mapping[str, Any]
) -> Iterator[Cell]:
    """All cells of methods that `require_methods` has let pass, datasets first.

    shared: hyper-parameters of all methods that know them, unless their own config says else.
    """
    for name, config in methods.items():
        defaults = METHODS[config.method].Hyper()
        known = {key: value for key, value in shared.items() if hasattr(defaults, key)}
        hyper = replaced(f"methods.{name}.hyper", defaults, known | config.hyper)
        for dataset in datasets:
            for shots in config.shots:
                yield Cell(dataset, name, shots, config, hyper)
