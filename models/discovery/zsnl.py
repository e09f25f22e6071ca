"""ZSNL: names learned from images that were clustered and named, without a labelled image."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch
from jsonargparse.typing import ClosedUnitInterval, PositiveInt
from torch import Tensor
from torch.nn.functional import normalize

from models.discovery.clustering import Clustering
from models.discovery.naming import NamedCluster
from models.discovery.problem import Problem
from models.methods.adapted import Card
from models.methods.fsnl import Fsnl, FsnlAdapted, FsnlHyper
from models.methods.selection import Selection
from models.task import Features, Task
from models.text_classifier import templates, text_classifier

NONE = -1
"""Stands where an image has no name."""


@dataclass(frozen=True, kw_only=True)
class LearningHyper:
    """How names are learned from clusters."""

    per_name: PositiveInt = 16
    """Images per name that are learned from, the most confident ones."""
    rounds: PositiveInt = 3
    """Rounds of learning and assigning, at most."""
    settled: ClosedUnitInterval = 0.01
    """Share of the images that may change their name in the last round."""
    fsnl: FsnlHyper = field(default_factory=FsnlHyper)
    """Settings of every round; `imagined_weight` is for images imagined from the names."""


@dataclass(frozen=True, eq=False)
class LearnedNames:
    """What was learned of the discovered names, and the names of the unlabelled images."""

    model: FsnlAdapted
    """Knows the discovered names, and every other name as CLIP does."""
    names: list[str]
    """The discovered names, then the known ones."""
    assigned: Tensor
    """(U,) int64 into names, NONE for images in unnamed clusters."""
    confidence: Tensor
    """(U,) float, probability of that name, in [0, 1], 0 where there is none."""
    known: list[int | None]
    """Of each name the place of the known concept that it is, None for a discovered one."""
    changed: tuple[float, ...]
    """Share of the images whose name a round changed, for each round."""


def learn_names(
    problem: Problem,
    clustering: Clustering,
    clusters: Sequence[NamedCluster],
    hyper: LearningHyper,
    seed: int,
) -> LearnedNames | None:
    """Rounds of: learn the discovered names by FSNL from the most confident images, assign again.

    Discovered are the names that clusters got by likeness. At first an image has its cluster's
    name, and those nearest to their cluster's mean are the most confident; later both come from the
    learned names, any of which may take an image of a cluster with a discovered name. Images of
    unnamed clusters are left out, and those of known ones keep their cluster's name: what CLIP says
    of a name that it knows cannot be compared with what some images taught it of another one.
    None if there is no discovered name.
    Source: ZSNL (LAION-Beyond's project page), which learns once; the rounds are ours.
    """
    unlabelled, _, _ = problem.parts(clustering.labels)
    by_likeness = [n for n in clusters if n.by in ("text", "imagined")]
    if not by_likeness:
        return None
    named = [*by_likeness, *(n for n in clusters if n.by == "labelled")]
    names, discovered = [n.name for n in named], [n.name for n in by_likeness]
    name_of_cluster = torch.full((clustering.clusters,), NONE)
    for place, n in enumerate(named):
        name_of_cluster[n.cluster] = place
    assigned = name_of_cluster[unlabelled]
    features = problem.pool[: len(unlabelled)]
    confidence = _nearness(features, assigned, len(names))
    inside = (assigned != NONE) & (assigned < len(discovered))
    changed, model = [], None
    for _ in range(hyper.rounds):
        chosen = most_confident(assigned, confidence, len(discovered), hyper.per_name)
        task = _task(problem, discovered, chosen, assigned, features)
        model = Fsnl.fit(task, hyper.fsnl, seed)
        seen = problem.tokens[0, problem.unlabelled[inside], :1].to(problem.device)
        logits = model.logits(seen, discovered).cpu()
        confidence[inside], best = logits.softmax(dim=1).max(dim=1)
        changed.append((best != assigned[inside]).float().mean().item())
        assigned[inside] = best
        if changed[-1] <= hyper.settled:
            break
    assert model is not None
    known = [n.known for n in named]
    return LearnedNames(model, names, assigned, confidence, known, tuple(changed))


def untaught(problem: Problem, hyper: FsnlHyper, seed: int) -> FsnlAdapted:
    """The model before anything is learned: every name is as CLIP knows it, in FSNL's prompt."""
    card = Card(
        method=Fsnl.name,
        dataset=problem.dataset,
        names=[],
        hint=problem.hint,
        template=problem.template,
        backbone=problem.clip.backbone,
        weights_hash=problem.clip.weights_hash,
        hyper=asdict(hyper),
        seed=seed,
        selection=Selection("text"),
    )
    return FsnlAdapted(card, problem.clip, [])


def most_confident(assigned: Tensor, confidence: Tensor, names: int, count: int) -> Tensor:
    """Places of up to `count` images of each of the first `names` names, most confident first."""
    places = []
    for name in range(names):
        members = (assigned == name).nonzero().squeeze(1)
        places.append(
            members[confidence[members].sort(descending=True, stable=True).indices[:count]]
        )
    return torch.cat(places)


def _nearness(features: Tensor, assigned: Tensor, names: int) -> Tensor:
    """(U,) cosine with the mean of the images of one's own name, 0 where there is none."""
    inside = assigned != NONE
    sums = torch.zeros(names, features.shape[1]).index_add_(0, assigned[inside], features[inside])
    cosines = (features * normalize(sums, dim=-1)[assigned.clamp(min=0)]).sum(dim=1)
    return torch.where(inside, cosines.clamp(0, 1), 0.0)


def _task(
    problem: Problem,
    names: Sequence[str],
    chosen: Tensor,
    assigned: Tensor,
    features: Tensor,
) -> Task:
    """FSNL's task: these unlabelled images, labelled as they are assigned. No val."""
    rows, device = problem.unlabelled[chosen], problem.device
    tokens = problem.tokens[:, rows, :1].to(device)
    return Task(
        dataset=problem.dataset,
        names=list(names),
        hint=problem.hint,
        template=problem.template,
        train=Features(tokens, assigned[chosen].to(device)),
        val=None,
        imagined=_imagined(problem, names),
        clip=problem.clip,
        text=text_classifier(problem.clip, names, templates("hand", problem.template)),
    )


def _imagined(problem: Problem, names: Sequence[str]) -> Features | None:
    by_label = [
        (label, problem.imagined[n]) for label, n in enumerate(names) if n in problem.imagined
    ]
    if not by_label:
        return None
    labels = torch.cat([torch.full((len(images),), label) for label, images in by_label])
    tokens = torch.cat([images for _, images in by_label])[None, :, None]
    return Features(tokens.to(problem.device), labels.to(problem.device))
