"""Painters: captions to pictures. A caption that cannot be painted is kept with its reason; a
machine fault is raised."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import pyarrow as pa
from jsonargparse.typing import PositiveInt
from PIL import Image
from ray.data import Dataset

from actors.embedded.sprite_factors import FACTORS
from actors.pictures.codec import UnpaintableError, png_bytes
from actors.synthesis.captions.rows import SAID
from actors.synthesis.painters.sd3 import Sd3Config, Sd3Painter, resolved
from actors.synthesis.painters.sprites import SpritePainter
from cluster.pool import Pool
from cluster.row_pipeline import Counted
from cluster.rows import row_id, row_seed

SPRITE_CAPTIONS_AT_ONCE, SD3_CAPTIONS_AT_ONCE = 32, 4
"""Painted, written and committed together; a kill loses at most what is under way."""
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("caption_id", pa.string()),
        *((name, pa.int64() if name == "label" else pa.string()) for name in SAID),
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
"""A base set's rows: one per picture; `image` is PNG, empty where there is a `reason`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PainterConfig:
    """Who paints, and how many pictures of each caption."""

    views: PositiveInt = 4
    """Pictures per caption. Source: ImagineFSL's iBase."""
    pool: Pool = dataclasses.field(default_factory=Pool)
    """Painters; of Stable Diffusion 3, each wants a GPU."""
    sd3: Sd3Config | None = None
    """Stable Diffusion 3, instead of the embedded sprites."""

    @property
    def name(self) -> str:
        """The sprites', or the model's."""
        return self.sd3.model if self.sd3 else "sprites"

    @property
    def recipe(self) -> str:
        """Names how pictures are made; part of every picture's id."""
        return f"sd3-1 {self.sd3.model}" if self.sd3 else "sprites-2"

    def content(self) -> dict[str, Any]:
        """The settings that change pictures."""
        content: dict[str, Any] = {"recipe": self.recipe, "views": self.views}
        if self.sd3:
            engine = dataclasses.asdict(self.sd3)
            del engine["providers"]
            content |= {"sd3": engine}
        return content


class Painter(Protocol):
    """An engine, loaded on the worker that it runs on."""

    @property
    def provenance(self) -> Mapping[str, str | int | float]:
        """generator (its name), weights (a hash, "" if it has none), steps, guidance, size."""

    def paint(self, row: Mapping[str, Any], image_ids: Sequence[str]) -> list[Image.Image]:
        """One picture of a caption's row per id, each a function of the row and its id alone.

        Raises UnpaintableError.
        """


def painter_stage(cfg: PainterConfig, captions: Dataset, counter: str) -> Dataset:
    """Rows of a base set (SCHEMA) from rows of captions; the views of a caption stay together.

    counter: of `cluster.row_pipeline.counted`. Raises ConfigError for what SD3 cannot paint.
    """
    if cfg.sd3:
        cfg = dataclasses.replace(cfg, sd3=resolved(cfg.sd3))
    at_once = SD3_CAPTIONS_AT_ONCE if cfg.sd3 else SPRITE_CAPTIONS_AT_ONCE
    return captions.repartition(target_num_rows_per_block=at_once).map_batches(
        Counted,
        fn_constructor_args=(partial(CaptionPainter, cfg), counter),
        batch_format="pyarrow",
        batch_size=at_once,
        **cfg.pool.map_options(),
    )


class CaptionPainter:
    """Paints every caption of a batch `views` times."""

    def __init__(self, cfg: PainterConfig) -> None:
        self.cfg = cfg
        self.painter: Painter = Sd3Painter(cfg.sd3) if cfg.sd3 else SpritePainter()

    def __call__(self, captions: pa.Table) -> pa.Table:
        painted = [row for caption in captions.to_pylist() for row in self._views(caption)]
        return pa.Table.from_pylist(painted, SCHEMA)

    def _views(self, caption: dict[str, Any]) -> list[dict[str, Any]]:
        of = (caption["dataset"], caption["class_name"], caption["index"])
        ids = [row_id(*of, view, self.cfg.recipe) for view in range(self.cfg.views)]
        reason, images = caption["reason"], [b""] * len(ids)
        if not reason:
            try:
                images = [png_bytes(image) for image in self.painter.paint(caption, ids)]
            except UnpaintableError as error:
                reason = str(error)
        return [
            {
                **caption,
                **self.painter.provenance,
                "id": image_id,
                "view": view,
                "seed": row_seed(image_id),
                "image": image,
                "reason": reason,
            }
            for view, (image_id, image) in enumerate(zip(ids, images, strict=True))
        ]
