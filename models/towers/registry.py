"""Which tower a network of open_clip is: by what it is, never by its name."""

from typing import Any

from models.towers.hugging_face import HuggingFaceText
from models.towers.interface import ImageTower, TextTower
from models.towers.pooled import Pooled
from models.towers.texts import ClipText, CocaText
from models.towers.timm_transformers import TimmTransformer
from models.towers.vit import PooledVit, Vit


def image_tower(model: Any, embed_dim: int) -> ImageTower:
    """The image tower of an open_clip model. embed_dim: size of its joint space.

    A network that is none of the known transformers gives its feature and nothing else.
    """
    visual = model.visual
    for kind in (Vit, PooledVit):
        if kind.fits(visual):
            return kind(visual)
    if TimmTransformer.fits(visual):
        return TimmTransformer(visual, embed_dim)
    return Pooled(visual, embed_dim)


def text_tower(model: Any) -> TextTower:
    """The text tower of an open_clip model; ValueError if it is of a kind that is not known."""
    beside = hasattr(model, "text")
    text, path = (model.text, "text.") if beside else (model, "")
    for kind in (CocaText, HuggingFaceText, ClipText):
        if kind.fits(text):
            return kind(text, path)
    raise ValueError(f"its text tower is a {type(text).__name__} of a kind that is not read here")
