"""`python -m jobs.bench synthesis`: captions and images by the embedded engines, as jobs."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from jsonargparse.typing import NonNegativeFloat, PositiveInt

from actors.embedded.concepts import load_concepts
from actors.embedded.sprite_factors import factor_table
from actors.synthesis.painters.painter import CaptionPainter, PainterConfig
from cluster.artifacts import WORK, Artifact, draft, open_artifact
from jobs.bench.process import Taken, run_module

JOB = "jobs.synthesize"
LOST = 0.05
"""Share of the pictures, about, that a killed run has not committed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SynthesisBench:
    """Captions and images with the embedded engines: what Ray Data costs, a resume, memory."""

    captions: PositiveInt = 1500
    """Captions that are painted, four pictures each."""
    few_captions: PositiveInt = 1000
    """The smaller number of captions whose memory is measured."""
    many_captions: PositiveInt = 100_000
    """The larger one."""
    price: NonNegativeFloat = 0.0
    """Of this machine or node, per hour; for the cost of a million images."""


def synthesis(cfg: SynthesisBench) -> dict[str, float]:
    """Ratios of one run; memory is proportional set size, the sum over all processes of a job."""
    with tempfile.TemporaryDirectory() as folder:
        few = _captions(Path(folder, "few"), cfg.few_captions)
        many = _captions(Path(folder, "many"), cfg.many_captions)
        painted = _captions(Path(folder, "painted"), cfg.captions).artifact
        half = _captions(Path(folder, "half"), cfg.captions // 2).artifact
        bare = _bare_seconds(painted) - _bare_seconds(half)
        whole, part = _images(Path(folder, "whole"), painted), _images(Path(folder, "part"), half)
        lost = _kill_images(Path(folder, "killed"), painted)
        resumed = _images(Path(folder, "killed"), painted)
    rate = 4 * (cfg.captions - cfg.captions // 2) / (whole.taken.seconds - part.taken.seconds)
    return {
        "images_per_second": rate,
        "pipeline_over_bare_engine": (whole.taken.seconds - part.taken.seconds) / bare,
        "share_lost": lost,
        "resume_over_whole_run": resumed.taken.seconds / whole.taken.seconds,
        "start_over_whole_run": (2 * part.taken.seconds - whole.taken.seconds)
        / whole.taken.seconds,
        "few_captions_mb": few.taken.peak_bytes / 1e6,
        "many_captions_mb": many.taken.peak_bytes / 1e6,
        "memory_many_over_few": many.taken.peak_bytes / few.taken.peak_bytes,
        "driver_many_over_few": many.taken.first_bytes / few.taken.first_bytes,
        "captions_per_second": cfg.many_captions / many.taken.seconds,
        "price_per_million_images": 1e6 / rate / 3600 * cfg.price,
    }


@dataclasses.dataclass(frozen=True)
class _Run:
    """What a job made, and what it took."""

    artifact: Artifact
    taken: Taken


def _captions(storage: Path, captions: int) -> _Run:
    """Captions of 20 to 200 per class, of as many embedded classes as that needs."""
    names = [concept.name for concept in load_concepts()]
    per_class = min(200, max(20, captions // len(names)))
    classes = captions // per_class
    table = factor_table()
    lists = ("attributes", "backgrounds", "viewpoints", "lightings", "degradations")
    rows = [
        {"dataset": "bench", "class_name": names[i % len(names)], "label": i, "group": "IP"}
        | {"hint": "thing", **{name: list(table[name]) for name in lists}}
        for i in range(classes)
    ]
    out = draft(str(storage), "factors", "bench", content={}, config={}, inputs={})
    out.write_table("classes", pa.Table.from_pylist(rows))
    factors = out.publish({"classes": classes})
    arguments = (f"--factors={factors.uri}", f"--writer.per_class={per_class}", "--painter=null")
    return _run(storage, *arguments)


def _images(storage: Path, captions: Artifact) -> _Run:
    return _run(storage, *_painting(captions))


def _painting(captions: Artifact) -> tuple[str, ...]:
    return f"--captions={captions.uri}", "--painter.pool.workers=1"


def _kill_images(storage: Path, captions: Artifact) -> float:
    """Runs the job until LOST or less of its pictures are missing, kills all its processes, and
    returns the share that was not committed."""
    total = captions.manifest.rows["rows"] * PainterConfig().views
    command = [sys.executable, "-m", JOB, f"--storage={storage}", *_painting(captions)]
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while _committed(storage) < (1 - LOST) * total:
        if job.poll() is not None:
            raise RuntimeError(f"{JOB} ended with exit code {job.returncode}, too early to kill it")
        time.sleep(0.2)
    root = psutil.Process(job.pid)
    processes = [root, *root.children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes)
    return 1 - _committed(storage) / total


def _committed(storage: Path) -> int:
    """Pictures of a run that is under way, or was killed."""
    files = storage.glob(f"images/*/{WORK}/rows.committed/*.parquet")
    return sum(pq.read_metadata(file).num_rows for file in files if "pending" not in file.name)


def _run(storage: Path, *arguments: str) -> _Run:
    taken = run_module(JOB, f"--storage={storage}", *arguments)
    line = json.loads(taken.stdout.splitlines()[-1])
    artifact = open_artifact(line["artifact"], line["kind"])
    return _Run(artifact, taken)


def _bare_seconds(captions: Artifact) -> float:
    """The engine on all captions, without Ray."""
    rows = captions.read_table("rows")
    painter = PainterConfig()
    paint = CaptionPainter(painter.engine, painter.views)
    paint(rows.slice(0, 8))
    started = time.monotonic()
    for start in range(0, len(rows), painter.engine.captions_at_once):
        paint(rows.slice(start, painter.engine.captions_at_once))
    return time.monotonic() - started
