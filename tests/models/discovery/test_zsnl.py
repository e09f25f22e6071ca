"""Names are learned without a labelled image of theirs; TransCLIP step by step."""

import dataclasses

import torch
from torch.nn.functional import normalize

from models.discovery.clustering import ClusteringHyper, cluster
from models.discovery.naming import NamingHyper, name_clusters
from models.discovery.transclip import transclip
from models.discovery.zsnl import LearningHyper, learn_names, most_confident, untaught
from models.methods.fsnl import FsnlHyper
from models.text_classifier import text_classifier
from tests.models.discovery.worlds import KNOWN, NAMES, NEW, images, problem
from tests.models.methods.tasks import accuracy

HYPER = LearningHyper(per_name=8, fsnl=FsnlHyper(lr=50.0, epochs=200))


def test_new_names_are_learned_from_named_clusters() -> None:
    world, truth = problem()
    clustering = cluster(world, ClusteringHyper(clusters=6), seed=0)
    names_of_clusters = name_clusters(world, clustering, NamingHyper(by="imagined"))
    learned = learn_names(world, clustering, names_of_clusters, HYPER, seed=0)
    assert learned is not None
    assert sorted(learned.model.card.names) == sorted(NEW)
    assert [learned.names[k] for k in learned.assigned.tolist()] == [NAMES[y] for y in truth]
    assert 1 <= len(learned.changed) <= HYPER.rounds
    assert learned.changed[-1] <= HYPER.settled
    test = torch.cat([images(NAMES.index(name), 10, 7)[0] for name in NEW])
    labels = torch.arange(len(NEW)).repeat_interleave(10)
    text = text_classifier(world.clip, NEW, [world.template])
    before = normalize(test[:, 0], dim=-1) @ text.T
    assert accuracy(learned.model.logits(test, NEW), labels) > 0.95 > accuracy(before, labels)


def test_nothing_is_learned_where_every_cluster_is_known_or_unnamed() -> None:
    world, _ = problem()
    clustering = cluster(world, ClusteringHyper(clusters=6), seed=0)
    names_of_clusters = name_clusters(
        dataclasses.replace(world, candidates=KNOWN), clustering, NamingHyper()
    )
    assert learn_names(world, clustering, names_of_clusters, HYPER, seed=0) is None
    tokens = images(0, 3, 7)[0]
    model = untaught(world, HYPER.fsnl, 0)
    zero_shot = text_classifier(world.clip, NAMES, [world.template.replace("a {}", "{}")])
    expected = world.clip.logit_scale * normalize(tokens[:, 0], dim=-1) @ zero_shot.T
    torch.testing.assert_close(model.logits(tokens, NAMES), expected, atol=1e-4, rtol=1e-4)


def test_the_most_confident_of_each_name_come_first() -> None:
    names = torch.tensor([0, 1, 0, -1, 0, 1])
    confidence = torch.tensor([0.1, 0.5, 0.9, 1.0, 0.4, 0.6])
    assert most_confident(names, confidence, 2, 2).tolist() == [2, 4, 5, 1]


def transclip_by_loops(f: torch.Tensor, t: torch.Tensor, scale: float) -> torch.Tensor:
    count, classes = len(f), len(t)
    y = (scale * f @ t.T).softmax(dim=1)
    w = torch.zeros(count, count)
    for i in range(count):
        near = [j for j in (f @ f[i]).argsort(descending=True).tolist() if j != i][:3]
        for j in near:
            w[i, j] = f[i] @ f[j]
    z, sigma = y.clone(), torch.full((f.shape[1],), 1 / f.shape[1])
    mu = torch.zeros_like(t)
    for k in range(classes):
        for i in y[:, k].argsort(descending=True)[:8]:
            mu[k] += y[i, k] * f[i]
        mu[k] /= mu[k].norm()
    for _ in range(10):
        log_p = torch.stack([-0.5 * ((f - m).square() / sigma).sum(dim=1) for m in mu], dim=1)
        for _ in range(5):
            pull = (w @ z + w.T @ z) / 6
            z = y * (log_p / 50 + pull).exp()
            z = z / z.sum(dim=1, keepdim=True)
        mu = z.T @ f / z.sum(dim=0)[:, None]
        mu = mu / mu.norm(dim=1, keepdim=True)
        sigma = torch.zeros_like(sigma)
        for i in range(count):
            for k in range(classes):
                sigma += z[i, k] * (f[i] - mu[k]).square() / count
    return z


def test_transclip_is_its_equations_and_helps_where_texts_are_a_little_off() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(4).repeat_interleave(15)
    centres = torch.linalg.qr(torch.randn(16, 16, generator=generator)).Q[:4]
    features = normalize(centres[truth] + 0.3 * torch.randn(60, 16, generator=generator), dim=-1)
    text = normalize(centres + 0.6 * torch.randn(4, 16, generator=generator), dim=-1)
    z = transclip(features, text, 10.0)
    torch.testing.assert_close(z, transclip_by_loops(features, text, 10.0), atol=1e-4, rtol=1e-3)
    assert accuracy(z, truth) > accuracy(features @ text.T, truth)
