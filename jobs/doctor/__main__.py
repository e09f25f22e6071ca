"""python -m jobs.doctor --storage runs --root /data/coop --backbone ViT-B-16/laion400m_e32

Looks at what the jobs will need before anything is spent: one line each, ok, warn or fail. The exit
code is 1 if a line says fail, else 0. No Ray is started; a cluster is asked if RAY_ADDRESS is set.
"""

import dataclasses
import sys
from collections.abc import Iterator

from jsonargparse import auto_cli

from cluster.catalog.benchmarks import BENCHMARKS
from cluster.catalog.layouts import is_there
from cluster.job import OneLineParser
from jobs.doctor import findings as health
from jobs.doctor.findings import Finding
from jobs.doctor.towers import towers


@dataclasses.dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """What is looked at."""

    storage: str = "runs"
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    backbone: str = "tiny"
    """CLIP: "tiny", "ARCH/TAG" of open_clip, or "ARCH:FILE" with a local file."""
    root: str | None = None
    """Local folder under which the benchmark sets lie; none: no dataset is looked at."""
    datasets: list[str] | None = None
    """Benchmark sets that must be there; default: those that are."""
    oop_split: str | None = None
    """Of a domain of LAION-Beyond that is there more than once: the split file of its OOP classes,
    relative to `root`."""
    ip_split: str | None = None
    """The split file of its IP classes."""
    all_images: bool = False
    """Whether every image is looked at, not a sample."""
    artifact: list[str] | None = None
    """Artifacts whose files are read, and compared with the hashes in their manifests."""
    launcher: str | None = None
    """A launcher file such as ray_cluster.yaml, in which no FILL-IN must be left."""


def examine(cfg: DoctorConfig) -> Iterator[Finding]:
    """All findings, the cheap ones first."""
    yield from health.versions()
    yield from health.engines()
    if cfg.launcher is not None:
        yield from health.launcher(cfg.launcher)
    yield health.gpus()
    yield health.storage(cfg.storage)
    yield from health.ray_cluster()
    yield towers(cfg.backbone)
    yield health.weights(cfg.backbone)
    yield from _datasets(cfg)
    yield from map(health.artifact, cfg.artifact or [])


def _datasets(cfg: DoctorConfig) -> Iterator[Finding]:
    if cfg.root is None:
        if cfg.datasets:
            yield Finding("fail", "datasets", "root: none; allowed: the folder that they lie under")
        return
    names = cfg.datasets
    if names is None:
        names = [name for name in BENCHMARKS if is_there(name, cfg.root)]
        if not names:
            yield Finding("fail", "root", f"{cfg.root!r} has no benchmark set")
    splits = {"OOP": cfg.oop_split, "IP": cfg.ip_split}
    for name in names:
        if name not in BENCHMARKS:
            allowed = ", ".join(BENCHMARKS)
            yield Finding("fail", "datasets", f"{name!r} is unknown; allowed: {allowed}")
        else:
            yield health.benchmark(name, cfg.root, splits, cfg.all_images)


def doctor(cfg: DoctorConfig) -> int:
    """Prints a line per finding; the exit code."""
    failed = False
    for finding in examine(cfg):
        failed |= finding.verdict == "fail"
        print(f"{finding.verdict:4}  {finding.what}: {' '.join(finding.words.split())}", flush=True)
    return int(failed)


def main() -> None:
    """Ends the process with the doctor's exit code; 2, after one line, for a bad setting."""
    sys.exit(doctor(auto_cli(DoctorConfig, as_positional=False, parser_class=OneLineParser)))


if __name__ == "__main__":
    main()
