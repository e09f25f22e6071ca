"""The search: trials, importance of hyper-parameters, time of every cell."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, NamedTuple

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

LEAST_TRIALS = 12
"""Of a method, below which no importance is stated."""


class FittedModel(NamedTuple):
    """One fitted model: what was chosen for it, and by which validation accuracy."""

    cell: str
    dataset: str
    method: str
    """As result tables show it."""
    shots: int
    seed: int
    hyper: dict[str, Any]
    val_accuracy: float | None
    wall_s: float
    head: str
    fusion_weight: float
    curve: list[tuple[float, float]]
    """(fusion weight, val accuracy); empty for a method with one head."""


@dataclass(frozen=True)
class Trial:
    """One trial of a search."""

    cell: str
    number: int
    state: str
    val_accuracy: float | None
    """In [0, 1]; None if it failed."""
    values: dict[str, Any]
    wall_s: float
    """Its share of the time of those that were trained together."""


@dataclass(frozen=True)
class CellSearch:
    """All that was fitted for one cell."""

    cell: str
    dataset: str
    method: str
    """As result tables show it."""
    shots: int
    trials: list[Trial]
    """In order of their number; none if nothing was searched."""
    fit_seconds: float
    """Of final fits that are not a trial's model."""

    @property
    def states(self) -> Counter[str]:
        """Trials by how they ended."""
        return Counter(trial.state for trial in self.trials)

    @property
    def names(self) -> list[str]:
        """Hyper-parameters that were searched."""
        return sorted({name for trial in self.trials for name in trial.values})

    @property
    def seconds(self) -> float:
        """Of one worker, over all trials and fits."""
        return sum(trial.wall_s for trial in self.trials) + self.fit_seconds

    @property
    def best_so_far(self) -> list[float]:
        """Highest val accuracy of a complete trial after each trial, from the first one on."""
        curve: list[float] = []
        for trial in self.trials:
            if trial.state == "complete" and trial.val_accuracy is not None:
                curve.append(max([trial.val_accuracy, *curve[-1:]]))
            else:
                curve += curve[-1:]
        return curve


def cell_searches(fits: Iterable[FittedModel], trials: Iterable[Trial]) -> list[CellSearch]:
    """Every cell, in the order of its first fit."""
    trials_of: dict[str, list[Trial]] = defaultdict(list)
    for trial in sorted(trials, key=lambda trial: trial.number):
        trials_of[trial.cell].append(trial)
    fits_of: dict[str, list[FittedModel]] = defaultdict(list)
    for fit in fits:
        fits_of[fit.cell].append(fit)
    searches = []
    for cell, (first, *others) in fits_of.items():
        # The first seed's model is the best trial's: its time is among the trials'.
        further = others if cell in trials_of else [first, *others]
        seconds = sum(fit.wall_s for fit in further)
        search = CellSearch(
            cell, first.dataset, first.method, first.shots, trials_of.get(cell, []), seconds
        )
        searches.append(search)
    return searches


def importances(
    cells: Sequence[CellSearch], methods: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """For each method the share of every searched hyper-parameter in the variance of val accuracy.

    By fANOVA (Hutter et al., 2014) on the complete trials of all its cells together, each accuracy
    less its cell's mean, for one cell has few trials. Left out are methods with fewer than
    LEAST_TRIALS of them, with one hyper-parameter, or whose trials are all alike.
    methods: their configurations, as the search's manifest holds them.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    shares = {}
    for method in dict.fromkeys(cell.method for cell in cells):
        space = methods.get(method, {}).get("space", {})
        centred = [pair for cell in cells if cell.method == method for pair in _centred(cell)]
        spread = {round(accuracy, 9) for _, accuracy in centred}
        if len(space) < 2 or len(centred) < LEAST_TRIALS or len(spread) < 2:
            continue
        distributions = {
            name: _distribution(declared, [values[name] for values, _ in centred])
            for name, declared in space.items()
        }
        study = optuna.create_study(direction="maximize")
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params=values, distributions=distributions, value=accuracy
                )
                for values, accuracy in centred
            ]
        )
        shares[method] = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return shares


def _centred(cell: CellSearch) -> list[tuple[dict[str, Any], float]]:
    complete = [
        (trial.values, trial.val_accuracy)
        for trial in cell.trials
        if trial.state == "complete" and trial.val_accuracy is not None
    ]
    if not complete:
        return []
    level = mean(accuracy for _, accuracy in complete)
    return [(values, accuracy - level) for values, accuracy in complete]


def _distribution(declared: Mapping[str, Any], values: list[Any]) -> BaseDistribution:
    """declared: a Range or a Choice (`actors.search.cells`) as JSON."""
    if "choices" in declared:
        return CategoricalDistribution(declared["choices"])
    if all(isinstance(value, int) for value in values):
        return IntDistribution(int(declared["low"]), int(declared["high"]), log=declared["log"])
    return FloatDistribution(declared["low"], declared["high"], log=declared["log"])


def cell_records(cells: Sequence[CellSearch]) -> list[dict[str, Any]]:
    """One per cell: trials by state, best val accuracy, seconds of one worker."""
    return [
        {
            "dataset": cell.dataset,
            "method": cell.method,
            "shots": cell.shots,
            **{state: cell.states[state] for state in ("complete", "pruned", "fail")},
            "best_val_accuracy": max(cell.best_so_far, default=None),
            "worker_s": cell.seconds,
        }
        for cell in cells
    ]
