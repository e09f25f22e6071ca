"""`python -m jobs.bench search`: the original's search and this one, on the same cell.

Also how the cost of a trial changes with trials and cells, and what scheduling takes.
"""

import dataclasses
import json
import random
import tempfile
from pathlib import Path
from typing import Any, Literal

from jsonargparse.typing import PositiveFloat, PositiveInt

from actors.embedded.concepts import DatasetName
from actors.features.encoder import EncoderConfig
from actors.features.store import FeatureStore
from actors.search.cells import MethodConfig
from actors.search.spaces import Range
from actors.search.tasks import Tasks, task_source
from actors.synthesis.captions.writer import WriterConfig
from cluster.artifacts import Artifact, open_artifact
from cluster.connect import connect
from cluster.content import plain
from cluster.storage import require_writable, resolve
from jobs.bench.process import Taken, run_module
from jobs.bench.search.growth import growing, overhead
from jobs.bench.search.samplers import sampling
from jobs.bench.search.sizes import at_sizes
from jobs.dataset import DatasetConfig, dataset
from jobs.factors import FactorsConfig, factors
from jobs.synthesize import SynthesizeConfig, synthesize
from models.moment_adapter import AdapterConfig

ADAPTER = AdapterConfig(depth=2, inner=96, heads=3)
"""The adapter of both searches, which starts at random."""
PATIENCE = 2
"""Epoch budgets without a better validation accuracy that end a learning rate's chain."""
METHOD = MethodConfig(
    method="imaginefsl",
    shots=[],
    hyper={
        "adapter": plain(ADAPTER), "steps": 20, "adapter_lr": 3e-5, "head_lr_factor": 1.0,
        "batch_real": 32, "batch_imagined": 16,
    },
    space={
        "head_lr": Range(low=1e-3, high=6e-3, log=True),
        "adapter_lr": Range(low=1e-5, high=3e-4, log=True),
        "real_weight": Range(low=0.8, high=0.99),
    },
)  # fmt: skip
"""What this search searches; the values of jobs/recipes/demo.yaml."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchBench:
    """The search: against the original's procedure, as trials and cells grow, its overhead."""

    part: Literal["procedure", "b16", "growth", "overhead", "sampler"] = "procedure"
    """procedure: the original's search of one cell, then this one, with the tiny CLIP. b16: both at
    ViT-B/16's sizes, from the measured costs of single steps. growth: seconds per trial from 1
    trial to many, from 1 cell to 55. overhead: worker time that no fit takes. sampler: samplers
    against random search, simulated on stored fits."""
    storage: str = "runs/bench"
    """Where dataset and imagined images are made, once; that is not measured."""
    name: DatasetName = "animals"
    """Embedded dataset of the cell."""
    shots: PositiveInt = 4
    """Training images per class of the cell."""
    captions_per_class: PositiveInt = 12
    """Of the imagined images, four to a caption. An epoch is a pass over them."""
    learning_rates: list[PositiveFloat] = dataclasses.field(
        default_factory=lambda: [1e-6, 1e-5, 1e-4, 1e-3]
    )
    """The original's grid."""
    epochs: list[PositiveInt] = dataclasses.field(
        default_factory=lambda: [10, 20, 30, 40, 50, 60, 70, 80]
    )
    """The original's budgets, tried for each learning rate in this order, each from the start."""
    chains: PositiveInt = 1
    """Learning rates whose chain is run, drawn at random where there are more; what they take is
    then scaled up to all, and the best validation accuracy is theirs alone."""
    trials: PositiveInt = 16
    """Of this search, for that cell."""
    trial_counts: list[PositiveInt] = dataclasses.field(default_factory=lambda: [1, 10, 100, 1000])
    """Of growth: trials of one cell."""
    cell_counts: list[PositiveInt] = dataclasses.field(default_factory=lambda: [1, 5, 55])
    """Of growth: cells, each with four trials."""
    workers: PositiveInt = 2
    """Processes of this search."""
    datasets: list[str] = dataclasses.field(default_factory=list)
    """Of sampler: artifacts of kind "dataset", each a cell."""
    features: list[str] = dataclasses.field(default_factory=list)
    """Of sampler: artifacts of kind "features", one of each dataset, with imagined images."""
    fits: PositiveInt = 256
    """Of sampler: configurations of a cell that are fitted and stored."""
    seeds: PositiveInt = 200
    """Of sampler: simulated searches of a cell, for the samplers that are quick."""


def searching(cfg: SearchBench) -> dict[str, float]:
    """Measures what `part` says. Ratios are of one run on one machine."""
    if cfg.part == "b16":
        return at_sizes()
    require_writable(resolve(cfg.storage), cfg.storage)
    if cfg.part == "sampler":
        source = task_source(cfg.datasets, cfg.features, val_policy="min", templates="hand")
        return sampling(Tasks(source), cfg.fits, cfg.seeds, cfg.storage)
    with connect():
        target, base_set = _data(cfg)
        if cfg.part == "growth":
            return growing(target, base_set, cfg.trial_counts, cfg.cell_counts, cfg.workers)
        if cfg.part == "overhead":
            return overhead(target, base_set, _method(cfg), cfg.workers)
    return _procedure(cfg, target, base_set)


def _data(cfg: SearchBench) -> tuple[Artifact, Artifact]:
    """A dataset and imagined images of its classes; Ray is running."""
    target = dataset(DatasetConfig(storage=cfg.storage, name=cfg.name))
    classes = factors(FactorsConfig(storage=cfg.storage, datasets=[target.uri]))
    writer = WriterConfig(per_class=cfg.captions_per_class)
    imagined = SynthesizeConfig(storage=cfg.storage, factors=classes.uri, writer=writer)
    return target, synthesize(imagined)


def _method(cfg: SearchBench) -> MethodConfig:
    return dataclasses.replace(METHOD, shots=[cfg.shots], trials=cfg.trials)


def _procedure(cfg: SearchBench, target: Artifact, base_set: Artifact) -> dict[str, float]:
    """Both searches of one cell on the same images, shots and validation images.

    `original_…`: one process per (learning rate, epoch budget), one after the other, all cores
    each. `search_…`: jobs.encode, then jobs.search, Ray's starts included. Forwards are images
    through the backbone; memory is the proportional set size of all processes at its largest.
    """
    original = _original(cfg, target, base_set)
    ours = _ours(cfg, target, base_set)
    return {
        **{f"original_{name}": value for name, value in original.items()},
        **{f"search_{name}": value for name, value in ours.items()},
        **{f"ratio_{n}": original[n] / ours[n] for n in ("seconds", "cpu_seconds", "forwards")},
    }


def _original(cfg: SearchBench, target: Artifact, base_set: Artifact) -> dict[str, float]:
    rates = cfg.learning_rates
    drawn = sorted(random.Random(0).sample(rates, min(cfg.chains, len(rates))))
    runs = [run for lr in drawn for run in _chain(cfg, target, base_set, lr)]
    scale = len(rates) / len(drawn)
    return {
        "share_run": 1 / scale,
        "processes": scale * len(runs),
        "seconds": scale * sum(taken.seconds for taken, _ in runs),
        "train_seconds": scale * sum(result["train_seconds"] for _, result in runs),
        "val_seconds": scale * sum(result["val_seconds"] for _, result in runs),
        "cpu_seconds": scale * sum(taken.cpu_seconds for taken, _ in runs),
        "forwards": scale * sum(result["forwards"] for _, result in runs),
        "peak_mb": max(taken.peak_bytes for taken, _ in runs) / 1e6,
        "val_accuracy": max(result["val_accuracy"] for _, result in runs),
    }


def _chain(
    cfg: SearchBench, target: Artifact, base_set: Artifact, lr: float
) -> list[tuple[Taken, dict[str, float]]]:
    """Trainings of one learning rate, each longer and from the start, until patience ends."""
    runs: list[tuple[Taken, dict[str, float]]] = []
    best, waited = -1.0, 0
    for epochs in cfg.epochs:
        taken = run_module(
            "jobs.bench.search.original",
            f"--dataset={target.uri}",
            f"--base_set={base_set.uri}",
            f"--shots={cfg.shots}",
            f"--lr={lr}",
            f"--epochs={epochs}",
            f"--adapter={json.dumps(plain(ADAPTER))}",
        )
        runs.append((taken, json.loads(taken.stdout)))
        accuracy = runs[-1][1]["val_accuracy"]
        waited = 0 if accuracy > best else waited + 1
        best = max(best, accuracy)
        if waited == PATIENCE:
            break
    return runs


def _ours(cfg: SearchBench, target: Artifact, base_set: Artifact) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        encoded = run_module(
            "jobs.encode",
            f"--storage={folder}",
            f"--datasets=[{target.uri}]",
            f"--base_set={base_set.uri}",
            f"--encoder={json.dumps(plain(EncoderConfig()))}",
            f"--pool.workers={cfg.workers}",
        )
        features = FeatureStore(json.loads(encoded.stdout)["artifact"])
        settings: dict[str, Any] = {
            "storage": folder,
            "datasets": [target.uri],
            "features": [features.artifact.uri],
            "methods": {"imaginefsl": plain(_method(cfg))},
            "seeds": [0],
            "pool": {"workers": cfg.workers},
        }
        config = Path(folder, "search.json")
        config.write_text(json.dumps(settings))
        searched = run_module("jobs.search", f"--config={config}")
        adapted = open_artifact(json.loads(searched.stdout)["artifact"], "adapted")
        trials = adapted.read_table("trials", ["val_accuracy", "state"]).to_pylist()
        of_splits = [features.features(split) for split in features.index]
        forwards = sum(of_split.view_count * len(of_split) for of_split in of_splits)
    return {
        "seconds": encoded.seconds + searched.seconds,
        "encode_seconds": encoded.seconds,
        "cpu_seconds": encoded.cpu_seconds + searched.cpu_seconds,
        "forwards": forwards,
        "peak_mb": max(encoded.peak_bytes, searched.peak_bytes) / 1e6,
        "val_accuracy": max(t["val_accuracy"] for t in trials if t["state"] == "complete"),
        "trials": len(trials),
    }
