"""Paints captions with the embedded sprites, by the factors that they name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from PIL import Image

from actors.embedded.imagined_scenes import SIDE, Scene, paint
from actors.embedded.sprite_factors import FACTORS
from actors.pictures.codec import Encoding, UnpaintableError


@dataclass(frozen=True, kw_only=True)
class SpritesConfig:
    """The embedded sprites, which have no settings but their version; see `PainterEngine`."""

    recipe: Literal["sprites-2"] = "sprites-2"
    """Names how pictures are made; part of every picture's id."""

    name: ClassVar[str] = "sprites"
    captions_at_once: ClassVar[int] = 32
    encoding: ClassVar[Encoding] = Encoding()

    def on_any_node(self) -> Self:
        return self

    def load(self) -> "SpritePainter":
        return SpritePainter()


class SpritePainter:
    """Paints a caption's factors with the embedded sprites."""

    provenance: Mapping[str, str | int | float] = {
        "generator": "sprites", "weights": "", "steps": 0, "guidance": 0.0, "size": SIDE
    }  # fmt: skip

    def paint(self, row: Mapping[str, Any], image_ids: Sequence[str]) -> list[Image.Image]:
        """See `Painter`."""
        scene = Scene(row["class_name"], **{name: row[name] for name in FACTORS})
        if reason := scene.refusal():
            raise UnpaintableError(reason)
        return [paint(scene, image_id) for image_id in image_ids]
