"""A discovery on the small world."""

from pathlib import Path
from typing import Any

from actors.discovery.discoverer import DiscoveryConfig
from actors.search.cells import MethodConfig
from cluster.pool import Pool
from jobs.discover import DiscoverConfig
from models.discovery.naming import NamingHyper
from models.discovery.zsnl import LearningHyper
from models.methods.fsnl import FsnlHyper

LEARNING = LearningHyper(rounds=2, fsnl=FsnlHyper(epochs=4, lr=0.01))
WAY = DiscoveryConfig(
    labelled=2, naming=NamingHyper(by="imagined", min_margin=None), learning=LEARNING
)
BASELINES = {
    "zero-shot": MethodConfig(method="zero_shot", shots=[0]),
    "linear-probe": MethodConfig(method="linear_probe", shots=[2]),
}


def config(folder: Path, storage: str = "found", **others) -> DiscoverConfig:  # type: ignore[no-untyped-def]
    """The folder holds the dataset and its features; results go to its subfolder `storage`."""
    settings: dict[str, Any] = {"discoveries": {"zsnl": WAY}, "seeds": [0, 1]}
    settings |= {"pool": Pool(workers=1)} | others
    return DiscoverConfig(
        storage=str(folder / storage),
        datasets=[str(path) for path in folder.glob("dataset/*")],
        features=[str(path) for path in folder.glob("features/*")],
        **settings,
    )
