from typing import cast

import pytest
import torch
from open_clip import SimpleTokenizer

from models.prompts.clips_own import ClipsPromptTokenizer
from models.prompts.interface import Context, Prompts, fsnl_template
from tests.models.methods.tasks import NAMES, tiny_clip

TOKENIZER = ClipsPromptTokenizer(cast(SimpleTokenizer, tiny_clip().tokenizer))
HAND = TOKENIZER.template(fsnl_template("animal"))
AWKWARD = [
    "red panda",
    "ant_eater",
    "Mewtwo",
    "a",
    "rock 'n' roll",
    "T-Rex",
    "piñata",
    "1st place medal",
    "person: curly hair",
    "C/V 3.5",
    "animal",
    "{}",
]


def filled(caption: str, name: str, names: list[str]) -> Prompts:
    (context,) = TOKENIZER.captions([caption], [names.index(name)], names)
    assert context is not None
    return TOKENIZER.fill([context], [TOKENIZER.name(name)])


def name_ids(prompts: Prompts) -> list[int]:
    return prompts.ids[0][prompts.name_token[0] >= 0].tolist()


@pytest.mark.parametrize("name", AWKWARD)
def test_a_filled_template_is_tokenised_as_the_whole_text(name: str) -> None:
    prompts = TOKENIZER.fill([HAND], [TOKENIZER.name(name)])
    text = f"a photo of {name.replace('_', ' ')}, a type of animal."
    if name == "{}":  # ends in punctuation: the comma stays a token of its own
        text = "a photo of {} , a type of animal."
    whole = tiny_clip().tokenizer([text])[0]
    assert prompts.ids[0].tolist() == whole[: prompts.ids.shape[1]].tolist()
    assert prompts.eot[0] == whole.argmax()
    assert name_ids(prompts) == list(TOKENIZER.name(name))


def test_the_name_in_the_slot_is_the_only_one_that_is_learned() -> None:
    prompts = TOKENIZER.fill([HAND], [TOKENIZER.name("animal")])
    assert (prompts.name_token >= 0).sum() == 1  # not the hint, which reads the same


def test_prompts_are_cut_to_the_longest() -> None:
    names = [TOKENIZER.name(name) for name in ("ant", "giant red panda")]
    prompts = TOKENIZER.fill([HAND, HAND], names)
    assert prompts.ids.shape[1] == prompts.eot.max() + 1
    assert prompts.eot.tolist() == [prompts.eot[1] - 2, prompts.ids.shape[1] - 1]
    assert (prompts.ids[0, prompts.eot[0] + 1 :] == 0).all()


def test_a_name_inside_a_word_is_not_a_name() -> None:
    names = ["ant", "mew", "plant"]
    assert TOKENIZER.captions(["a plant and mewtwo"], [0], names) == [None]
    assert TOKENIZER.captions(["a plant and mewtwo"], [1], names) == [None]
    assert name_ids(filled("a plant, an ant.", "ant", names)) == list(TOKENIZER.name("ant"))


def test_the_longest_name_takes_its_place_first() -> None:
    caption = "Red Panda beside a panda"
    red, plain = (filled(caption, name, NAMES) for name in ("red panda", "panda"))
    assert red.ids.tolist() == plain.ids.tolist() == [tokenised(caption)]
    assert (red.name_token[0] >= 0).nonzero().flatten().tolist() == [1, 2]
    assert (plain.name_token[0] >= 0).nonzero().flatten().tolist() == [5]
    assert TOKENIZER.captions(["a red panda"], [NAMES.index("panda")], NAMES) == [None]


def test_underscores_and_letter_case_do_not_hide_a_name() -> None:
    prompts = filled("The Ant Eater sleeps", "ant_eater", NAMES)
    assert name_ids(prompts) == list(TOKENIZER.name("ant eater"))


def test_an_empty_caption_has_no_place_for_a_name() -> None:
    assert TOKENIZER.captions(["", "at night"], [0, 1], NAMES) == [None, None]


@pytest.mark.parametrize("before", [0, 40, 74, 75, 76, 300])
def test_truncation_never_drops_the_name(before: int) -> None:
    long = Context((tuple([320] * before), tuple([518] * 300)))
    name = TOKENIZER.name("red panda")
    prompts = TOKENIZER.fill([long], [name])
    assert prompts.ids.shape == (1, 77)
    assert name_ids(prompts) == list(name)
    assert prompts.eot.tolist() == [76]


def test_a_name_of_nothing_or_of_too_much_is_refused() -> None:
    with pytest.raises(ValueError, match="has 0 tokens; allowed 1 to 75"):
        TOKENIZER.name(" _ ")
    with pytest.raises(ValueError, match="has 80 tokens"):
        TOKENIZER.name("ant " * 80)
    with pytest.raises(ValueError, match=r"has no \{name\}"):
        TOKENIZER.template("a photo")


def tokenised(text: str) -> list[int]:
    ids = tiny_clip().tokenizer([text])[0]
    return ids[: int(torch.argmax(ids)) + 1].tolist()
