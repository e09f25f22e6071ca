"""Proposals: what the trials of a cell try, generation by generation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from actors.search.cells import Cell
from cluster.rows import digest

NewSampler = Callable[[int, int], BaseSampler]
"""A trial's seed, and the trials of a generation, to what proposes its values."""


def tpe(seed: int, generation: int) -> BaseSampler:
    """Optuna's tree-structured Parzen estimator, from the second generation on.

    Optuna's default, ten results before the first proposal, would make searches of up to three
    generations of four random ones.
    """
    return TPESampler(seed=seed, n_startup_trials=generation)


class Proposals:
    """The values of a cell's trials.

    They follow from the cell, a trial's number and the results of earlier generations alone. Trials
    of one generation know of each other what they try, not what comes of it.
    """

    def __init__(self, cell: Cell, generation: int, new_sampler: NewSampler = tpe) -> None:
        """generation: trials that are tried side by side."""
        self.cell, self.generation, self.new_sampler = cell, generation, new_sampler
        self.space = cell.distributions()
        self._replica = optuna.create_study(direction="maximize")
        """In memory: what the sampler knows, the first `_known` trials."""
        self._known = 0
        self._values: dict[int, dict[str, Any]] = {}

    def values(self, number: int, earlier: Sequence[FrozenTrial]) -> Mapping[str, Any]:
        """What a trial tries: number 0 the declared values where the space has them.

        earlier: all results of the generations before its own, in order. To be asked generation by
        generation: what one was told of, the ones before it know no more.
        """
        if number not in self._values:
            self._replica.add_trials(list(earlier[self._known :]))
            self._known = start = len(earlier)
            for n, values in enumerate(self._of_generation(start), start):
                self._values[n] = values
        return self._values[number]

    def _of_generation(self, start: int) -> list[dict[str, Any]]:
        asked = []
        for number in range(start, start + self.generation):
            self._replica.sampler = self.new_sampler(self._seed(number), self.generation)
            if number == 0:
                self._replica.enqueue_trial(self._declared())
            asked.append(self._replica.ask(self.space))
        for trial in asked:  # their results come with the next generation
            self._replica.tell(trial, state=TrialState.FAIL)
        return [trial.params for trial in asked]

    def _declared(self) -> dict[str, Any]:
        declared = {name: getattr(self.cell.hyper, name) for name in self.space}
        return {name: value for name, value in declared.items() if _holds(self.space[name], value)}

    def _seed(self, number: int) -> int:
        return int.from_bytes(digest(self.cell.key, str(number), size=4), "big")


def _holds(space: BaseDistribution, value: Any) -> bool:
    if isinstance(space, CategoricalDistribution):
        return value in space.choices
    return value is not None and space.low <= value <= space.high  # type: ignore[attr-defined]
