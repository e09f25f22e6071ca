import random

import pytest
from open_clip import SimpleTokenizer

from actors.synthesis.captions.acceptance import CLIP_TOKENS, decide, kind_of, refusal


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("", "empty caption"),
        ("A photo of a dog.", "does not name 'fox'"),
        ("A foxglove in a garden.", "does not name 'fox'"),
        ("fox " * 80, "82 tokens, more than 77"),
        ("A Fox in the snow.", ""),
        ("A Vulpes vulpes in the snow.", ""),
    ],
)
def test_bad_captions_are_told_apart(caption: str, reason: str) -> None:
    assert refusal(caption, ["fox", "vulpes vulpes"]) == reason


@pytest.mark.parametrize("name", ["../../x", "a/b", "C++", "f(x)", "Ünicode"])
def test_odd_class_names_are_only_words(name: str) -> None:
    assert refusal(f"A photo of {name}.", [name]) == ""


CAPTIONS = {
    0: "A fox in the snow.",
    1: "In a snow, the fox",  # the same words
    2: "A fox in the forest.",
    3: "",
    4: "the fox in the forest !",
    7: "A fox at sea.",
}


def test_a_class_is_decided_on_as_a_whole_in_any_order() -> None:
    rows = [{"index": i, "caption": said, "error": ""} for i, said in CAPTIONS.items()]
    rows.append({"index": 8, "caption": "", "error": "HTTP 500"})
    random.Random(0).shuffle(rows)
    decided = decide(rows, {5: "A fox at the sea."}, ["fox"])
    assert {row["index"]: row["reason"] for row in decided} == {
        0: "",
        1: "near-duplicate of caption 0",
        2: "",
        3: "empty caption",
        4: "near-duplicate of caption 2",
        7: "near-duplicate of caption 5",
        8: "HTTP 500",
    }


def test_one_word_of_a_long_caption_makes_no_new_one() -> None:
    words = [f"word{i}" for i in range(25)]
    captions = [" ".join(["fox", *words]), " ".join(["fox", *words[:-1], "other"])]
    rows = [{"index": i, "caption": said, "error": ""} for i, said in enumerate(captions)]
    assert [row["reason"] for row in decide(rows, {}, ["fox"])] == [
        "",
        "near-duplicate of caption 0",
    ]


def test_reasons_are_counted_without_their_particulars() -> None:
    assert kind_of("does not name 'a fox'") == kind_of("does not name 'b'") == "does not name …"
    assert kind_of("81 tokens, more than 77") == "… tokens, more than …"


def test_what_is_surely_short_is_short() -> None:
    """Of ASCII characters, as many as there is room for, without the tokenizer."""
    letters = random.Random(0)
    printable = [chr(code) for code in range(32, 127) if chr(code) != "&"]
    tokenizer = SimpleTokenizer()
    for _ in range(200):
        caption = "".join(letters.choices(printable, k=CLIP_TOKENS - 2))
        assert len(tokenizer.encode(caption)) + 2 <= CLIP_TOKENS
    assert refusal(f"fox {'a ' * 35}a", ["fox"]) == ""
    assert refusal(f"fox {'a ' * 74}", ["fox"]) == ""
    assert refusal(f"fox {'a ' * 75}", ["fox"]) == "78 tokens, more than 77"
