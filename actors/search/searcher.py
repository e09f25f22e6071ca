"""The searcher: hands populations of all cells to Ray Tune, and keeps what comes back."""

from collections.abc import Callable, Sequence
from typing import Any

from ray.tune.search import Searcher

from actors.search.studies import NUMBER, CellStudy

OnDone = Callable[[CellStudy], None]


class CellSearcher(Searcher):
    """Hands the work of all cells to Tune, cell after cell in turn, and keeps what comes back."""

    def __init__(self, studies: Sequence[CellStudy], on_done: OnDone) -> None:
        """on_done: called after each trial and fit that has ended."""
        super().__init__()
        self.studies = list(studies)
        self.on_done = on_done
        self.running: dict[str, tuple[CellStudy, dict[str, Any]]] = {}
        self.turn = 0

    def suggest(self, trial_id: str) -> Any:
        """A config, None for "not now", or Searcher.FINISHED."""
        for _ in self.studies:
            study = self.studies[self.turn]
            self.turn = (self.turn + 1) % len(self.studies)
            if config := study.next_config():
                self.running[trial_id] = study, config
                return config
        return None if self.running else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        study, config = self.running.pop(trial_id)
        if error or result is None:
            return  # a fault of the machine; not stored, so that another run tries again
        for member, outcome in zip(config["members"], result["outcomes"], strict=True):
            if member[NUMBER] is None:
                study.fitted.add(config["seed"])
            else:
                study.store(member[NUMBER], member["values"], outcome)
            self.on_done(study)
