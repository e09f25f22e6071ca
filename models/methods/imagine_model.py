"""The trained part of ImagineFSL: moment adapter, visual head, text head, temperature."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import normalize

from kernels.moments import moments
from models.moment_adapter import AdapterConfig, MomentAdapter, stacked_adapt
from models.precision import Precision, autocast

MAX_TEMPERATURE = 100.0
SPREAD = 10.0
"""Mean distance of the shots' moments, as the visual head reads them, from their mean."""
IMAGES_PER_PASS = 256
ADAPTER = "adapter."
HEADS = ("visual_head.weight", "visual_head.bias", "text_head.weight", "text_head.bias")
TEMPERATURE = "log_temperature"


@dataclass(frozen=True)
class Pooled:
    """What the heads read of B images: moments (B, 4D) of adapted tokens; unit-norm cls (B, D)."""

    moments: Tensor
    cls: Tensor

    def rows(self, rows: Tensor) -> "Pooled":
        """What the heads read of some images; rows: (K,) int64."""
        return Pooled(self.moments[rows], self.cls[rows])

    @staticmethod
    def join(parts: Sequence["Pooled"]) -> "Pooled":
        """All images of the parts, one part after the other."""
        return Pooled(torch.cat([p.moments for p in parts]), torch.cat([p.cls for p in parts]))


class ImagineModel(nn.Module):
    """B images, T tokens, D channels, C classes.

    The visual head reads the adapted tokens' moments without the mean of the shots it was started
    on, all divided by one number, and starts as their class means (our addition). Each channel for
    itself divided by its deviation, as it once was, weighs the many channels that tell nothing
    apart as much as those that do. The text head starts as the zero-shot classifier and reads
    CLIP's own class token, so before the first step it is zero-shot CLIP.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, dim: int, classes: int, adapter: AdapterConfig, precision: Precision
    ) -> None:
        super().__init__()
        self.precision = precision
        self.adapter = MomentAdapter(dim, adapter)
        self.register_buffer("mean", torch.zeros(4 * dim))
        # One number in all channels; in models of before each channel has its own.
        self.register_buffer("deviation", torch.ones(4 * dim))
        self.visual_head = nn.Linear(4 * dim, classes)
        self.text_head = nn.Linear(dim, classes)
        self.log_temperature = nn.Parameter(torch.tensor(0.0))
        nn.init.normal_(self.visual_head.weight, std=0.01)
        nn.init.zeros_(self.visual_head.bias)
        nn.init.zeros_(self.text_head.bias)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D) frozen tokens to visual and text logits, (B, C) float32 each."""
        return self.logits(self.pool(tokens))

    def pool(self, tokens: Tensor) -> Pooled:
        """(B, T, D) frozen tokens, any float dtype, anywhere, to what the heads read, float32."""
        tokens = tokens.to(self.mean.device).float()
        with autocast(tokens.device, self.precision):
            adapted = self.adapter(tokens)
        return Pooled(moments(adapted), normalize(tokens[:, 0], dim=-1))

    def logits(self, pooled: Pooled) -> tuple[Tensor, Tensor]:
        """Visual and text logits, (B, C) float32 each."""
        return self.stacked_logits(dict(self.named_parameters()), pooled)

    def stacked_logits(
        self, parameters: Mapping[str, Tensor], pooled: Pooled
    ) -> tuple[Tensor, Tensor]:
        """Logits of other heads than its own; of k, (k, B, C), where they are stacked."""
        weight, bias, text_weight, text_bias = (parameters[name] for name in HEADS)
        visual = self._centred(pooled.moments) @ weight.mT + bias.unsqueeze(-2)
        text = pooled.cls @ text_weight.mT + text_bias.unsqueeze(-2)
        return visual, text * parameters[TEMPERATURE].exp()[..., None, None]

    def stacked_pool(self, parameters: Mapping[str, Tensor], tokens: Tensor) -> Pooled:
        """`pool` by k adapters: moments (k, B, 4D); parameters: (k, …) each."""
        adapters = {n.removeprefix(ADAPTER): p for n, p in parameters.items() if ADAPTER in n}
        tokens = tokens.to(self.mean.device).float()
        with autocast(tokens.device, self.precision):
            if len(parameters[TEMPERATURE]) == 1:  # a plain block is some percent faster
                alone = {name: stack[0] for name, stack in adapters.items()}
                adapted = functional_call(self.adapter, alone, (tokens,)).unsqueeze(0)
            else:
                adapted = stacked_adapt(adapters, tokens, self.adapter.config.heads)
        pooled = moments(adapted.flatten(0, 1)).unflatten(0, adapted.shape[:2])
        return Pooled(pooled, normalize(tokens[:, 0], dim=-1))

    @torch.no_grad()
    def pool_all(self, tokens: Tensor) -> Pooled:
        """`pool` without gradient for any number of images, in bounded memory."""
        parts = [self.pool(part) for part in tokens.split(IMAGES_PER_PASS)]
        return Pooled.join(parts)

    @torch.no_grad()
    def predict(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` without gradient for any number of images, in bounded memory."""
        return self.logits(self.pool_all(tokens))

    @torch.no_grad()
    def start_on(self, shots: Pooled, labels: Tensor) -> None:
        """Takes the moments' mean and scale from these images, and the head from class means.

        The visual logits are then cosines, times the image's own distance from the mean. labels:
        (B,) int64. A class without an image keeps the head's own weights.
        """
        self.mean.copy_(shots.moments.mean(dim=0))
        distance = (shots.moments - self.mean).norm(dim=1).mean()
        if distance > 0:  # else they are one image
            self.deviation.fill_(distance / SPREAD)
        sums = torch.zeros_like(self.visual_head.weight)
        sums.index_add_(0, labels, self._centred(shots.moments))
        known = labels.unique()
        self.visual_head.weight[known] = normalize(sums[known], dim=1)

    def _centred(self, moments: Tensor) -> Tensor:
        """Moments as the visual head reads them."""
        return (moments - self.mean) / self.deviation

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        self.log_temperature.clamp_(max=math.log(MAX_TEMPERATURE))

    @torch.no_grad()
    def load(self, parameters: Mapping[str, Tensor]) -> None:
        """Copies these parameters, by their names, into the model's own."""
        for name, tensor in parameters.items():
            self.get_parameter(name).copy_(tensor)
