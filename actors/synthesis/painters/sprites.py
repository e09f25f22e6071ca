"""Paints captions with the embedded sprites, by the factors that they name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from PIL import Image

from actors.embedded.imagined_scenes import HANDS, OPENMOJI, SIDE, Hand, Scene, paint
from actors.embedded.sprite_factors import FACTORS
from actors.embedded.sprites import sprite
from actors.pictures.codec import Encoding, UnpaintableError
from cluster.errors import ConfigError
from cluster.rows import row_rng

TRIED = "1F98A"
"""Code point of a picture that every artist has drawn: a fox."""


@dataclass(frozen=True, kw_only=True)
class SpritesConfig:
    """The embedded sprites, and who draws them; see `PainterEngine`."""

    hands: tuple[str, ...] = (OPENMOJI.name,)
    """Artists, `openmoji` or `noto_colour`, each as it is or in a style, as in `openmoji+poster`:
    outline, poster, hatching, watercolour, papercut. All pictures of a caption are by one of them,
    drawn by the caption's id."""
    recipe: Literal["sprites-3"] = "sprites-3"
    """Names how pictures are made; part of every picture's id."""

    name: ClassVar[str] = "sprites"
    captions_at_once: ClassVar[int] = 32
    encoding: ClassVar[Encoding] = Encoding()

    def __post_init__(self) -> None:
        unknown = [hand for hand in self.hands if hand not in HANDS]
        if unknown or not self.hands or len(set(self.hands)) < len(self.hands):
            raise ConfigError(
                f"painter.sprites.hands: {list(self.hands)}; allowed: some of "
                f"{', '.join(HANDS)}, each once"
            )

    def on_any_node(self) -> Self:
        for hand in self.hands:
            try:
                sprite(HANDS[hand].artist, TRIED)
            except (ImportError, OSError) as error:
                raise ConfigError(
                    f"painter.sprites.hands: {hand!r} cannot be drawn ({error}); allowed: with its "
                    "package installed"
                ) from error
        return self

    def load(self) -> "SpritePainter":
        return SpritePainter(self.hands)


class SpritePainter:
    """Paints a caption's factors with the embedded sprites."""

    def __init__(self, hands: Sequence[str]) -> None:
        self.hands = hands

    def provenance(self, row: Mapping[str, Any]) -> Mapping[str, str | int | float]:
        """See `Painter`."""
        generator = f"sprites {self._hand(row).name}"
        return {
            "generator": generator, "weights": "", "steps": 0, "guidance": 0.0, "size": SIDE
        }  # fmt: skip

    def paint(self, row: Mapping[str, Any], image_ids: Sequence[str]) -> list[Image.Image]:
        """See `Painter`."""
        scene = Scene(row["class_name"], **{name: row[name] for name in FACTORS})
        if reason := scene.refusal():
            raise UnpaintableError(reason)
        hand, caption = self._hand(row), row["caption_id"]
        return [paint(scene, image_id, hand, caption) for image_id in image_ids]

    def _hand(self, row: Mapping[str, Any]) -> Hand:
        number = int(row_rng(row["caption_id"], "hand").integers(len(self.hands)))
        return HANDS[self.hands[number]]
