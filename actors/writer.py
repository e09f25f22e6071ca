"""Caption writers. Embedded: a grammar over the factors of a class."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from open_clip import SimpleTokenizer

from actors.factors import FACTORS, draw_factors

CLIP_TOKENS = 77


def grammar_caption(class_name: str, hint: str, factors: Mapping[str, str]) -> str:
    """A sentence that names the class and every factor that is not empty.

    >>> grammar_caption("fox", "animal", {"attribute": "small", "background": "in the snow"})
    'A photo of a fox, a type of animal, small, in the snow.'
    """
    said = [factors[name] for name in FACTORS if factors.get(name)]
    return (
        f"A photo of a {class_name}, a type of {hint}{''.join(f', {phrase}' for phrase in said)}."
    )


def refusal(caption: str, class_name: str, tokenizer: SimpleTokenizer) -> str:
    """Why a caption is not accepted; empty if it is fine."""
    if not caption.strip():
        return "empty caption"
    if not re.search(rf"(?<!\w){re.escape(class_name)}(?!\w)", caption, re.IGNORECASE):
        return f"does not name {class_name!r}"
    length = len(tokenizer.encode(caption)) + 2
    return f"{length} tokens, more than {CLIP_TOKENS}" if length > CLIP_TOKENS else ""


class GrammarWriter:
    """Writes captions for rows with their class's factors.

    Reads `id`, `class_name`, `hint` (str) and the lists of `draw_factors`. Adds `mode`, the five
    factors, `caption` and `reason` (str; empty if the caption is fine); drops the lists.
    """

    def __init__(self) -> None:
        self.tokenizer = SimpleTokenizer()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        lists = ("attributes", "backgrounds", "viewpoints", "lightings", "degradations")
        written: list[dict[str, Any]] = []
        for i, row_id in enumerate(batch["id"]):
            factors = draw_factors(str(row_id), {name: list(batch[name][i]) for name in lists})
            name = str(batch["class_name"][i])
            caption = grammar_caption(name, str(batch["hint"][i]), factors)
            written.append(
                {**factors, "caption": caption, "reason": refusal(caption, name, self.tokenizer)}
            )
        kept = {name: values for name, values in batch.items() if name not in lists}
        return kept | {
            name: np.array([row[name] for row in written], dtype=object) for name in written[0]
        }
