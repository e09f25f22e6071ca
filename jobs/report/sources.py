"""What a report reads from artifacts: result rows, protocol, curves, settings, refusals."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from actors.pretraining.state import METRICS
from cluster.artifacts import Artifact
from cluster.storage import read
from jobs.report.statistics.scores import Row
from models.methods.adapted import CARD

VAL_POLICIES = {
    "none": "no validation images",
    "min": "min(shots, 4) validation images per class",
    "full": "all validation images",
}


def result_rows(results: Artifact) -> list[Row]:
    """All rows of a "results" artifact."""
    return [Row(**row) for row in results.read_table("rows", list(Row._fields)).to_pylist()]


@dataclass(frozen=True)
class Protocol:
    """How the results were come by, as their own rows say."""

    shots: list[int]
    """More than 0."""
    seeds: list[int]
    val_policies: list[str]
    """In words."""
    backbones: list[str]
    template_sets: list[str]
    config_hashes: list[str]
    test_images: dict[str, int]
    """Largest number of test images per dataset over the label spaces."""


def protocol(results: Artifact) -> Protocol:
    """Distinct settings over all rows of a "results" artifact."""
    table = results.read_table("rows")

    def distinct(column: str) -> list[Any]:
        return sorted(set(table[column].to_pylist()))

    sizes: dict[str, int] = {}
    for dataset, images in zip(*(table[c].to_pylist() for c in ("dataset", "images")), strict=True):
        sizes[dataset] = max(images, sizes.get(dataset, 0))
    return Protocol(
        shots=[shots for shots in distinct("shots") if shots],
        seeds=distinct("seed"),
        val_policies=[VAL_POLICIES[policy] for policy in distinct("val_policy")],
        backbones=distinct("backbone"),
        template_sets=distinct("template_set"),
        config_hashes=distinct("config_hash"),
        test_images=sizes,
    )


def versions(artifacts: Iterable[Artifact]) -> dict[str, str]:
    """Library to its version; all of them where artifacts were made with several."""
    found: dict[str, set[str]] = defaultdict(set)
    for artifact in artifacts:
        for library, number in artifact.manifest.versions.items():
            found[library].add(number)
    return {library: " / ".join(sorted(found[library])) for library in sorted(found)}


def pretraining_metrics(teacher: Artifact) -> list[dict[str, float]]:
    """The rows of metrics.jsonl."""
    fs, path = teacher.filesystem()
    return [json.loads(line) for line in read(fs, f"{path}/{METRICS}").decode().splitlines()]


@dataclass(frozen=True)
class Fitted:
    """One fitted model: what was chosen for it, and by which validation accuracy."""

    cell: str
    dataset: str
    method: str
    """As result tables show it."""
    shots: int
    seed: int
    hyper: dict[str, Any]
    val_accuracy: float | None
    head: str
    fusion_weight: float
    curve: list[tuple[float, float]]
    """(fusion weight, val accuracy); empty for a method with one head."""


def fitted(adapted: Artifact) -> list[Fitted]:
    """Every model of an "adapted" artifact, in the order of its table `fits`."""
    fits = adapted.read_table("fits").to_pylist()
    cards = [adapted.read_json(f"models/{fit['cell']}/{fit['seed']}/{CARD}") for fit in fits]
    return [
        Fitted(
            cell=fit["cell"],
            dataset=fit["dataset"],
            method=fit["name"],
            shots=fit["shots"],
            seed=fit["seed"],
            hyper=json.loads(fit["hyper"]),
            val_accuracy=fit["val_accuracy"],
            head=card["selection"]["head"],
            fusion_weight=card["selection"]["fusion_weight"],
            curve=[(weight, accuracy) for weight, accuracy in card["selection"]["curve"]],
        )
        for fit, card in zip(fits, cards, strict=True)
    ]


@dataclass(frozen=True)
class Refused:
    """Rows that were left out for one reason."""

    where: str
    reason: str
    count: int


def refusals(artifacts: Iterable[Artifact]) -> list[Refused]:
    """Refused rows by reason, most frequent first, of artifacts of kinds images, curation, dataset,
    features and adapted (its failed trials)."""
    found: Counter[tuple[str, str]] = Counter()
    for artifact in artifacts:
        where = f"{artifact.manifest.kind} {artifact.manifest.name}"
        found.update((where, reason) for reason in _reasons(artifact))
    return [Refused(*key, count) for key, count in found.most_common()]


def _reasons(artifact: Artifact) -> list[str]:
    table, column = {
        "images": ("rows", "reason"),
        "curation": ("decisions", "reason"),
        "dataset": ("rejected", "reason"),
        "features": ("rejected", "reason"),
        "adapted": ("trials", "error"),
    }[artifact.manifest.kind]
    if not _has(artifact, table):
        return []
    return [reason for reason in artifact.read_table(table, [column])[column].to_pylist() if reason]


def _has(artifact: Artifact, table: str) -> bool:
    """An artifact without refusals may have no table of them."""
    try:
        artifact.open_table(table)
    except FileNotFoundError:
        return False
    return True
