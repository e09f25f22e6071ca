import re

import pytest
import torch
from torch.nn.functional import normalize

from models.text_classifier import (
    IMAGENET_TEMPLATES,
    OF_PROMPTS,
    templates,
    text_classifier,
    zero_shot_classifier,
)
from tests.models.methods.tasks import TEMPLATE, tiny_clip


def test_one_template_is_the_normalised_text_feature() -> None:
    clip = tiny_clip()
    ids = clip.tokenizer(["a photo of a ant eater, a type of animal."])
    expected = normalize(clip.encode_text(ids), dim=-1)
    torch.testing.assert_close(text_classifier(clip, ["ant_eater"], [TEMPLATE]), expected)


def test_templates_are_averaged_as_unit_vectors() -> None:
    clip, which = tiny_clip(), templates("ensemble", TEMPLATE)
    assert which == (*IMAGENET_TEMPLATES, TEMPLATE)
    one_by_one = torch.stack([text_classifier(clip, ["ant", "okapi"], [t]) for t in which])
    expected = normalize(one_by_one.mean(dim=0), dim=-1)
    torch.testing.assert_close(text_classifier(clip, ["ant", "okapi"], which), expected)


def test_prompts_of_a_class_are_averaged_as_unit_vectors() -> None:
    clip, names = tiny_clip(), ["ant", "okapi"]
    prompts = [["an ant", "a small ant"], ["an okapi"]]
    classifier = zero_shot_classifier(clip, names, "prompts", TEMPLATE, prompts)
    one_by_one = [text_classifier(clip, [text], ["{}"]) for texts in prompts for text in texts]
    ant = normalize((one_by_one[0] + one_by_one[1]) / 2, dim=-1)
    torch.testing.assert_close(classifier, torch.cat([ant, one_by_one[2]]))
    for which in OF_PROMPTS:
        with pytest.raises(ValueError, match=f"{re.escape(which)}', but .* came without prompts"):
            zero_shot_classifier(clip, names, which, TEMPLATE, [])


def test_prompts_and_templates_count_alike_in_one_mean() -> None:
    clip, prompts = tiny_clip(), [["an ant", "a small ant", "ants {at} work"], ["an okapi"]]
    classifier = zero_shot_classifier(
        clip, ["ant", "okapi"], "templates+prompts", TEMPLATE, prompts
    )
    for row, name, of_class in zip(classifier, ("ant", "okapi"), prompts, strict=True):
        texts = [template.format(name) for template in IMAGENET_TEMPLATES] + of_class
        unit = normalize(clip.encode_text(clip.tokenizer(texts)), dim=-1)
        torch.testing.assert_close(row, normalize(unit.mean(dim=0), dim=-1))
    assert templates("templates+prompts", TEMPLATE) == IMAGENET_TEMPLATES, "of other names"


def test_rows_are_unit_vectors_in_the_order_of_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, names = tiny_clip(), [f"creature {i}" for i in range(9)]
    whole = text_classifier(clip, names, [TEMPLATE])
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(9))
    monkeypatch.setattr("models.text_classifier.TEXTS_PER_BATCH", 2)
    torch.testing.assert_close(text_classifier(clip, names, [TEMPLATE]), whole)


@pytest.mark.parametrize("name", ["{}", "{0}", "50% {x}", "../../x"])
def test_any_name_can_be_filled_in(name: str) -> None:
    assert text_classifier(tiny_clip(), [name], [TEMPLATE]).isfinite().all()


def test_a_template_without_a_place_for_the_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"template 'a photo' has no \{\}"):
        templates("hand", "a photo")
