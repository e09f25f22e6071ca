"""python -m jobs.discover --config jobs/recipes/embedded_discovery.yaml

Names for concepts without a single labelled image: unlabelled images are clustered, clusters get
names of a list of candidates, and the names are learned (ZSNL).
"""

import dataclasses
from functools import partial

from jsonargparse.typing import NonNegativeInt

from actors.discovery.discoverer import DiscoveryConfig
from actors.discovery.metrics import REFERENCES
from actors.discovery.work import SCHEMAS, Discovering, declared_works
from actors.embedded.concepts import DatasetName
from actors.search.cells import MethodConfig, require_methods
from actors.search.tasks import Tasks, task_source
from cluster.artifacts import Artifact, draft, open_artifact
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.job import run_job
from cluster.pieces import Pieces, make_pieces
from cluster.pool import Pool
from cluster.progress import already_done
from jobs.computing import precision_of, say_computing
from jobs.report.pages.discovery import discovery_page
from jobs.report.pages.render import PAGE
from jobs.report.sources import known_measures
from jobs.world import WorldConfig, with_world


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscoverConfig:
    """What is discovered, and what it is compared with."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    world: WorldConfig | None = unhashed(None)
    """Embedded datasets and a base set to make first, instead of the next two."""
    leave_out: list[DatasetName] = unhashed(default_factory=list)
    """Datasets of the world in which nothing is discovered."""
    datasets: list[str] = unhashed(default_factory=list)
    """Artifacts of kind "dataset": paths or URIs. Their training images are unlabelled, but for
    those that `labelled` of a discovery takes; of one without classes (`jobs.dataset --images`)
    nothing can be measured."""
    features: list[str] = unhashed(default_factory=list)
    """Artifacts of kind "features", one of each dataset, in any order."""
    discoveries: dict[str, DiscoveryConfig]
    """Ways to discover, by their name in result tables."""
    baselines: dict[str, MethodConfig] = dataclasses.field(default_factory=dict)
    """Methods of `jobs.search` to compare with, by their name; with `trials` 0."""
    seeds: list[NonNegativeInt] = dataclasses.field(default_factory=lambda: [0, 1, 2])
    """Each draws other labelled images, and other starts of everything that is random."""
    pool: Pool = unhashed(default_factory=Pool)
    """Discoverers; more than one CPU for each pays on large datasets."""

    def __post_init__(self) -> None:
        require_methods("baselines", self.baselines)
        for name, method in self.baselines.items():
            if method.trials or method.teacher:
                raise ConfigError(
                    f"baselines.{name}: trials or a teacher; allowed: a method without them"
                )
        if not self.discoveries or not self.seeds:
            raise ConfigError("discoveries: one way and one of seeds at least are needed")
        for name in (*self.baselines, *REFERENCES):
            if name in self.discoveries or (name in REFERENCES and name in self.baselines):
                raise ConfigError(
                    f"discoveries: {name!r} names two lines of the tables; allowed: a name for "
                    f"each, none of {', '.join(REFERENCES)}"
                )


def discover_all(cfg: DiscoverConfig) -> Artifact:
    """Writes a "discovery" artifact: tables `clusters`, `assignments` and `metrics` (see
    `actors.discovery.metrics`), and models/CELL/ as `jobs.predict` takes them, and the page
    report.html."""
    cfg = with_world(cfg)
    datasets, features = (
        [uri for uri in uris if open_artifact(uri, kind).manifest.name not in cfg.leave_out]
        for kind, uris in (("dataset", cfg.datasets), ("features", cfg.features))
    )
    source = task_source(datasets, features, val_policy="full", templates="hand")
    tasks = Tasks(source)
    works = declared_works(tasks, cfg.discoveries, cfg.baselines, cfg.seeds)
    inputs = {f"features {name}": e.store.artifact for name, e in tasks.encoded.items()}
    content = {
        "names": {w.discovery.name: w.discovery.names for w in works if w.discovery},
        "measures": list(known_measures()),
    }
    out = draft(cfg.storage, "discovery", "discovery", config=cfg, inputs=inputs, content=content)
    if out.artifact:
        already_done("discover", out.artifact)
        return out.artifact
    pieces = Pieces(out, SCHEMAS)
    load = partial(Discovering, source, out, cfg.pool.device)
    precisions = {precision_of(work.baseline and work.baseline.hyper) for work in works}
    say_computing("discover", precisions, cfg.pool)
    make_pieces(pieces, works, load, cfg.pool, title="discover", unit="cells")
    rows = pieces.gather(sorted(work.key for work in works))
    out.write_bytes(PAGE, discovery_page(out, tasks.encoded).encode())
    return out.publish(rows)


if __name__ == "__main__":
    run_job(DiscoverConfig, discover_all)
