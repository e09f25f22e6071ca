"""python -m jobs.search --config jobs/recipes/embedded_search.yaml
python -m jobs.search --config search.yaml --storage runs --datasets '[…]' --features '[…]'

Every method on every dataset with every number of shots: hyper-parameters are searched on val, and
the best are fitted on several seeds.
"""

import dataclasses

from jsonargparse.typing import NonNegativeInt, PositiveInt

from actors.search.cells import MethodConfig, require_methods
from actors.search.databases import require_answer, require_studies, shown
from actors.search.fits import MODELS, fitted_seeds
from actors.search.progress import progress_table
from actors.search.runnable import runnable_cells
from actors.search.runs import run_studies
from actors.search.studies import CellStudy, open_studies
from actors.search.tables import fits_table, trials_table
from actors.search.tasks import Tasks, task_source
from cluster.artifacts import Artifact, draft, open_artifact
from cluster.catalog.splits import ShotRule, ValPolicy
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.job import run_job
from cluster.pool import Pool
from cluster.progress import already_done
from jobs.computing import precision_of, say_computing
from jobs.world import WorldConfig, with_world
from models.text_classifier import TemplateSet


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Which cells are searched, and how."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    world: WorldConfig | None = unhashed(None)
    """Embedded datasets and a base set to make first, instead of the next four."""
    datasets: list[str] = unhashed(default_factory=list)
    """Artifacts of kind "dataset": paths or URIs."""
    features: list[str] = unhashed(default_factory=list)
    """Artifacts of kind "features", one of each dataset, in any order."""
    teacher: str | None = unhashed(None)
    """Artifact of kind "teacher", for the methods that start from one."""
    base_set: str | None = unhashed(None)
    """Artifact of kind "images" that the features hold imagined images of, for the methods that
    learn on pictures."""
    methods: dict[str, MethodConfig]
    """The lines of the result table by their name. What hyper-parameters a method has is told to
    who gives an unknown one."""
    seeds: list[NonNegativeInt] = dataclasses.field(default_factory=lambda: [0, 1, 2])
    """Each draws other shots for the final fits; the first one's are searched on."""
    val_policy: ValPolicy = "min"
    """Validation images per class that choices are made on: none, min(shots, 4), or all."""
    shot_rule: ShotRule = "hash"
    """How shots are drawn: the project's own way, as CoOp does (with its seeds 1 to 3 its very
    images, given its split files), or from lists that a dataset came with."""
    templates: TemplateSet = "hand"
    """Prompts of the zero-shot classifier, which other methods start from."""
    generation: PositiveInt = 4
    """Trials of a cell that are tried side by side; they know those of earlier generations."""
    population: PositiveInt | None = unhashed(None)
    """Trials of a generation that one process trains together, where the method can; default: all.
    Fewer of them spread a cell over more CPUs or GPUs, which pays where one trial fills one."""
    studies: str | None = unhashed(None)
    """Optuna's database URL, or a local file for a journal; default: a file in the artifact."""
    pool: Pool = unhashed(default_factory=Pool)
    """Processes, each of which trains a population at a time."""

    def __post_init__(self) -> None:
        require_methods("methods", self.methods, self.val_policy)
        for name, method in self.methods.items():
            if method.teacher and not (self.teacher or self.world):
                raise ConfigError(
                    f"teacher: none, but methods.{name}.teacher is true; allowed: a teacher "
                    "artifact"
                )
        require_studies(self.studies, self.storage)


def search(cfg: SearchConfig) -> Artifact:
    """Writes an "adapted" artifact: models, and the tables `fits`, `trials` and `progress`.

    The model of a cell and seed lies in models/{cell}/{seed}, where it is whole or is not. A search
    that was killed goes on: its trials are Optuna's. Without `studies` Optuna's journal stays in
    the artifact, for its dashboards.
    """
    require_answer(cfg.studies)
    cfg = with_world(cfg)
    source = task_source(
        cfg.datasets,
        cfg.features,
        val_policy=cfg.val_policy,
        templates=cfg.templates,
        teacher=cfg.teacher,
        shot_rule=cfg.shot_rule,
        base_set=cfg.base_set,
    )
    tasks = Tasks(source)
    cells = runnable_cells(tasks, cfg.methods, cfg.seeds)
    inputs = {f"features {name}": e.store.artifact for name, e in tasks.encoded.items()}
    if cfg.teacher:
        inputs["teacher"] = open_artifact(cfg.teacher, "teacher")
    population = min(cfg.population or cfg.generation, cfg.generation)
    content = {"population": population}
    told = dataclasses.replace(cfg, studies=shown(cfg.studies))
    out = draft(cfg.storage, "adapted", "search", config=told, inputs=inputs, content=content)
    if out.artifact:
        already_done("search", out.artifact)
        return out.artifact
    say_computing("search", {precision_of(c.hyper) for c in cells}, cfg.pool)
    url = cfg.studies or out.file("studies.journal")
    models = out.file(MODELS)

    def current_studies() -> list[CellStudy]:
        fitted = fitted_seeds(models, cells, cfg.seeds)
        return open_studies(
            cells, cfg.seeds, fitted, url, out.content_hash, cfg.generation, population
        )

    studies = run_studies(current_studies, source, out.uri, cfg.pool)
    tables = {
        "fits": fits_table(models, cells, cfg.seeds),
        "trials": trials_table(studies),
        "progress": progress_table(out.uri),
    }
    for name, table in tables.items():
        out.write_table(name, table)
    return out.publish({name: len(table) for name, table in tables.items()})


if __name__ == "__main__":
    run_job(SearchConfig, search)
