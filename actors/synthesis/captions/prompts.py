"""What a language model is asked for a caption: examples of the same mode, then the factors."""

from collections.abc import Mapping, Sequence
from typing import Any

from actors.embedded.grammar import grammar_caption
from actors.embedded.sprite_factors import FACTORS
from actors.synthesis.factors.drawing import draw_factors
from actors.synthesis.factors.tables import one_line
from cluster.rows import row_rng

EXAMPLES = 3
"""In context. Source: ImagineFSL."""


def caption_prompt(row: Mapping[str, Any], examples: Sequence[str]) -> str:
    """A list of captions that a base model goes on with; the caption is the next line.

    row: `class_name`, `hint`, and the factors of FACTORS ("" where the mode leaves one out).
    """
    notes = "; ".join(row[name] for name in FACTORS if row[name])
    name = one_line(row["class_name"])
    return "\n".join(
        [
            f"Captions of photographs that show a {name} ({one_line(row['hint'])}). "
            f"Each caption is one sentence of at most 30 words and contains the word {name}.",
            *(f"- {one_line(example)}" for example in examples),
            f"One more caption, with these notes: {notes or 'none'}.",
            "-",
        ]
    )


def draw_examples(row_id: str, row: Mapping[str, Any], table: Mapping[str, Any]) -> list[str]:
    """EXAMPLES captions in the row's mode: from the table of factors if it has any, else made by
    the grammar from other factors.

    row: as of `caption_prompt`, with its `mode`. table: one class, as of `draw_factors`, with
    `examples` (mode to captions) or without.
    """
    rng = row_rng(row_id, "examples")
    known = ((table.get("examples") or {}).get(row["mode"])) or []
    if known:
        chosen = rng.choice(len(known), size=min(EXAMPLES, len(known)), replace=False)
        return [str(known[i]) for i in chosen]
    drawn = (draw_factors(f"{row_id}/example{i}", table) for i in range(EXAMPLES))
    return [grammar_caption(row["class_name"], row["hint"], factors) for factors in drawn]
