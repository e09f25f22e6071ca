"""python -m jobs.report --storage runs --results runs/results/… --adapted runs/adapted/…

One page that opens from disk, with what was run and what was measured; its figures and tables.
"""

import dataclasses
import io
from pathlib import Path
from typing import Any

import pyarrow.csv
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jsonargparse.typing import NonNegativeInt, PositiveInt

from actors.pictures.base_set import open_base_set_rows
from cluster.artifacts import Artifact, Draft, draft, open_artifact
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.progress import already_done, show_progress
from jobs.report.figures.axes import shown_width
from jobs.report.pages.gallery import data_uri, gallery
from jobs.report.pages.results import Comparison, Report
from jobs.report.tables import closing_table as closing_table

PAGE = "report.html"
TEMPLATES = Path(__file__).parent / "templates"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """What is reported, and where the page goes."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    results: str = unhashed()
    """Artifact of kind "results": a path or URI."""
    adapted: str = unhashed()
    """Artifact of kind "adapted", whose models the results are of."""
    teacher: str | None = unhashed(None)
    """Artifact of kind "teacher", for its pretraining curves."""
    base_set: str | None = unhashed(None)
    """Artifact of kind "images", for the gallery and its refused rows."""
    curation: str | None = unhashed(None)
    """Artifact of kind "curation" of that base set, for what it keeps and refuses."""
    datasets: list[str] = unhashed(default_factory=list)
    """Artifacts of kind "dataset", for their refused images, and for the test images that the
    curation compared."""
    features: list[str] = unhashed(default_factory=list)
    """Artifacts of kind "features", for their refused images."""
    compare: str | None = "imaginefsl"
    """Method whose difference from `against` is shown, seed by seed; none leaves it out."""
    against: str = "imaginefsl-scratch"
    """Method that `compare` is compared with."""
    captions: PositiveInt = 12
    """Captions in the gallery."""
    gallery_seed: NonNegativeInt = 0
    """Draws these captions."""


def report(cfg: ReportConfig) -> Artifact:
    """Writes report.html, figures/*.png, every table as Parquet and as tables/*.csv, and those of
    results as tables/*.md."""
    found = _opened(cfg)
    out = draft(cfg.storage, "report", "report", config=cfg, inputs=found.artifacts)
    if out.artifact:
        already_done("report", out.artifact)
        return out.artifact
    with show_progress("report", 3, "parts") as progress:
        figures = found.figures()
        for name, png in figures.items():
            out.write_bytes(f"figures/{name}.png", png)
        progress.advance()
        rows = _write_tables(out, found)
        progress.advance()
        base_set = found.others.get("base_set")
        imagined = gallery(base_set, cfg.captions, cfg.gallery_seed) if base_set else []
        pictures = {name: (data_uri(png), shown_width(png)) for name, png in figures.items()}
        html = render(found.facts() | {"gallery": imagined, "figures": pictures})
        out.write_bytes(PAGE, html.encode())
        progress.advance()
    return out.publish(rows, seeds={"gallery": cfg.gallery_seed})


def render(facts: dict[str, Any], template: str = "report.html.j2") -> str:
    """The page. Names and captions are outside data, so everything is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(facts)


def _opened(cfg: ReportConfig) -> Report:
    others = {"teacher": open_artifact(cfg.teacher, "teacher")} if cfg.teacher else {}
    if cfg.base_set:
        others |= open_base_set_rows(cfg.base_set, cfg.curation).inputs
    elif cfg.curation:
        raise ConfigError(f"curation: {cfg.curation!r}; allowed: none without base_set")
    for kind, uris in (("dataset", cfg.datasets), ("features", cfg.features)):
        for artifact in (open_artifact(uri, kind) for uri in uris):
            others[f"{kind} {artifact.manifest.name}"] = artifact
    return Report(
        open_artifact(cfg.results, "results"),
        open_artifact(cfg.adapted, "adapted"),
        others,
        Comparison(cfg.compare, cfg.against) if cfg.compare else None,
    )


def _write_tables(out: Draft, found: Report) -> dict[str, int]:
    tables = found.tables()
    for name, table in tables.items():
        out.write_table(name, table)
        pyarrow.csv.write_csv(table, buffer := io.BytesIO())
        out.write_bytes(f"tables/{name}.csv", buffer.getvalue())
    for name, text in found.markdown().items():
        out.write_bytes(f"tables/{name}.md", text.encode())
    return {name: len(table) for name, table in tables.items()}
