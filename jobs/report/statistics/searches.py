"""What a report says of the search: trials, importance of hyper-parameters, time of every cell."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from cluster.artifacts import Artifact

LEAST_TRIALS = 12
"""Of a method, below which no importance is stated."""


@dataclass(frozen=True)
class Tried:
    """One trial. val_accuracy: in [0, 1], None if it failed; wall_s: its share of the time of those
    that were trained together."""

    state: str
    val_accuracy: float | None
    values: dict[str, Any]
    wall_s: float


@dataclass(frozen=True)
class CellSearch:
    """All that was fitted for one cell."""

    cell: str
    dataset: str
    method: str
    """As result tables show it."""
    shots: int
    tried: list[Tried]
    """In order of their number; none if nothing was searched."""
    fit_seconds: float
    """Of final fits that are not a trial's model."""

    @property
    def states(self) -> Counter[str]:
        return Counter(trial.state for trial in self.tried)

    @property
    def names(self) -> list[str]:
        """Hyper-parameters that were searched."""
        return sorted({name for trial in self.tried for name in trial.values})

    @property
    def seconds(self) -> float:
        """Of one worker, over all trials and fits."""
        return sum(trial.wall_s for trial in self.tried) + self.fit_seconds

    @property
    def best_so_far(self) -> list[float]:
        """Highest val accuracy of a complete trial after each trial, from the first one on."""
        found, best = [], None
        for trial in self.tried:
            if trial.state == "complete" and trial.val_accuracy is not None:
                best = max(best or 0.0, trial.val_accuracy)
            if best is not None:
                found.append(best)
        return found


def cell_searches(adapted: Artifact) -> list[CellSearch]:
    """Every cell of an "adapted" artifact, in the order of its table `fits`."""
    fits = adapted.read_table("fits").to_pylist()
    tried: dict[str, list[Tried]] = {}
    for row in sorted(adapted.read_table("trials").to_pylist(), key=lambda row: row["number"]):
        values = json.loads(row["values"])
        trial = Tried(row["state"], row["val_accuracy"], values, row["wall_s"])
        tried.setdefault(row["cell"], []).append(trial)
    found = []
    for cell in dict.fromkeys(fit["cell"] for fit in fits):
        own = [fit for fit in fits if fit["cell"] == cell]
        trials = tried.get(cell, [])
        # The first seed's model is the best trial's: its time is among the trials'.
        further = own[1:] if trials else own
        seconds = sum(fit["wall_s"] for fit in further)
        first = own[0]
        found.append(
            CellSearch(cell, first["dataset"], first["name"], first["shots"], trials, seconds)
        )
    return found


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
    found = {}
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
        found[method] = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return found


def _centred(cell: CellSearch) -> list[tuple[dict[str, Any], float]]:
    complete = [
        (trial.values, trial.val_accuracy)
        for trial in cell.tried
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


def cell_rows(cells: Sequence[CellSearch]) -> list[dict[str, Any]]:
    """One row per cell for the table `cells`: trials by state, best val accuracy, seconds."""
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
