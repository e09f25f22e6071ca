"""Names among the tokens of fast tokenizers, held against the tokenizers' own rows."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import ByT5Tokenizer

from models.building import clip_from_config
from models.clip import Clip
from models.context_learner import ContextLearner
from models.name_learner import NameLearner
from models.prompts.fast import FastPromptTokenizer
from models.prompts.interface import FSNL_TEMPLATE, Prompts
from models.prompts.registry import locates_names, prompt_tokenizer, require_readable
from models.text_classifier import text_classifier
from models.towers.texts import ClipText
from tests.models.methods.tasks import tiny_clip
from tests.models.prompts.fast_tokenizers import CONTEXT_LENGTH, KINDS, write_kind
from tests.models.towers.families import family_clip

VIT = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}
NAMES = [
    "red panda",
    "ant_eater",
    "okapi",
    "C++",
    "T-Rex",
    "piñata",
    "crème brûlée",
    "cre\u0300me",
    "大熊猫",
    "🐼",
    "person: curly hair",
    "1st place medal",
    "a",
    "St. Bernard Jr.",
    "Tom &amp; Jerry",
    "ﬁsh",
    "rock 'n' roll",
    "wow!!!",
    "İzmir",
]
TEMPLATES = [
    FSNL_TEMPLATE.replace("{hint}", "animal"),
    "a photo of a {name}.",
    "{name}",
    "{name}, the pet",
    "two ({name})s at night",
    "art:{name}!",
]

Clips = Callable[[str], Clip]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    made: dict[str, Clip] = {}

    def clip(kind: str) -> Clip:
        if kind not in made:
            made[kind] = clip_of(write_kind(kind, tmp_path_factory.mktemp(kind)))
        return made[kind]

    return clip


def clip_of(text_cfg: dict[str, Any]) -> Clip:
    text = {"width": 32, "heads": 2, "layers": 1} | text_cfg
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return clip_from_config({"embed_dim": 32, "vision_cfg": VIT, "text_cfg": text})


def whole_rows(prompts: Prompts, pad: int) -> Tensor:
    ids = torch.full((len(prompts.ids), CONTEXT_LENGTH), pad)
    ids[:, : prompts.ids.shape[1]] = prompts.ids
    return ids


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_template_with_its_own_name_is_the_tokenizers_own_row(
    clips: Clips, kind: str, template: str
) -> None:
    clip = clips(kind)
    tokenizer = prompt_tokenizer(clip)
    names = [name for name in NAMES if readable(tokenizer, name)]
    assert len(names) > 12
    contexts, ids = tokenizer.named(template, names)
    prompts = tokenizer.fill(contexts, ids)
    own = clip.tokenizer([template.replace("{name}", name.replace("_", " ")) for name in names])
    assert torch.equal(whole_rows(prompts, tokenizer.pad), own)
    assert [int((row >= 0).sum()) for row in prompts.name_token] == [len(i) for i in ids]
    last = torch.full_like(prompts.eot, CONTEXT_LENGTH - 1)
    assert isinstance(clip.text, ClipText)
    if clip.text.trims:
        assert torch.equal(clip.text.ends(own, last), prompts.eot)


LETTERS = [
    *"abcXYZ  .,!?'-_+#;</()[]%059éñüİıſ½™中文語한ไท🐼\u200b\u00a0ﬁ",
    "👨‍👩‍👧",
    "okapi",
    " a ",
]


@pytest.mark.parametrize("kind", KINDS)
def test_any_name_in_any_template_is_the_tokenizers_own_row(clips: Clips, kind: str) -> None:
    """But where something is cleaned away across its border, of which nothing is drawn here."""
    clip, rng = clips(kind), random.Random(0)
    tokenizer = prompt_tokenizer(clip)

    def drawn() -> str:
        return "".join(rng.choices(LETTERS, k=rng.randint(1, 5)))

    same = 0
    for _ in range(60):
        template, name = f"{drawn()}{{name}}{drawn()}", drawn()
        if not readable(tokenizer, name):
            continue
        own = clip.tokenizer([template.replace("{name}", name.replace("_", " "))])
        try:
            contexts, ids = tokenizer.named(template, [name])
        except ValueError:  # a name of which the vocabulary leaves nothing
            continue
        prompts = tokenizer.fill(contexts, ids)
        assert torch.equal(whole_rows(prompts, tokenizer.pad), own), (template, name)
        same += 1
    assert same > 30


def readable(tokenizer: Any, name: str) -> bool:
    """Where punctuation is cleaned away nothing is left of some names."""
    return any(letter.isalnum() for letter in tokenizer.clean_name(name))


@pytest.mark.parametrize("kind", ["t5", "gemma", "xlm", "nllb", "roberta", "clip"])
def test_the_names_tokens_hold_the_names_characters(clips: Clips, kind: str) -> None:
    """And those before them hold what stands before, where a vocabulary spells what it reads."""
    clip: Any = clips(kind)
    tokenizer = prompt_tokenizer(clip)
    known = ["red panda", "ant_eater", "okapi", "T-Rex", "piñata", "1st place medal", "a"]
    (contexts, ids), fast = tokenizer.named(TEMPLATES[0], known), clip.tokenizer.tokenizer

    def spelled(tokens: tuple[int, ...]) -> str:
        text = fast.convert_tokens_to_string(fast.convert_ids_to_tokens(list(tokens)))
        return "".join(text.replace("▁", "").replace("Ġ", "").replace("</w>", "").lower().split())

    for name, context, of_name in zip(known, contexts, ids, strict=True):
        bare = spelled_as(clip.tokenizer.clean_fn(name.replace("_", " ")))
        assert same_letters(spelled(of_name), bare)
        assert same_letters(spelled(context.pieces[0]), "aphotoof")
        assert spelled(context.pieces[1]).strip(",.") == "atypeofanimal"


def spelled_as(text: str) -> str:
    return "".join(text.lower().split())


def same_letters(ours: str, theirs: str) -> bool:
    """Byte-level vocabularies spell letters beyond ASCII as other characters."""
    return ours.isascii() is False or ours == theirs


@pytest.mark.parametrize("template", TEMPLATES)
def test_clips_vocabulary_as_a_fast_tokenizer_is_clips_own(clips: Clips, template: str) -> None:
    own, fast = prompt_tokenizer(tiny_clip()), prompt_tokenizer(clips("clip"))
    assert isinstance(fast, FastPromptTokenizer)
    touching = template.partition("{name}")[0][-1:] in "(:"  # there CLIP's is not the whole text's
    names = [name for name in NAMES if name[0].isalnum() or not touching]
    filled = [tokenizer.fill(*tokenizer.named(template, names)) for tokenizer in (own, fast)]
    assert torch.equal(filled[1].eot, filled[0].eot)
    assert torch.equal(filled[1].name_token, filled[0].name_token)
    for ours, theirs, end in zip(filled[1].ids, filled[0].ids, filled[0].eot, strict=True):
        assert torch.equal(ours[: end + 1], theirs[: end + 1])
    assert own.before("a photo of a {name}") == fast.before("a photo of a {name}")


CAPTIONS = [
    "A red panda, beside a panda and a Red Panda",
    "an okapi in a plantation (okapi)",
    "the ant eater's ants",
    "okapi okapi",
    "no name at all",
    "",
]
CLASSES = ["red panda", "panda", "okapi", "ant", "ant_eater", "plant"]


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_names_in_captions_are_where_clips_own_are(clips: Clips, label: int) -> None:
    labels = [label] * len(CAPTIONS)
    contexts = [
        prompt_tokenizer(clip).captions(CAPTIONS, labels, CLASSES)
        for clip in (clips("clip"), tiny_clip())
    ]
    assert contexts[0] == contexts[1]
    assert any(contexts[0]) == (CLASSES[label] not in ("ant", "plant"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_caption_with_its_own_name_is_the_tokenizers_own_row(clips: Clips, kind: str) -> None:
    """Of a name that the template, too, has behind a space; longest first, at word borders."""
    clip = clips(kind)
    tokenizer = prompt_tokenizer(clip)
    captions = ["two okapi at night", "an ant eater, at night", "a plant by an ant"]
    labels = [2, 4, 5]
    contexts = tokenizer.captions(captions, labels, CLASSES)
    if kind == "across":  # a name has other tokens where they reach into its context
        assert all(contexts)
        return
    names = [tokenizer.named("two {name} at night", [CLASSES[label]])[1][0] for label in labels]
    prompts = tokenizer.fill([c for c in contexts if c], names)
    assert torch.equal(whole_rows(prompts, tokenizer.pad), clip.tokenizer(captions))
    assert tokenizer.captions(captions, [3, 3, 0], CLASSES) == [None] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_caption_takes_another_classs_name(clips: Clips, kind: str) -> None:
    tokenizer = prompt_tokenizer(clips(kind))
    (context,) = tokenizer.captions(["two okapi at night"], [2], CLASSES)
    assert context is not None
    learned = tokenizer.fill([context], [(7, 7, 7)])
    places = (learned.name_token[0] >= 0).nonzero().flatten().tolist()
    first = len(tokenizer.start) + len(context.pieces[0])
    assert places == [first, first + 1, first + 2]


@pytest.mark.parametrize("words", [0, 3, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_truncation_is_the_tokenizers_own_and_never_drops_the_name(
    clips: Clips, kind: str, words: int
) -> None:
    clip = clips(kind)
    tokenizer = prompt_tokenizer(clip)
    caption = "a " * words + "okapi" + " a" * 60
    (context,) = tokenizer.captions([caption], [0], ["okapi"])
    _, (name,) = tokenizer.named("a {name} a", ["okapi"])
    assert context is not None
    prompts = tokenizer.fill([context], [name])
    assert prompts.ids.shape == (1, CONTEXT_LENGTH)
    assert prompts.ids[0, prompts.name_token[0] >= 0].tolist() == list(name)
    if words == 3 and kind != "across":
        assert torch.equal(prompts.ids, clip.tokenizer([caption]))


@pytest.mark.parametrize("kind", KINDS)
def test_untrained_names_and_contexts_are_zero_shot(clips: Clips, kind: str) -> None:
    clip = clips(kind)
    tokenizer = prompt_tokenizer(clip)
    names = [name for name in NAMES if readable(tokenizer, name)]
    hand = "a photo of {}, a type of animal."
    learned = NameLearner(clip, names, "animal").class_features()
    torch.testing.assert_close(learned, text_classifier(clip, names, [hand]), atol=1e-5, rtol=0)
    if kind != "across":
        context = ContextLearner(clip, names).class_features()
        plain = text_classifier(clip, names, ["a photo of a {}."])
        torch.testing.assert_close(context, plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["t5", "xlm", "nllb", "bert", "clips"])
def test_gradients_reach_every_embedding_of_a_name(clips: Clips, kind: str) -> None:
    learner = NameLearner(clips(kind), ["okapi", "red panda"], "animal")
    learner.class_features()[:, 0].sum().backward()
    assert learner.table.grad is not None
    assert learner.table.grad.abs().sum(dim=1).gt(0).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("...", "has 0 tokens; allowed 1 to 39"),
        (" _ ", "has 0 tokens"),
        ("okapi " * 40, r"has \d+ tokens; allowed 1 to 39"),
    ],
)
def test_a_name_of_nothing_or_of_too_much_is_refused(clips: Clips, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require_readable(clips("t5"), ["okapi", name])


def test_a_name_must_leave_room_for_its_context(clips: Clips) -> None:
    clip = clips("bert")
    tokenizer = prompt_tokenizer(clip)
    long = "a " * (tokenizer.room - 2)
    require_readable(clip, [long])
    room = tokenizer.room - len(tokenizer.before("a photo of a {name}."))
    with pytest.raises(ValueError, match=f"allowed 1 to {room}"):
        require_readable(clip, [long], {"a photo of a {name}."})


def test_tokens_that_end_a_text_are_no_names(clips: Clips) -> None:
    tokenizer = prompt_tokenizer(clips("xlm"))
    with pytest.raises(ValueError, match="'</s>' has a token that ends a text"):
        tokenizer.named("a {name}", ["</s>"])
    (context,) = tokenizer.captions(["an okapi</s> a"], [0], ["okapi"])
    assert context is not None
    assert not any(set(tokenizer.end) & set(piece) for piece in context.pieces)


@pytest.mark.parametrize("side", ["padding_side", "truncation_side"])
def test_a_tokenizer_that_pads_or_cuts_on_the_left_is_refused(tmp_path: Path, side: str) -> None:
    clip: Any = clip_of(write_kind("t5", tmp_path))
    setattr(clip.tokenizer.tokenizer, side, "left")
    with pytest.raises(ValueError, match=r"its tokenizer pads on the .*allowed .*: right"):
        prompt_tokenizer(clip)
    assert not locates_names(clip)


def test_an_end_that_the_tower_does_not_look_for_is_refused(tmp_path: Path) -> None:
    clip = clip_of(write_kind("xlm", tmp_path) | {"eos_id": 5})
    with pytest.raises(ValueError, match="looks for another end of a text"):
        prompt_tokenizer(clip)


def test_an_end_that_the_tower_takes_for_padding_is_refused(tmp_path: Path) -> None:
    clip: Any = family_clip("roberta", tmp_path)
    prompt_tokenizer(clip)
    clip.text.text.config.pad_token_id = 2  # the end's
    with pytest.raises(ValueError, match="looks for another end of a text"):
        prompt_tokenizer(clip)


def test_what_is_cleaned_away_across_a_names_border_does_not_hide_it(clips: Clips) -> None:
    tokenizer = prompt_tokenizer(clips("roberta"))
    assert (
        clips("roberta").tokenizer(["an &amp;"]).tolist()
        == clips("roberta").tokenizer(["an &"]).tolist()
    )
    (context,), (name,) = tokenizer.named("an &{name};", ["amp"])
    plain = tokenizer.named("an: {name};", ["amp"])[1][0]
    assert len(name) == len(plain)
    assert len(context.pieces) == 2


def test_a_tokenizer_without_places_is_refused(tmp_path: Path) -> None:
    ByT5Tokenizer().save_pretrained(tmp_path)
    clip = clip_of({"hf_tokenizer_name": str(tmp_path), "vocab_size": 400})
    with pytest.raises(ValueError, match="names cannot be located with a ByT5Tok") as refusal:
        prompt_tokenizer(clip)
    assert "\n" not in str(refusal.value)
    require_readable(clip, ["..."])  # nothing is known of it
    assert clip.tokenizer(["okapi"]).shape == (1, 77)
