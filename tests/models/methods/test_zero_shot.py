import torch

from models.methods.zero_shot import ZeroShot, ZeroShotHyper
from models.text_classifier import templates, text_classifier
from tests.models.methods.tasks import NAMES, TEMPLATE, features, task, tiny_clip


def test_logits_are_scaled_cosines_with_the_hand_prompt() -> None:
    tokens = features(2, 7).clean
    logits = ZeroShot.fit(task(), ZeroShotHyper(), seed=0).logits(tokens)
    unit = torch.nn.functional.normalize(tokens[:, 0].float(), dim=-1)
    text = text_classifier(tiny_clip(), NAMES, [TEMPLATE])
    torch.testing.assert_close(logits, tiny_clip().logit_scale * unit @ text.T)


def test_any_names_can_be_the_label_space() -> None:
    tokens = features(2, 7).clean
    adapted = ZeroShot.fit(task(), ZeroShotHyper(templates="ensemble"), seed=0)
    joint = adapted.logits(tokens, [*NAMES, "saola"])
    torch.testing.assert_close(joint[:, :-1], adapted.logits(tokens))
    one = text_classifier(tiny_clip(), ["saola"], templates("ensemble", TEMPLATE))
    unit = torch.nn.functional.normalize(tokens[:, 0].float(), dim=-1)
    torch.testing.assert_close(joint[:, -1:], tiny_clip().logit_scale * unit @ one.T)
