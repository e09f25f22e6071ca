"""The caption in what a language model answers, or the reason why none is in it."""

import json
import unicodedata

import pytest

from actors.synthesis.captions.answers import read_caption
from actors.synthesis.language_models.answers import MOST_CHARACTERS, names_class

GOOD = "An elm in a park."


@pytest.mark.parametrize(
    "answer",
    [
        f"  {GOOD} ",
        f"Sure! Here is a caption for a photo of the elm:\n{GOOD}",
        f"Sure, here's one: \"{GOOD}\" Let me know if you'd like more!",
        f"Certainly. {GOOD}",
        f"{GOOD} I hope this helps!",
        f"{GOOD}\n\nNote that I can't see pictures.",
        f'My caption would be "{GOOD}"',
        f'**Caption:** "{GOOD}"',
        f"Final answer:\n\n{GOOD}",
        f"An elm is a tree.\nCaption: {GOOD}",
    ],
)
def test_the_caption_of_a_chatty_answer_is_found(answer: str) -> None:
    assert read_caption(answer, ["elm"]) == (GOOD, "")


@pytest.mark.parametrize(
    "answer",
    [
        f"Voici une légende pour une photo de elm :\n{GOOD}",
        f"Bien sûr ! {GOOD}",
        f"Natürlich! Hier ist eine Bildunterschrift für ein Foto von elm:\n\n„{GOOD}“",
        f"¡Claro! Aquí tienes una leyenda:\n«{GOOD}»",
        f"Tässä on kuvateksti valokuvalle elm:\n{GOOD}",
        f"当然！以下是 elm 照片的标题：{GOOD}",
        f"はい、こちらがキャプションです：\n「{GOOD}」",
        f"Вот подпись: {GOOD}",
    ],
)
def test_what_comes_before_it_may_be_in_any_language(answer: str) -> None:
    assert read_caption(answer, ["elm"]) == (GOOD, "")


@pytest.mark.parametrize(
    "answer",
    [
        f"<think>The user wants one caption about an elm.</think>{GOOD}",
        f"<think>\nAn elm\n<think>is a tree.</think>\nin parks.</think>\n\n{GOOD}",
        f"An elm is a large tree.\n</think>\n\n{GOOD}",  # the prompt had the opening tag
        f"<Thinking>An elm is a tree.</Thinking>{GOOD}",
        f"<reasoning>An elm is a tree.</reasoning>\n<answer>{GOOD}</answer>",
        f"[THINK]An elm is a tree.[/THINK]{GOOD}",
        f"◁think▷An elm is a tree.◁/think▷{GOOD}",
        f"<seed:think>An elm is a tree.</seed:think>{GOOD}",
        f"<|begin_of_thought|>An elm is a tree.<|end_of_thought|>"
        f"<|begin_of_solution|>{GOOD}<|end_of_solution|>",
        f"<|START_THINKING|>An elm is one.<|END_THINKING|><|START_RESPONSE|>{GOOD}<|END_RESPONSE|>",
        f"<|channel|>analysis<|message|>An elm is a tree.<|end|><|start|>assistant"
        f"<|channel|>final<|message|>{GOOD}<|return|>",
        f"analysisAn elm is a tree.assistantfinal{GOOD}",  # the same without special tokens
        f"<|channel>thought\nAn elm is a tree.<channel|>{GOOD}",
        f"{GOOD}\n<think>An elm is a tree",
    ],
)
def test_what_the_model_thought_is_left_out(answer: str) -> None:
    assert read_caption(answer, ["elm"]) == (GOOD, "")


@pytest.mark.parametrize(
    "answer",
    [
        f"{GOOD}<|eot_id|>",
        f"{GOOD}</s><s>[INST] An elm at night. [/INST]",
        f"<|start_header_id|>assistant<|end_header_id|>\n\n{GOOD}<|eot_id|>",
        f"Fine.<|im_end|>\n<|im_start|>assistant\n{GOOD}"[len("Fine.") :],
        f"{GOOD}<｜end▁of▁sentence｜>",
        f"<start_of_turn>model\n{GOOD}<end_of_turn>",
    ],
)
def test_marks_of_a_chat_template_are_left_out(answer: str) -> None:
    assert read_caption(answer, ["elm"]) == (GOOD, "")


@pytest.mark.parametrize(
    "answer",
    [
        f"1. {GOOD}\n2. An elm at noon.",
        f"1) {GOOD} 2) An elm at noon.",
        f"(1) {GOOD}\n(2) An elm at noon.",
        f"① {GOOD}\n② An elm at noon.",
        f'\n- "{GOOD}"\n- An elm at noon.',
        f"• {GOOD}\n• An elm at noon.",
        f"Caption 1: {GOOD}\nCaption 2: An elm at noon.",
        f'"{GOOD}" "An elm at noon."',
        f"**{GOOD}**",
        f"*{GOOD}*",
        f"# Caption\n\n> {GOOD}",
        f"```\n{GOOD}\n```",
        f"<p>{GOOD.replace('park', '<b>park</b>')}</p>",
        f'{{"caption": "{GOOD}"}}',
        f'Here you are:\n```json\n{{"thoughts": "An elm is one.", "caption": "{GOOD}"}}\n```',
        f'{{"captions": ["{GOOD}", "An elm at noon."]}}',
        f'{{"class": "elm", "result": {{"text": "{GOOD}"}}}}',
        f'["{GOOD}"]',
        f"<caption>{GOOD}</caption>",
    ],
)
def test_the_first_of_several_is_taken_without_its_wrapping(answer: str) -> None:
    assert read_caption(answer, ["elm"]) == (GOOD, "")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("I'm sorry, but I can't help with pictures of elm.", "the model declines"),
        (f"I’m sorry, I can’t see it. {GOOD}", "the model declines"),
        ("As an AI language model, I imagine an elm.", "the model declines"),
        ("Je suis désolé, je ne peux pas décrire elm.", "the model declines"),
        ("Lo siento, no puedo describir un elm.", "the model declines"),
        ("抱歉，我无法描述 elm 。", "the model declines"),
        ("elm", "tells no more than the name"),
        ("An elm.", "tells no more than the name"),
        ("**Elm**", "tells no more than the name"),
        ("What sort of elm shall it be?", "a question"),
        ("This is one for the elm:", "announces a caption"),
        ("Here is a caption for the elm.", "speaks of the task or to the reader"),
        ("Okay, the user wants an elm at night.", "speaks of the task or to the reader"),
        ("An elm in a [place].", "code, markup or an address"),
        ("An elm, see https://elm.example/1.png", "code, markup or an address"),
        ('{"caption": "An elm in a pa', "code, markup or an address"),
        ('```json\n{\n "caption": "An elm in a pa', "code, markup or an address"),
        ("<think>The user wants an elm in a park and", "ends while the model is thinking"),
        ("analysisThe user wants an elm", "ends while the model is thinking"),
        ("elm " * MOST_CHARACTERS, f"more than {MOST_CHARACTERS} characters"),
    ],
)
def test_what_is_no_caption_is_refused_with_a_reason(answer: str, reason: str) -> None:
    assert read_caption(answer, ["elm"])[1] == reason


@pytest.mark.parametrize(
    "character", ["\u202e", "\u0000", "\x1b", "\u200b", "\u2066", "\ufeff", "\u00ad", "\ufffd"]
)
def test_characters_that_are_not_seen_are_refused(character: str) -> None:
    reason = "control, bidirectional or zero-width characters"
    assert read_caption(f"An elm{character} in a garden.", ["elm"])[1] == reason
    answer = json.dumps({"caption": f"An elm{character} in a garden."})
    assert read_caption(answer, ["elm"])[1] == reason


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("caption", "A caption under a photo of a cat."),
        ("C++", "A C++ on a blackboard."),
        ("<script>", "A <script> in a text editor."),
        ("AI language model", "An AI language model on a screen, at dusk."),
        ("St. Bernard", "St. Bernard in the snow, seen from above."),
        ("E. coli", "E. coli on a dish under a lamp."),
        ("World War I", "World War I memorial in the rain, a grey day."),
        ("elm", "An elm at 10:30, the sky above it: grey and low."),
        ("elm", 'A sign that says "elm street", beside an elm.'),
        ("crème brûlée", "A crème brûlée on a plate, seen from above."),
    ],
)
def test_a_good_caption_stays_whatever_its_class_is_called(name: str, caption: str) -> None:
    assert read_caption(caption, [name]) == (caption, "")
    decomposed = unicodedata.normalize("NFD", caption)
    assert read_caption(decomposed, [name]) == (caption, "")


def test_what_does_not_name_the_class_comes_back_as_it_is() -> None:
    """What is asked for is then said once, for all writers alike (`acceptance.refusal`)."""
    assert read_caption("__import__('os').remove('x')", ["elm"]) == (
        "__import__('os').remove('x')",
        "",
    )
    assert read_caption(" \n", ["elm"]) == ("", "")


@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "[",
        "{",
        "*",
        '"elm ',
        "<think>",
        "elm\n",
        '{"a":',
        "_a_ ",
        "1. elm ",
        ": elm ",
        "elm. ",
        "< ",
        "<|",
        "</",
        "I can ",
        "“",
        "\u00a0",
        "(1",
    ],
)
def test_hostile_answers_are_read_to_an_end(piece: str) -> None:
    """Of a pattern that tries everything, this test would be the one that does not end."""
    caption, reason = read_caption(piece * (MOST_CHARACTERS // len(piece)), ["elm"])
    assert reason or not names_class(caption, ["elm"])
