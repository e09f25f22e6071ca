from collections import Counter

import numpy as np
import pytest
from open_clip import SimpleTokenizer

from actors.factors import MODE_SHARES, draw_factors
from actors.writer import GrammarWriter, grammar_caption, refusal
from cluster.rows import row_id

TABLE = {
    "attributes": ["small", "large"],
    "backgrounds": ["in a meadow", "on a beach", "in the snow", "on a shelf", "in a forest"],
    "viewpoints": ["seen from above"],
    "lightings": ["at dusk"],
    "degradations": ["with film grain"],
}


def test_modes_and_backgrounds_come_as_often_as_the_recipe_says() -> None:
    rows = [draw_factors(row_id("animals", "fox", i, 0, "test"), TABLE) for i in range(4000)]
    modes = Counter(row["mode"] for row in rows)
    for mode, share in MODE_SHARES.items():
        assert modes[mode] / 4000 == pytest.approx(share, abs=0.03)
    places = Counter(row["background"] for row in rows if row["background"])
    # the first three of five are 60 %, drawn with weight 4 each; the rest with weight 1.5
    assert places["in a meadow"] / places["on a shelf"] == pytest.approx(4 / 1.5, rel=0.25)


def test_factors_depend_on_the_row_alone() -> None:
    assert draw_factors("a", TABLE) == draw_factors("a", TABLE)
    assert len({str(draw_factors(str(i), TABLE)) for i in range(50)}) > 10


def test_a_caption_names_the_class_and_every_factor() -> None:
    factors = {"attribute": "small", "background": "in the snow", "lighting": "at dusk"}
    caption = grammar_caption("Statue of Liberty", "place", factors)
    for phrase in ("Statue of Liberty", "a type of place", "small", "in the snow", "at dusk"):
        assert phrase in caption


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("", "empty caption"),
        ("A photo of a dog.", "does not name 'fox'"),
        ("A foxglove in a garden.", "does not name 'fox'"),
        ("fox " * 80, "82 tokens, more than 77"),
        ("A Fox in the snow.", ""),
    ],
)
def test_bad_captions_are_told_apart(caption: str, reason: str) -> None:
    assert refusal(caption, "fox", SimpleTokenizer()) == reason


def test_odd_class_names_are_only_words() -> None:
    batch = {"id": ["r1", "r2"], "class_name": ["../../x", "a/b"], "hint": ["thing", "thing"]}
    columns = {name: np.array(values, dtype=object) for name, values in batch.items()}
    lists = {name: np.array([values] * 2, dtype=object) for name, values in TABLE.items()}
    made = GrammarWriter()(columns | lists)
    assert list(made["reason"]) == ["", ""]
    assert "../../x" in made["caption"][0]
    assert "attributes" not in made
