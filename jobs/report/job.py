"""python -m jobs.report --storage runs --results runs/results/… --adapted runs/adapted/…

One page that opens from disk, with what was run and what was measured; its figures and tables.
"""

import dataclasses

from jsonargparse.typing import NonNegativeInt, PositiveInt

from actors.pictures.base_set import open_base_set_rows
from cluster.artifacts import Artifact, draft, open_artifact
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.progress import already_done, show_progress
from jobs.report.pages.render import PAGE as PAGE
from jobs.report.pages.results import Comparison, ResultsPage


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """What is reported, and where the page goes."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    results: str = unhashed()
    """Artifact of kind "results": a path or URI."""
    adapted: str | None = unhashed(None)
    """Artifact of kind "adapted", whose models the results are of, for its search; none for results
    of saved models."""
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

    def __post_init__(self) -> None:
        if self.compare is not None and self.compare == self.against:
            raise ConfigError(
                f"against: {self.against!r} is also compare; allowed: another method of the results"
            )


def report(cfg: ReportConfig) -> Artifact:
    """Writes report.html, figures/*.png and all tables: Parquet, CSV; of results also Markdown.

    Raises ConfigError if a setting or an artifact does not fit.
    """
    page = _page(cfg)
    out = draft(cfg.storage, "report", "report", config=cfg, inputs=page.artifacts)
    if out.artifact:
        already_done("report", out.artifact)
        return out.artifact
    with show_progress("report", 3, "parts") as progress:
        for name, png in page.figures.items():
            out.write_bytes(f"figures/{name}.png", png)
        progress.advance()
        tables = page.tables()
        for name, table in tables.items():
            out.write_table(name, table.arrow())
            out.write_bytes(f"tables/{name}.csv", table.csv().encode())
        for name, table in page.shown_tables().items():
            out.write_bytes(f"tables/{name}.md", table.markdown().encode())
        progress.advance()
        out.write_bytes(PAGE, page.html(cfg.captions, cfg.gallery_seed).encode())
        progress.advance()
    rows = {name: len(table.lines) for name, table in tables.items()}
    return out.publish(rows, seeds={"gallery": cfg.gallery_seed})


def _page(cfg: ReportConfig) -> ResultsPage:
    """All artifacts, open."""
    others = {"teacher": open_artifact(cfg.teacher, "teacher")} if cfg.teacher else {}
    if cfg.base_set:
        others |= open_base_set_rows(cfg.base_set, cfg.curation).inputs
    elif cfg.curation:
        raise ConfigError(f"curation: {cfg.curation!r}; allowed: none without base_set")
    for kind, uris in (("dataset", cfg.datasets), ("features", cfg.features)):
        for artifact in (open_artifact(uri, kind) for uri in uris):
            others[f"{kind} {artifact.manifest.name}"] = artifact
    return ResultsPage(
        open_artifact(cfg.results, "results"),
        open_artifact(cfg.adapted, "adapted") if cfg.adapted else None,
        others,
        Comparison(cfg.compare, cfg.against) if cfg.compare else None,
    )
