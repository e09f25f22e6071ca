"""Discovery's parts on a GPU against the CPU."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from kernels import neighbours
from kernels.neighbours import NeighbourIndex
from models.dino_head import HeadConfig
from models.discovery.clustering import ClusteringHyper, cluster
from models.discovery.mean_shift import MeanShiftHyper
from models.discovery.metrics import clustering_accuracy
from models.discovery.naming import NamingHyper, name_clusters
from models.discovery.problem import Problem
from models.discovery.transclip import transclip
from models.discovery.zsnl import LearningHyper, learn_names
from models.methods.fsnl import FsnlHyper
from models.moment_adapter import AdapterConfig
from tests.models.discovery.worlds import NAMES, centres, problem

SHIFT = MeanShiftHyper(
    batch_size=32,
    block=AdapterConfig(depth=1, inner=8, heads=1),
    head=HeadConfig(prototypes=16, hidden=32, bottleneck=16),
)


def worlds() -> tuple[Problem, Problem, torch.Tensor]:
    """A problem whose CLIP lies on the CPU, the same with it on the GPU, and the true labels."""
    here, truth = problem()
    return here, replace(here, clip=copy.deepcopy(here.clip).to("cuda")), truth


@pytest.mark.parametrize("exact_keys", [50_000, 100])
def test_neighbours(exact_keys: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "EXACT_KEYS", exact_keys)
    keys = normalize(torch.randn(3000, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    places = torch.arange(len(keys))
    here, _ = NeighbourIndex(keys).nearest(keys, 8, places)
    there, found = NeighbourIndex(keys.to("cuda")).nearest(keys.to("cuda"), 8, places.to("cuda"))
    assert found.device.type == "cuda"
    assert ((there.cpu() - here).abs() > 1e-4).float().mean() < 1e-2


def test_transclip() -> None:
    generator = torch.Generator().manual_seed(0)
    directions = centres(6)
    labels = torch.randint(6, (200,), generator=generator)
    features = normalize(directions[labels] + torch.randn(200, 16, generator=generator) / 4, dim=1)
    here = transclip(features, directions, 20.0)
    there = transclip(features.to("cuda"), directions.to("cuda"), 20.0).cpu()
    torch.testing.assert_close(there, here, atol=1e-3, rtol=0)


@pytest.mark.parametrize("way", ["k_means", "ward", "mean_shift"])
def test_clusters_names_and_what_is_learned(way: str) -> None:
    *both, truth = worlds()
    hyper = ClusteringHyper(way=way, mean_shift=SHIFT)  # type: ignore[arg-type]
    learning = LearningHyper(rounds=2, fsnl=FsnlHyper(epochs=4, lr=0.01))
    clusterings, learned = [], []
    for world in both:
        clustering = cluster(world, hyper, seed=0)
        assert clustering.labels.device.type == "cpu"
        unlabelled, _, _ = world.parts(clustering.labels)
        accuracy = clustering_accuracy(unlabelled.numpy(), truth.numpy())
        print(f"{way}: clusters {clustering.clusters}, accuracy {accuracy:.3f}")
        named = name_clusters(world, clustering, NamingHyper(by="imagined", min_margin=None))
        names = learn_names(world, clustering, named, learning, seed=0)
        assert names is not None
        assert names.assigned.device.type == "cpu"
        clusterings.append(accuracy)
        learned.append([names.names[i] if i >= 0 else "" for i in names.assigned.tolist()])
    assert clusterings[1] > clusterings[0] - 0.1
    same = sum(a == b for a, b in zip(*learned, strict=True)) / len(truth)
    print(f"{way}: {same:.1%} of the images have the same name of {len(NAMES)}")
    assert same > 0.9
