"""The API's numbers are those of the jobs: the same tokens, shots, fits, and discovered names."""

from pathlib import Path

import pytest
import torch

from actors.discovery.discoverer import DiscoveryCell, DiscoveryConfig
from actors.discovery.discoverer import discover as discover_cell
from actors.features.encoder import EncoderConfig
from actors.local import Encoded, accuracy, discover, fit, folder, load_clip
from actors.search.cells import MethodConfig, declared_cells
from actors.search.evaluator import answers_on_test
from actors.search.tasks import Tasks, TaskSource
from actors.search.trials import fit_cell
from cluster.pool import Pool
from jobs.dataset import DatasetConfig, dataset
from jobs.encode import EncodeConfig, encode
from models.discovery.clustering import ClusteringHyper
from models.discovery.naming import NamingHyper
from models.discovery.zsnl import LearningHyper
from models.methods.fsnl import FsnlHyper
from tests.actors.local.digits_folder import NAMES, write_digits

VIEWS = 2
METHODS = {
    "linear_probe": MethodConfig(method="linear_probe", shots=[4]),
    "fsnl": MethodConfig(method="fsnl", shots=[4], hyper={"epochs": 3, "lr": 0.1}),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data") / "digits")


@pytest.fixture(scope="module")
def encoded(root: Path) -> Encoded:
    return Encoded(load_clip("tiny"), folder(str(root), hint="digit"), views=VIEWS)


@pytest.fixture(scope="module")
def tasks(root: Path, tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Tasks:
    storage = str(tmp_path_factory.mktemp("storage"))
    made = dataset(DatasetConfig(storage=storage, name="digits", folder=str(root), hint="digit"))
    config = EncoderConfig(views=VIEWS)
    pool = Pool(workers=1)
    (features,) = encode(
        EncodeConfig(storage=storage, datasets=[made.uri], encoder=config, pool=pool)
    )
    return Tasks(TaskSource((made.uri,), (features.uri,), None, "min", "hand"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_fit_is_that_of_a_search(encoded: Encoded, tasks: Tasks, method: str, seed: int) -> None:
    (cell,) = declared_cells(["digits"], {method: METHODS[method]}, {})
    theirs, ours = tasks.task(cell, tasks.split(cell, seed)), encoded.task(4, seed)
    assert ours.train.labels.equal(theirs.train.labels)
    torch.testing.assert_close(ours.train.tokens, theirs.train.tokens, rtol=0, atol=2e-2)
    ((searched, _),) = fit_cell(tasks, cell, seed, [{}], None)
    assert searched is not None
    counts = answers_on_test(searched, tasks.encoded["digits"], ["all"])["all"].confusion
    here = fit(method, ours, seed, **METHODS[method].hyper)
    assert accuracy(here, encoded) == int(counts.trace()) / int(counts.sum())


def test_discovered_names_are_those_of_the_job(encoded: Encoded, tasks: Tasks) -> None:
    clustering, naming = ClusteringHyper(clusters=4), NamingHyper(min_margin=None)
    learning = LearningHyper(rounds=1, fsnl=FsnlHyper(epochs=2))
    config = DiscoveryConfig(
        labelled=0, clustering=clustering, naming=naming, learning=learning, candidates="own"
    )
    theirs = discover_cell(tasks, DiscoveryCell("digits", "zsnl", 0, config, None))
    ours = discover(encoded, NAMES, clustering=clustering, naming=naming, learning=learning)
    assert theirs.learned is not None
    assert ours.ids == theirs.ids
    assert [c.name for c in ours.clusters] == [c.name for c in theirs.named]
    assert ours.names == [theirs.learned.names[k] for k in theirs.learned.assigned.tolist()]
