"""`python -m jobs.bench synthesis`: captions and images by the embedded engines, as jobs."""

import dataclasses
import json
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from jsonargparse.typing import NonNegativeFloat, PositiveInt

from actors.embedded.concepts import load_concepts
from actors.embedded.sprite_factors import factor_table
from actors.synthesis.painters.painter import CaptionPainter, PainterConfig
from cluster.artifacts import Artifact, draft, open_artifact
from jobs.bench.process import Taken, run_module


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
        whole, part = _images(painted), _images(half)
        lost = _forget(whole.artifact, share=0.05)
        resumed = _images(painted)
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
    return _run("captions", storage, f"--factors={factors.uri}", f"--writer.per_class={per_class}")


def _images(captions: Artifact) -> _Run:
    storage = Path(captions.uri).parents[1]
    return _run("images", storage, f"--captions={captions.uri}", "--painter.pool.workers=1")


def _run(job: str, storage: Path, *arguments: str) -> _Run:
    taken = run_module(f"jobs.{job}", f"--storage={storage}", *arguments)
    made = json.loads(taken.stdout.splitlines()[-1])
    artifact = open_artifact(made["artifact"], made["kind"])
    return _Run(artifact, taken)


def _bare_seconds(captions: Artifact) -> float:
    """The engine on all captions, without Ray."""
    rows = captions.read_table("rows")
    paint = CaptionPainter(PainterConfig())
    paint(rows.slice(0, 8))
    started = time.monotonic()
    for start in range(0, len(rows), 32):
        paint(rows.slice(start, 32))
    return time.monotonic() - started


def _forget(images: Artifact, share: float) -> float:
    """Takes that share of the committed files back, as if the run had been killed before them."""
    folder = Path(images.uri)
    committed = sorted((folder / "rows.committed").glob("*.parquet"))
    for file in committed[: max(1, round(share * len(committed)))]:
        for rows in (folder / "rows").glob(f"{file.stem}*"):
            rows.unlink()
        file.unlink()
    (folder / "manifest.json").unlink()
    return max(1, round(share * len(committed))) / len(committed)
