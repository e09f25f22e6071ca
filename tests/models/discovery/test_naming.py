"""Clusters get the names of what they show: ids with gaps, too many names, and doubtful ones."""

import dataclasses

import pytest
import torch

from models.discovery.clustering import Clustering
from models.discovery.naming import NamingHyper, assigned, name_clusters
from models.discovery.problem import Problem
from tests.models.discovery.worlds import KNOWN, NAMES, PER_CLASS, problem

IDS = torch.tensor([2, 5, 6, 9, 11, 30])
"""Cluster of each name: begins above 0, has gaps."""


def right_clusters(world: Problem, truth: torch.Tensor) -> Clustering:
    known = torch.cat([world.labels, world.val_labels])
    return Clustering(IDS[torch.cat([truth, known])], 31, None)


def test_every_cluster_gets_its_own_name_whatever_its_number() -> None:
    world, truth = problem()
    results = name_clusters(world, right_clusters(world, truth), NamingHyper(by="imagined"))
    assert {n.cluster: n.name for n in results} == dict(zip(IDS.tolist(), NAMES, strict=True))
    assert [n.by for n in results] == ["labelled"] * len(KNOWN) + ["imagined"] * 3
    assert all(n.images == PER_CLASS["unlabelled"] for n in results)
    assert all(n.margin > 0.5 for n in results[len(KNOWN) :])


def test_a_known_name_is_given_by_labelled_images_alone() -> None:
    world, truth = problem()
    clusters = right_clusters(world, truth)
    labelled = slice(len(truth), len(truth) + len(world.labels))
    clusters.labels[labelled] = IDS[:4].repeat(3)  # torn apart: no cluster has most of a concept
    results = name_clusters(world, clusters, NamingHyper(by="imagined", min_margin=None))
    assert not {n.name for n in results} & set(KNOWN)
    assert [n.name for n in results[len(KNOWN) :]] == NAMES[len(KNOWN) :]


def test_a_doubtful_name_is_kept_back_and_listed() -> None:
    world, truth = problem()
    hyper = NamingHyper(by="imagined", min_margin=1.9)
    results = name_clusters(world, right_clusters(world, truth), hyper)
    assert [n.name for n in results[len(KNOWN) :]] == ["", "", ""]
    assert [n.candidate for n in results[len(KNOWN) :]] == NAMES[len(KNOWN) :]


def test_more_clusters_than_names_leave_some_unnamed() -> None:
    world, truth = problem()
    few = dataclasses.replace(world, candidates=[*KNOWN, "okapi"])
    results = name_clusters(few, right_clusters(world, truth), NamingHyper(by="imagined"))
    assert [n.name for n in results] == [*KNOWN, "okapi", "", ""]


def test_texts_of_one_norm_decide_where_images_are_not_asked() -> None:
    world, truth = problem(imagined=False)
    results = name_clusters(world, right_clusters(world, truth), NamingHyper(min_margin=None))
    assert {n.by for n in results} == {"labelled", "text"}
    assert all(-1 <= n.similarity <= 1 for n in results)
    with pytest.raises(ValueError, match="no image of candidate"):
        name_clusters(world, right_clusters(world, truth), NamingHyper(by="imagined"))


def test_the_largest_sum_wins_over_the_best_single_match() -> None:
    pairs = assigned(torch.tensor([[0.9, 0.8, 0.0], [0.85, 0.1, 0.0]]))
    assert pairs == {0: (1, pytest.approx(-0.1)), 1: (0, pytest.approx(0.75))}
    assert assigned(torch.ones(1, 1)) == {0: (0, float("inf"))}
