"""Painters: captions to pictures.

A caption that cannot be painted stays as rows with their reason; a machine fault is raised.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import pyarrow as pa
from jsonargparse.typing import NonNegativeInt, PositiveInt
from PIL import Image
from ray.data import Dataset

from actors.embedded.sprite_factors import FACTORS
from actors.pictures.codec import Encoding, UnpaintableError
from actors.synthesis.captions.rows import CLASS_COLUMNS
from actors.synthesis.painters.sd3 import Sd3Config
from actors.synthesis.painters.sprites import SpritesConfig
from cluster.artifacts import WORK, Artifact, Draft, draft
from cluster.commits import rows_of_block
from cluster.content import unhashed
from cluster.pool import Pool
from cluster.row_pipeline import Counted, committed_rows, counted, write_committed
from cluster.rows import row_id, row_seed, seeded
from cluster.unions import choice, chosen

PAINTED = f"{WORK}/painted"
"""Folder of a draft for pictures in the small files in which they are committed."""
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("caption_id", pa.string()),
        *((name, pa.int64() if name == "label" else pa.string()) for name in CLASS_COLUMNS),
        ("index", pa.int64()),
        ("view", pa.int64()),
        ("mode", pa.string()),
        *((name, pa.string()) for name in FACTORS),
        ("caption", pa.string()),
        ("image", pa.binary()),
        ("reason", pa.string()),
        ("seed", pa.int64()),
        ("generator", pa.string()),
        ("weights", pa.string()),
        ("steps", pa.int64()),
        ("guidance", pa.float64()),
        ("size", pa.int64()),
    ]
)
"""A base set's rows: one per picture; `image` is encoded as its painter's settings say, empty where
there is a `reason`."""


class Painter(Protocol):
    """An engine, loaded on the worker that it runs on."""

    def provenance(self, row: Mapping[str, Any]) -> Mapping[str, str | int | float]:
        """Of a caption's pictures: generator (its name, and who draws if several do), weights (a
        hash, "" if it has none), steps, guidance, size."""

    def paint(self, row: Mapping[str, Any], image_ids: Sequence[str]) -> list[Image.Image]:
        """One picture of a caption's row per id, each a function of the row and its id alone.

        Raises UnpaintableError.
        """


class PainterEngine(Protocol):
    """The settings of a painter: a frozen dataclass that is a choice of `PainterConfig`.

    What of it changes pictures is declared at its fields (`cluster.content`).
    """

    @property
    def name(self) -> str:
        """Of the base sets that it paints."""

    @property
    def recipe(self) -> str:
        """Names how pictures are made, whichever the seed is."""

    @property
    def encoding(self) -> Encoding:
        """How pictures are kept."""

    @property
    def captions_at_once(self) -> int:
        """Painted, written and committed together, or more of them where there are many
        (`cluster.commits.rows_of_block`); a kill loses at most what is under way."""

    def on_any_node(self) -> "PainterEngine":
        """The same settings as a worker on any node can use them. Called on the driver."""

    def load(self) -> Painter:
        """The engine itself. Called on the worker that it runs on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PainterConfig:
    """Who paints, and how many pictures of each caption. Raises ConfigError if two are to paint."""

    views: PositiveInt = 4
    """Pictures per caption. Source: ImagineFSL's iBase."""
    seed: NonNegativeInt = unhashed(0)  # in the recipe, which is hashed
    """Another one makes other pictures of the same captions."""
    pool: Pool = unhashed(default_factory=Pool)
    """Painters; of Stable Diffusion 3, each wants a GPU."""
    sprites: SpritesConfig | None = choice(SpritesConfig)
    """The embedded sprites; they paint if no other painter is given."""
    sd3: Sd3Config | None = choice()
    """Stable Diffusion 3."""

    def __post_init__(self) -> None:
        chosen(self)

    @property
    def engine(self) -> PainterEngine:
        """The one that paints."""
        return chosen(self)

    @property
    def recipe(self) -> str:
        """Names how these pictures are made; part of every picture's id."""
        return seeded(self.engine.recipe, self.seed)


def image_draft(
    storage: str, captions: Artifact | Draft, painter: PainterConfig, config: Any
) -> Draft:
    """The base set that these settings stand for, done or not.

    config: of the job, for the manifest.
    """
    engine = painter.engine
    content = {"painter": painter, "engine": engine, "recipe": painter.recipe}
    inputs = {"captions": captions}
    return draft(storage, "images", engine.name, config=config, inputs=inputs, content=content)


def paint_rows(
    out: Draft,
    painter: PainterConfig,
    captions: Callable[[], Dataset],
    *,
    title: str,
    total: int,
    beside: float = 0.0,
) -> None:
    """Paints all captions that are not painted yet into the folder PAINTED (rows of SCHEMA).

    captions: see `write_committed`. total: pictures there when that is done. beside: CPUs that
    captions take which are written meanwhile.
    """
    done = committed_rows(out, PAINTED)
    with counted(title, total, "images", painter.pool, done, beside) as rows:
        write_committed(
            out,
            PAINTED,
            rows,
            lambda: painter_stage(painter, captions(), rows.counter_name, total // painter.views),
            key="caption_id",
        )


def painter_stage(cfg: PainterConfig, captions: Dataset, counter: str, count: int) -> Dataset:
    """Rows of a base set (SCHEMA) from rows of captions; the views of a caption stay together.

    counter: name of that of `cluster.row_pipeline.counted`. count: captions that there are, about.
    """
    engine = cfg.engine.on_any_node()
    block_rows = rows_of_block(count, engine.captions_at_once)
    return captions.repartition(target_num_rows_per_block=block_rows).map_batches(
        Counted,
        fn_constructor_args=(
            partial(CaptionPainter, engine, cfg.views, cfg.seed),
            counter,
            cfg.pool,
        ),
        batch_format="pyarrow",
        batch_size=engine.captions_at_once,
        **cfg.pool.map_options(),
    )


class CaptionPainter:
    """Paints every caption of a batch `views` times."""

    def __init__(self, engine: PainterEngine, views: int, seed: int = 0) -> None:
        self.recipe = seeded(engine.recipe, seed)
        self.views, self.encoding = views, engine.encoding
        self.painter = engine.load()

    def __call__(self, captions: pa.Table) -> pa.Table:
        painted = [row for caption in captions.to_pylist() for row in self._views(caption)]
        return pa.Table.from_pylist(painted, SCHEMA)

    def _views(self, caption: dict[str, Any]) -> list[dict[str, Any]]:
        of = (caption["dataset"], caption["class_name"], caption["index"])
        ids = [row_id(*of, view, self.recipe) for view in range(self.views)]
        reason, images = caption["reason"], [b""] * len(ids)
        if not reason:
            try:
                images = [self.encoding.encode(image) for image in self.painter.paint(caption, ids)]
            except UnpaintableError as error:
                reason = str(error)
        return [
            {
                **caption,
                **self.painter.provenance(caption),
                "id": image_id,
                "view": view,
                "seed": row_seed(image_id),
                "image": image,
                "reason": reason,
            }
            for view, (image_id, image) in enumerate(zip(ids, images, strict=True))
        ]
