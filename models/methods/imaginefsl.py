"""ImagineFSL: a moment adapter, a visual head and a text head tuned on real and imagined images."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor

from kernels.fusion import fuse
from models.clip import Clip
from models.methods.adapted import Adapted, Card, WatchMany, exactly
from models.methods.imagine_model import ADAPTER, ImagineModel
from models.methods.imagine_training import ImagineFslHyper, train
from models.methods.population import BatchedMethod, Learned
from models.methods.teacher import take_over
from models.moment_adapter import AdapterConfig, require_fit
from models.task import Task


class ImagineFslAdapted(Adapted):
    """ImagineFSL's model, with heads `visual`, `text` and `fused`.

    fused: the log of the mixed probabilities, or the score of the other fusion rules, which
    imported models bring.
    """

    def __init__(self, card: Card, clip: Clip, model: ImagineModel) -> None:
        super().__init__(card, clip)
        self.model = model.eval()

    def heads(
        self,
        tokens: Tensor,
        names: Sequence[str] | None = None,
        own: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        self._only_own_names(names, own)
        visual, text = self.model.predict(tokens)
        selection = self.card.selection
        fused = fuse(
            visual, text, selection.fusion_weight, selection.visual_temperature, selection.rule
        )
        if selection.rule == "probabilities":
            fused = fused.log()
        return {"fused": fused, "visual": visual, "text": text}

    def tensors(self) -> dict[str, Tensor]:
        return self.model.state_dict()


class ImagineFsl(BatchedMethod):
    """Adapter (from a teacher or from scratch), both heads and temperature, on frozen tokens.

    loss = w·(CE_visual + λ CE_text) on real + (1 − w)·(the same) on imagined images. AdamW, cosine
    to 0. Head and fusion weight are chosen on val. Source: ImagineFSL (Yang et al., 2025).
    Deviations: the visual head starts as the shots' class means, on moments without their mean
    (the original at random, on the moments as they are; docs/results.md has the difference); the
    heads are trained first, on moments of the starting adapter (the original moves all at once over
    thousands of steps, visual head 10 times and text head 0.2 times as fast as the adapter;
    features pooled once make that part cheap, and a random head would spoil a pretrained adapter:
    Kumar et al., 2022); real and imagined images are drawn independently and steps are stated; the
    temperature is clamped at 100 and not decayed; probabilities are fused, not normed logits.
    """

    name = "imaginefsl"
    Hyper = ImagineFslHyper
    varying = frozenset(
        {
            "head_steps",
            "head_lr",
            "steps",
            "adapter_lr",
            "head_lr_factor",
            "real_weight",
            "text_weight",
            "weight_decay",
            "temperature",
        }
    )

    @staticmethod
    def member_bytes(task: Task, hyper: ImagineFslHyper) -> int:
        """Bytes for the steps on the heads alone; the adapter's are batched by `_adapter_bytes`."""
        return (
            4
            * (hyper.batch_real + hyper.batch_imagined + 5 * task.clip.embed_dim)
            * len(task.names)
        )

    @staticmethod
    def fit_batch(
        task: Task,
        hypers: Sequence[ImagineFslHyper],
        seed: int,
        teacher: dict[str, Tensor] | None,
        watch: WatchMany | None,
    ) -> list[ImagineFslAdapted | None]:
        """teacher: the adapter's weights, as `Teacher.adapter_state` or with `adapter.` in front.

        Without it the adapter starts at random; ValueError if it does not fit `hyper.adapter`.
        """
        model = _initial_model(task, hypers[0], seed, teacher)
        learned = train(model, task, hypers, seed, watch)
        return [
            member and _adapted(model, task, hyper, seed, member)
            for hyper, member in zip(hypers, learned, strict=True)
        ]

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> ImagineFslAdapted:
        adapter = AdapterConfig(**card.hyper["adapter"])
        precision = card.hyper["precision"]
        blocks = {n.removeprefix(ADAPTER): t for n, t in tensors.items() if n.startswith(ADAPTER)}
        require_fit(clip.embed_dim, adapter, blocks)
        model = ImagineModel(clip.embed_dim, len(card.names), adapter, precision)
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        exactly(tensors, shapes, card.method)
        model.to(clip.mean.device).load_state_dict(tensors)
        return ImagineFslAdapted(card, clip, model)


def _initial_model(
    task: Task, hyper: ImagineFslHyper, seed: int, teacher: dict[str, Tensor] | None
) -> ImagineModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ImagineModel(task.clip.embed_dim, len(task.names), hyper.adapter, hyper.precision)
    if teacher is not None:
        take_over(model.adapter, teacher, ImagineFsl.name)
    with torch.no_grad():
        model.text_head.weight.copy_(task.text)
    return model.to(task.text.device)


def _adapted(
    model: ImagineModel, task: Task, hyper: ImagineFslHyper, seed: int, learned: Learned
) -> ImagineFslAdapted:
    parameters, selection = learned
    copy = deepcopy(model)
    copy.load(parameters)
    return ImagineFslAdapted(
        Card.of(ImagineFsl.name, task, hyper, seed, selection), task.clip, copy
    )
