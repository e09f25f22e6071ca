import pytest
import torch

from models.context_learner import ContextLearner
from models.methods import METHODS
from models.methods.cocoop import ConditionalContext
from models.methods.coop import CoOpHyper
from models.name_learner import NameLearner
from models.text_classifier import text_classifier
from tests.models.methods.tasks import NAMES, task, tiny_clip

LONG = [*NAMES, "a creature with a name of very many words"]


def test_untrained_it_is_zero_shot_clip() -> None:
    features = ContextLearner(tiny_clip(), NAMES).class_features()
    torch.testing.assert_close(
        features.detach(), text_classifier(tiny_clip(), NAMES, ["a photo of a {}."])
    )


@pytest.mark.parametrize("learn", ["names", "context"])
def test_trimming_to_the_longest_prompt_changes_neither_result_nor_gradient(learn: str) -> None:
    results = []
    for length in (None, 77):
        learner = (
            NameLearner(tiny_clip(), LONG, "animal")
            if learn == "names"
            else ContextLearner(tiny_clip(), LONG)
        )
        if length:
            learner.prompts = learner.prompts.padded(length)
        assert learner.prompts.ids.shape[1] == (length or learner.prompts.eot.max() + 1)
        features = learner.class_features()
        torch.autograd.backward(features, torch.randn(features.shape, generator=seeded()))
        results.append((features.detach(), next(learner.parameters()).grad))
    for trimmed, whole in zip(*results, strict=True):
        torch.testing.assert_close(trimmed, whole, rtol=0, atol=1e-5)


def test_images_in_one_pass_are_images_one_by_one() -> None:
    torch.manual_seed(0)
    model = ConditionalContext(ContextLearner(tiny_clip(), NAMES), tiny_clip())
    images = torch.nn.functional.normalize(torch.randn(7, 16, generator=seeded()), dim=-1)
    whole = model.predict(images)
    torch.testing.assert_close(torch.cat([model.predict(image[None]) for image in images]), whole)
    bias = model.up(model.down(images[3]).relu())
    text = model.learner.features((model.learner.context + bias)[None])[0]
    torch.testing.assert_close(whole[3], tiny_clip().logit_scale * (text @ images[3]).detach())


def test_a_name_that_leaves_no_room_for_the_context_is_refused() -> None:
    with pytest.raises(ValueError, match="has 72 tokens; allowed 1 to 71"):
        ContextLearner(tiny_clip(), ["ant " * 72])


def test_the_checkpoint_holds_the_context_only() -> None:
    tensors = METHODS["coop"].fit(task(), CoOpHyper(epochs=1), seed=0).tensors()
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {"context": (4, 16)}


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)
