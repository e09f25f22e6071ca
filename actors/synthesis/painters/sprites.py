"""Paints captions with the embedded sprites, by the factors that they name."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Literal, Self

from PIL import Image

from actors.embedded.concepts import load_concepts
from actors.embedded.iconify import icon_set
from actors.embedded.imagined_scenes import HANDS, OPENMOJI, SIDE, Hand, Scene, paint
from actors.embedded.sprite_factors import FACTORS
from actors.embedded.sprites import sprite
from actors.pictures.codec import Encoding, UnpaintableError
from cluster.errors import ConfigError
from cluster.progress import say
from cluster.rows import row_rng

TRIED = "1F98A"
"""Code point of a picture that every artist has drawn: a fox."""


@dataclass(frozen=True, kw_only=True)
class SpritesConfig:
    """The embedded sprites, and who draws them; see `PainterEngine`."""

    hands: tuple[str, ...] = (OPENMOJI.name,)
    """Artists, `openmoji`, `noto_colour` or `iconify`, each as it is or in a style, as in
    `openmoji+poster`: outline, poster, hatching, watercolour, papercut. All pictures of a caption
    are by one of them, drawn by the caption's id among those that have a picture of its class."""
    iconify: str | None = None
    """Folder with the pictures of the artist `iconify`: an emoji set as Iconify's packages have it,
    icons.json and chars.json, such as npm's @iconify-json/fluent-emoji-flat, unpacked. Every node
    reads it."""
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
        if (self.iconify is None) == any(HANDS[hand].artist == "iconify" for hand in self.hands):
            raise ConfigError(
                f"painter.sprites.iconify: {self.iconify!r} of hands {list(self.hands)}; allowed: "
                "a folder if one of them is iconify, else none"
            )

    def on_any_node(self) -> Self:
        for hand in self.hands:
            if HANDS[hand].artist == "iconify":
                continue
            try:
                sprite(HANDS[hand].artist, TRIED)
            except (ImportError, OSError) as error:
                raise ConfigError(
                    f"painter.sprites.hands: {hand!r} cannot be drawn ({error}); allowed: with its "
                    "package installed"
                ) from error
        if self.iconify is None:
            return self
        folder = os.path.abspath(os.path.expanduser(self.iconify))
        say(_concepts_of(folder))
        return replace(self, iconify=folder)

    def load(self) -> "SpritePainter":
        icons = icon_set(self.iconify) if self.iconify else None
        hands = [HANDS[name] for name in self.hands]
        return SpritePainter(
            [replace(h, icons=icons) if h.artist == "iconify" else h for h in hands]
        )


@cache
def _concepts_of(folder: str) -> str:
    """How many concepts a set of icons has. Raises ConfigError if it is none."""
    try:
        count, concepts = icon_set(folder).count_concepts(), len(load_concepts())
    except ConfigError as error:
        raise ConfigError(f"painter.sprites.iconify: {error}") from error
    return f"painter: {folder} has {count} of {concepts} concepts; others are left to other hands"


class SpritePainter:
    """Paints a caption's factors with the embedded sprites."""

    def __init__(self, hands: Sequence[Hand]) -> None:
        self.hands = hands

    def provenance(self, row: Mapping[str, Any]) -> Mapping[str, str | int | float]:
        """See `Painter`; weights names the set of icons that a picture is from."""
        hand = self._hand(row)
        weights = hand.icons.digest if hand.icons else ""
        return {
            "generator": f"sprites {hand.name}", "weights": weights, "steps": 0, "guidance": 0.0,
            "size": SIDE,
        }  # fmt: skip

    def paint(self, row: Mapping[str, Any], image_ids: Sequence[str]) -> list[Image.Image]:
        """See `Painter`."""
        scene = Scene(row["class_name"], **{name: row[name] for name in FACTORS})
        if reason := scene.refusal():
            raise UnpaintableError(reason)
        hand, caption = self._hand(row), row["caption_id"]
        if not hand.draws(scene.class_name):
            raise UnpaintableError(f"class {scene.class_name!r} has no picture by these hands")
        return [paint(scene, image_id, hand, caption) for image_id in image_ids]

    def _hand(self, row: Mapping[str, Any]) -> Hand:
        """One of those who draw the class, if any do."""
        hands = [hand for hand in self.hands if hand.draws(row["class_name"])] or self.hands
        return hands[int(row_rng(row["caption_id"], "hand").integers(len(hands)))]
