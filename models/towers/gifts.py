"""What a pair of towers gives methods besides two features."""

from collections.abc import Mapping
from typing import Any

from models.towers.interface import Gift, ImageTower, TextTower


def gifts_of(
    image: ImageTower, text: TextTower | None, text_cfg: Mapping[str, Any]
) -> frozenset[Gift]:
    """text: None where it is not built, as those of transformers, which give nothing more.

    text_cfg: open_clip's; a name is found among a text's tokens only by CLIP's own tokenizer.
    """
    of_text: set[Gift] = set()
    if text is not None and text.maps:
        of_text.add("text maps")
    if text is not None and text.reads_embeddings and not text_cfg.get("hf_tokenizer_name"):
        of_text.add("names")
    return image.gifts | of_text
