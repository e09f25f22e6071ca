"""What `python -m jobs.bench search --part sampler` simulates is a search of stored fits."""

from pathlib import Path

import numpy as np
import pytest

from actors.search.cells import Cell
from actors.search.tasks import Tasks, task_source
from jobs.bench.search import samplers
from jobs.bench.search.growth import CHEAP
from jobs.bench.search.samplers import (
    METHOD,
    StoredFits,
    _at,
    _best_values,
    _place,
    _random,
    _tpe,
    sampling,
)
from models.methods import METHODS
from tests.actors.small_world import make_dataset, make_features

CELL = Cell("toys", "m", 4, METHOD, METHODS[METHOD.method].Hyper())


def test_a_point_has_the_place_of_its_values() -> None:
    space = CELL.distributions()
    for point in np.random.default_rng(0).uniform(0.01, 0.99, (20, len(space))):
        values = _at(space, point.tolist())
        assert all(
            space[name]._contains(space[name].to_internal_repr(v)) for name, v in values.items()
        )
        steps = list(space).index("steps")  # one of four
        apart = np.abs(_place(space, values) - point)
        assert apart[steps] < 0.3
        assert np.delete(apart, steps).max() < 0.01


def test_tpe_climbs_where_there_is_a_hill_and_random_search_does_not() -> None:
    places = np.random.default_rng(0).uniform(size=(2000, len(CELL.distributions())))
    hill = StoredFits(places, -np.abs(places - 0.7).sum(axis=1))
    climbed, random = (_best_values(CELL, 20, sampler, hill) for sampler in (_tpe, _random))
    assert (climbed[:, 0] == random[:, 0]).all(), "the first generation is drawn"
    assert (np.diff(climbed) >= 0).all()
    assert climbed[:, -1].mean() > random[:, -1].mean() + random[:, -1].std() / 20**0.5


def test_fits_are_stored_and_gains_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset(tmp_path)
    features = make_features(tmp_path, dataset)
    source = task_source([dataset.artifact.uri], [features.uri], val_policy="min", templates="hand")
    monkeypatch.setattr(samplers, "TRIALS", (4, 8))
    monkeypatch.setattr(samplers, "METHOD", CHEAP)
    measurements = sampling(Tasks(source), fits=4, seeds=2, storage=str(tmp_path))
    assert measurements["cells"] == 1
    assert 0 <= measurements["random_4"] <= measurements["random_8"] <= measurements["all"] <= 100
    assert measurements["tpe_gain_4"] == 0
    monkeypatch.setattr(samplers, "fit_cell", None)
    assert sampling(Tasks(source), fits=4, seeds=2, storage=str(tmp_path)) == measurements
