"""`python -m jobs.bench adapt`: steps of prompt and name learning, as they are and the long way.

The long way is the same mathematics with every prompt in 77 positions and the image tower run in
every step. At ViT-B/16's shapes, random weights, float32, one thread; times are the process's own
CPU seconds, which other load on the machine changes little.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from actors.embedded.concepts import load_concepts
from kernels.contrastive import base_double_loss
from models.building import clip_from_config
from models.clip import Clip
from models.context_learner import ContextLearner
from models.methods.cocoop import ConditionalContext
from models.name_learner import NameLearner

B16 = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16},
    "text_cfg": {"width": 512, "heads": 8, "layers": 12},
}
POSITIONS = 77
IMAGES_AT_ONCE = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptBench:
    """A step (forward, backward, SGD) of FSNL, CoOp and CoCoOp, and its like at 77 tokens."""

    classes: PositiveInt = 40
    """Classes, one prompt and one image each: names spread over the embedded concepts."""
    cocoop_images: PositiveInt = 2
    """Images of CoCoOp's step, each with a prompt per class."""
    steps: PositiveInt = 3
    """Timed steps of each kind, in turns, after one that is not timed."""


def adapting(cfg: AdaptBench) -> dict[str, float]:
    """Ratios are the long way's time over ours, of medians: above 1, ours is faster.

    `…_trimming`: of the text side alone. `…_step`: with the image tower's pass over the step's
    images in the long way, timed apart. Differences of loss and gradient are relative to the
    largest value.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    clip = clip_from_config(B16)
    concepts = load_concepts()
    spread = concepts[:: max(1, len(concepts) // cfg.classes)][: cfg.classes]
    names = [concept.name for concept in spread]
    images = normalize(torch.randn(len(names), clip.embed_dim), dim=-1)
    labels = torch.arange(len(names))
    few = min(cfg.cocoop_images, len(names))

    def fsnl() -> "_Step":
        learner = NameLearner(clip, names, "thing")
        logits = clip.logit_scale * images
        return _Step(learner, learner, lambda: base_double_loss(logits @ _texts(learner), labels))

    def coop() -> "_Step":
        learner = ContextLearner(clip, names)
        logits = clip.logit_scale * images
        return _Step(learner, learner, lambda: cross_entropy(logits @ _texts(learner), labels))

    def cocoop() -> "_Step":
        torch.manual_seed(1)
        model = ConditionalContext(ContextLearner(clip, names), clip)
        return _Step(model, model.learner, lambda: cross_entropy(model(images[:few]), labels[:few]))

    per_image = _image_seconds(clip, cfg.steps)
    figures = {"image_seconds": per_image}
    for name, make, seen in (
        ("fsnl", fsnl, len(names)),
        ("coop", coop, len(names)),
        ("cocoop", cocoop, few),
    ):
        ours, long = make(), make()
        figures[f"{name}_tokens"] = ours.learner.prompts.ids.shape[1]
        long.learner.prompts = long.learner.prompts.padded(POSITIONS)
        figures |= {f"{name}_{k}": v for k, v in _differences(ours, long).items()}
        seconds = [(ours.timed(), long.timed()) for _ in range(cfg.steps)]
        short, whole = (statistics.median(times) for times in zip(*seconds, strict=True))
        figures[f"{name}_seconds"] = short
        figures[f"{name}_trimming"] = whole / short
        figures[f"{name}_step"] = (whole + seen * per_image) / short
    return figures


@dataclasses.dataclass
class _Step:
    """module: what is learned. learner: the part of it that holds the prompts."""

    module: nn.Module
    learner: NameLearner | ContextLearner
    loss: Callable[[], Tensor]

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=1e-3)

    def gradients(self) -> list[Tensor]:
        """Loss and every gradient, flat."""
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        return [loss.detach().view(1), torch.cat([grad.flatten() for grad in gradients])]

    def timed(self) -> float:
        """Seconds of one step."""
        started = time.process_time()
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()
        return time.process_time() - started


def _texts(learner: NameLearner | ContextLearner) -> Tensor:
    return learner.class_features().T


def _differences(ours: _Step, long: _Step) -> dict[str, float]:
    """Also the step that is not timed."""
    pairs = zip(("loss", "gradient"), ours.gradients(), long.gradients(), strict=True)
    return {
        f"{name}_difference": ((a - b).abs().max() / b.abs().max()).item() for name, a, b in pairs
    }


@torch.no_grad()
def _image_seconds(clip: Clip, steps: int) -> float:
    """Seconds per image of the image tower."""
    batch, seconds = torch.randn(IMAGES_AT_ONCE, 3, clip.image_size, clip.image_size), []
    clip.encode_tokens(batch[:1])
    for _ in range(steps):
        started = time.process_time()
        clip.encode_tokens(batch)
        seconds.append(time.process_time() - started)
    return statistics.median(seconds) / IMAGES_AT_ONCE
