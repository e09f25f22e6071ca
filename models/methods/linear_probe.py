"""Linear probe: logistic regression on frozen image features, its C chosen on val."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jsonargparse.typing import NonNegativeInt, PositiveFloat
from torch import Tensor

from models.clip import Clip
from models.methods.adapted import (
    Adapted,
    Card,
    Method,
    Watch,
    class_tokens,
    exactly,
    refuse_teacher,
)
from models.methods.selection import Selection, only_head
from models.task import Features, Task

COARSE = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)


@dataclass(frozen=True, kw_only=True)
class LinearProbeHyper:
    default_c: PositiveFloat = 100.0
    """Inverse strength of the L2 penalty where no val is there to choose it."""
    bisections: NonNegativeInt = 8
    """Halvings of log C around the best coarse value, two fits each."""


class LinearProbeAdapted(Adapted):
    """One head, `visual`: W z + b on unit-norm image features z."""

    reads = "class token"

    def __init__(self, card: Card, clip: Clip, weight: Tensor, bias: Tensor) -> None:
        super().__init__(card, clip)
        self.weight, self.bias = weight, bias

    def heads(
        self,
        tokens: Tensor,
        names: Sequence[str] | None = None,
        own: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        self._only_own_names(names, own)
        return {"visual": class_tokens(tokens) @ self.weight.T + self.bias}

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "bias": self.bias}


class LinearProbe(Method):
    """Multinomial logistic regression (L2, L-BFGS, 1000 iterations at most) on the clean view.

    C: first best by val accuracy of 1e6, 1e4, … 1e-6, then bisection of log C between 0.1 and 10
    times it, keeping the half of the better end (a tie goes left). Source: CoOp's linear probe as
    in LAION-Beyond. Deviations: features are of unit norm (raw ones make C depend on the backbone's
    scale), and the best C that val has seen is kept, where the original keeps the last one tried.
    """

    name = "linear_probe"
    Hyper = LinearProbeHyper
    reads = "class token"

    @staticmethod
    def fit(
        task: Task,
        hyper: LinearProbeHyper,
        seed: int,
        teacher: dict[str, Tensor] | None = None,
        watch: Watch | None = None,
    ) -> LinearProbeAdapted:
        refuse_teacher(LinearProbe.name, teacher)
        present = task.train.labels.unique()
        if len(present) < 2:
            raise ValueError(f"{LinearProbe.name} needs 2 classes in train, got {len(present)}")
        if task.val is None or not len(task.val):
            weight, bias = _regression(task.train, len(task.names), hyper.default_c)
        else:
            weight, bias = _best_regression(task.train, task.val, len(task.names), hyper.bisections)
        selection = Selection("visual")
        if task.val:
            logits = class_tokens(task.val.clean) @ weight.T + bias
            selection = only_head("visual", logits, task.val.labels)
        card = Card.of(LinearProbe.name, task, hyper, seed, selection)
        return LinearProbeAdapted(card, task.clip, weight, bias)

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> LinearProbeAdapted:
        classes = len(card.names)
        exactly(tensors, {"weight": (classes, clip.embed_dim), "bias": (classes,)}, card.method)
        return LinearProbeAdapted(card, clip, tensors["weight"], tensors["bias"])


def _best_regression(
    train: Features, val: Features, classes: int, bisections: int
) -> tuple[Tensor, Tensor]:
    """Weight (C, D) and bias (C,) of the C that is best on val, the first of equals."""
    fits: dict[float, tuple[float, tuple[Tensor, Tensor]]] = {}
    features = class_tokens(val.clean)

    def accuracy(c: float) -> float:
        if c not in fits:
            weight, bias = _regression(train, classes, c)
            hits = (features @ weight.T + bias).argmax(dim=1) == val.labels
            fits[c] = hits.float().mean().item(), (weight, bias)
        return fits[c][0]

    centre = max(COARSE, key=accuracy)
    left, right = np.log10(0.1 * centre), np.log10(10 * centre)
    for _ in range(bisections):
        middle = (left + right) / 2
        if accuracy(10**left) >= accuracy(10**right):
            right = middle
        else:
            left = middle
    return max(fits.values(), key=lambda fit: fit[0])[1]


def _regression(train: Features, classes: int, c: float) -> tuple[Tensor, Tensor]:
    """One fit; classes that train does not hold get a logit below all others."""
    # Seconds of every worker's start, which other methods need not wait for.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, solver="lbfgs", max_iter=1000)
    with warnings.catch_warnings():
        # a huge C on separable shots has no finite optimum; 1000 iterations are the protocol
        warnings.simplefilter("ignore", ConvergenceWarning)
        # one shot of many classes is no regression
        warnings.filterwarnings("ignore", message="The number of unique classes")
        model.fit(class_tokens(train.clean).cpu().numpy(), train.labels.cpu().numpy())
    coefficients, intercepts = model.coef_, model.intercept_
    if len(coefficients) == 1:  # two classes come as one difference
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight = torch.zeros(classes, coefficients.shape[1])
    bias = torch.full((classes,), float(intercepts.min()) - 1e4)
    weight[model.classes_] = torch.from_numpy(coefficients).float()
    bias[model.classes_] = torch.from_numpy(intercepts).float()
    return weight.to(train.labels.device), bias.to(train.labels.device)
