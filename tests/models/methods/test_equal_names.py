"""Classes of one name: each is learned, saved and answered with by its place, not by its name."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from models.context_learner import TEMPLATE, ContextLearner
from models.methods import METHODS, load_adapted
from models.methods.adapted import OTHER, own_places
from models.methods.fsnl import FsnlHyper
from models.name_learner import NameLearner
from models.prompts.interface import SLOT, fsnl_template
from models.prompts.registry import require_readable
from models.task import Task
from models.text_classifier import text_classifier
from tests.models.methods.tasks import TEMPLATE as HAND
from tests.models.methods.tasks import accuracy, features, task, tiny_clip

TWINS = ["fox", "fox", "goat", "worm"]
FSNL, HYPER = METHODS["fsnl"], FsnlHyper(lr=0.1, epochs=60)
PUNCTUATED = ["C++", "Yahoo!", "St. Bernard Jr.", "wow!!!", "{}", "f(x)", "...", "Jr…", "okapi"]


def twins(names: list[str]) -> Task:
    """Four classes that can be told apart by their images."""
    text = text_classifier(tiny_clip(), names, [HAND])
    return replace(task(classes=4), names=names, text=text)


@pytest.mark.parametrize("names", [TWINS, ["fox", "Fox", "goat", "worm"]], ids=["equal", "case"])
def test_learned_names_of_one_spelling_are_kept_apart(names: list[str], tmp_path: Path) -> None:
    cell, test = twins(names), features(20, 7, classes=4)
    assert cell.val is not None
    adapted = FSNL.fit(cell, HYPER, seed=0)
    adapted.save(tmp_path)
    for model in (adapted, load_adapted(tmp_path, tiny_clip())):
        assert accuracy(model.logits(cell.val.clean), cell.val.labels) == pytest.approx(
            model.card.selection.val_accuracy
        )
        of_foxes = test.labels < 2
        assert accuracy(model.logits(test.clean)[of_foxes], test.labels[of_foxes]) > 0.9
    assert len(adapted.tensors()) == 4


def test_a_label_space_says_which_of_its_classes_were_taught() -> None:
    """Of two cranes one was learned; the other is CLIP's."""
    cell, tokens = replace(task(classes=2), names=["crane", "okapi"]), features(3, 7).clean
    for method, hyper in (("fsnl", HYPER), ("zero_shot", METHODS["zero_shot"].Hyper())):
        adapted = METHODS[method].fit(cell, hyper, seed=0)
        joint = adapted.logits(tokens, ["crane", "ant", "crane", "okapi"], [OTHER, OTHER, 0, 1])
        torch.testing.assert_close(joint[:, 2:], adapted.logits(tokens))
        others = adapted.logits(tokens, ["crane", "ant"], [OTHER, OTHER])
        torch.testing.assert_close(joint[:, :2], others)
        with pytest.raises(ValueError, match="'crane' is 1 classes of the model, but 2 of"):
            adapted.logits(tokens, ["crane", "ant", "crane", "okapi"])


def test_names_are_taken_for_the_models_own_where_they_leave_nothing_open() -> None:
    assert own_places(["goat", "cat", "fox", "fox"], TWINS) == [2, OTHER, 0, 1]
    assert own_places(["cat", "cat"], TWINS) == [OTHER, OTHER]
    with pytest.raises(ValueError, match="'fox' is 2 classes of the model, but 1 of those"):
        own_places(["fox", "goat"], TWINS)


@pytest.mark.parametrize("method", ["linear_probe", "tip_adapter", "taskres"])
def test_a_classifier_per_class_answers_in_its_own_order_alone(method: str) -> None:
    adapted = METHODS[method].fit(twins(TWINS), METHODS[method].Hyper(), seed=0)
    tokens = features(1, 7).clean
    assert torch.equal(adapted.logits(tokens, TWINS, [0, 1, 2, 3]), adapted.logits(tokens))
    with pytest.raises(ValueError, match="one classifier per trained class"):
        adapted.logits(tokens, TWINS, [1, 0, 2, 3])


def test_names_that_end_in_punctuation_are_their_own_zero_shot_before_anything_is_learned() -> None:
    hand = fsnl_template("thing").replace(SLOT, "{}")
    learned = NameLearner(tiny_clip(), PUNCTUATED, "thing").class_features()
    torch.testing.assert_close(learned, text_classifier(tiny_clip(), PUNCTUATED, [hand]))
    context = ContextLearner(tiny_clip(), PUNCTUATED).class_features()
    plain = text_classifier(tiny_clip(), PUNCTUATED, [TEMPLATE.replace(SLOT, "{}")])
    torch.testing.assert_close(context, plain)


def test_punctuated_names_are_saved_as_they_were_learned(tmp_path: Path) -> None:
    names, tokens = ["C++", "C#", "wow!!!", "ant"], features(3, 7).clean
    adapted = FSNL.fit(replace(task(classes=4, captions=True), names=names), HYPER, seed=0)
    adapted.save(tmp_path)
    again = load_adapted(tmp_path, tiny_clip())
    assert torch.equal(again.logits(tokens), adapted.logits(tokens))
    assert normalize(adapted.logits(tokens), dim=-1).isfinite().all()


def test_a_name_longer_than_clip_reads_is_told() -> None:
    require_readable(tiny_clip(), ["ant " * 75, "okapi"])
    for name, contexts, words in (
        ("ant " * 76, (), "76 tokens; allowed 1 to 75"),
        ("ant " * 72, {TEMPLATE}, "72 tokens; allowed 1 to 71"),
        (" ", (), "0 tokens"),
    ):
        with pytest.raises(ValueError, match=words):
            require_readable(tiny_clip(), ["okapi", name], contexts)
