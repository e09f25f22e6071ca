"""Clusters of a world whose classes are known, their number, and how they are counted."""

import dataclasses

import numpy as np
import pytest
import torch

from models.dino_head import HeadConfig
from models.discovery.clustering import ClusteringHyper, Way, cluster
from models.discovery.mean_shift import MeanShiftHyper, train_shift_model
from models.discovery.metrics import clustering_accuracy, joint_hits
from models.discovery.ward import WardTree
from models.moment_adapter import AdapterConfig
from tests.models.discovery.worlds import NAMES, images, problem

SHIFT = MeanShiftHyper(
    neighbours=4,
    epochs=20,
    block=AdapterConfig(depth=1, inner=8, heads=2, mlp_ratio=1.0),
    head=HeadConfig(prototypes=12, hidden=32, bottleneck=16),
)


def test_parts_are_counted_by_one_matching() -> None:
    labels = np.array([0, 0, 0, 1, 1, 7, 7, 7])
    clusters = np.array([3, 3, 9, 9, 9, 9, 9, 9])
    hits = joint_hits(clusters, labels)
    # Cluster 9 is class 7's; by itself, class 1 would have been all right.
    assert hits.tolist() == [True, True, False, False, False, True, True, True]
    assert clustering_accuracy(clusters[3:5], labels[3:5]) == 1


@pytest.mark.parametrize("way", ["k_means", "ward", "mean_shift"])
def test_known_classes_tell_the_number_of_all(way: Way) -> None:
    world, truth = problem()
    clustering = cluster(world, ClusteringHyper(way=way, mean_shift=SHIFT), seed=0)
    assert clustering.estimate is not None
    assert clustering.estimate.accuracy == 1
    assert clustering.clusters == pytest.approx(len(NAMES), abs=2)
    unlabelled = world.parts(clustering.labels)[0]
    assert joint_hits(unlabelled.numpy(), truth.numpy()).mean() > 0.8
    declared = cluster(world, ClusteringHyper(way=way, clusters=6, mean_shift=SHIFT), seed=0)
    assert declared.estimate is None
    assert clustering_accuracy(world.parts(declared.labels)[0].numpy(), truth.numpy()) > 0.95


def test_without_known_images_the_number_must_be_given() -> None:
    world, truth = problem(known=False)
    with pytest.raises(ValueError, match="clusters: none"):
        cluster(world, ClusteringHyper(), seed=0)
    for way in ("ward", "mean_shift"):
        hyper = ClusteringHyper(way=way, clusters=6, mean_shift=SHIFT)
        clustering = cluster(world, hyper, seed=0)
        assert clustering_accuracy(clustering.labels.numpy(), truth.numpy()) > 0.95


def test_mean_shift_learns_what_two_views_share() -> None:
    world, truth = problem(known=False)
    tokens = world.tokens.float()
    generator = torch.Generator().manual_seed(1)
    # Half of the channels are noise of each view, more than twice as strong as what a class says.
    mixing = torch.linalg.qr(torch.randn(32, 32, generator=generator)).Q
    noise = 0.6 * torch.randn(5, *tokens.shape[1:], generator=generator)
    both = torch.cat([tokens[[0, 0, 1, 0, 1]], noise], dim=-1) @ mixing
    hard = dataclasses.replace(world, tokens=both, val=torch.empty(0, 3, 32))
    raw = cluster(hard, ClusteringHyper(clusters=6), seed=0)
    shift = dataclasses.replace(SHIFT, epochs=60)
    hyper = ClusteringHyper(way="mean_shift", clusters=6, mean_shift=shift)
    before = clustering_accuracy(raw.labels.numpy(), truth.numpy())
    after = clustering_accuracy(cluster(hard, hyper, seed=0).labels.numpy(), truth.numpy())
    assert before < 0.6
    assert after > before + 0.2


def test_mean_shift_needs_two_views() -> None:
    world, _ = problem()
    with pytest.raises(ValueError, match="1 view"):
        train_shift_model(dataclasses.replace(world, tokens=world.tokens[:1]), SHIFT, seed=0)


def test_groups_of_images_give_nearly_the_same_cut() -> None:
    features = torch.cat([images(c, 60, 9, noise=0.15)[0, :, 0] for c in range(6)])
    exact, grouped = WardTree(features, 360, 0), WardTree(features, 60, 0)
    assert grouped.most <= 60
    assert clustering_accuracy(grouped.cut(6).numpy(), exact.cut(6).numpy()) > 0.95
