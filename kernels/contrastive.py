"""Contrastive losses between images and texts where one text may have several matching images.

B images, C classes (one text each), T texts; S = s·Z·Uᵀ are cosine similarities times the frozen
logit scale s.
"""

import torch
from torch import Tensor

REFERENCE_EPS = 1e-10


def multi_positive_loss_reference(logits: Tensor, positives: Tensor) -> Tensor:
    """−mean over rows of log(Σ_j P_ij softmax_j(S_i)_j + 1e-10).

    logits: (R, K) float; positives: (R, K) bool. Returns a scalar in logits.dtype.
    The 1e-10 makes the loss saturate at 23.03 with a vanishing gradient, and a row without any
    positive adds that constant. It is kept only to compare with the published numbers.
    Source: FSNL's caption loss as implemented in LAION-Beyond.
    """
    probabilities = logits.softmax(dim=1)
    mass = (probabilities * positives).sum(dim=1)
    return -(mass + REFERENCE_EPS).log().mean()


def multi_positive_loss(logits: Tensor, positives: Tensor) -> Tensor:
    """−mean over rows of log Σ_j P_ij softmax_j(S_i)_j, through logsumexp.

    logits: (R, K) float; positives: (R, K) bool. Returns a scalar in logits.dtype.
    Equal to `multi_positive_loss_reference` up to its eps, with two deviations: it never saturates,
    and rows without a positive (classes absent from the batch) are left out of the mean. With no
    positive at all it is 0, still differentiable.
    """
    present = positives.any(dim=1)
    rows, mask = logits[present], positives[present]
    if not len(rows):
        return logits.sum() * 0
    matched = rows.masked_fill(~mask, -torch.inf).logsumexp(dim=1)
    return (rows.logsumexp(dim=1) - matched).mean()


def base_double_loss_reference(logits: Tensor, labels: Tensor) -> Tensor:
    """FSNL's base loss with the reference's eps; see `base_double_loss`.

    logits: (B, C) float; labels: (B,) int64. Classes absent from the batch add 23.03 / C each.
    """
    positives = _same_class(labels, logits.shape[1])
    to_text = multi_positive_loss_reference(logits, positives)
    to_image = multi_positive_loss_reference(logits.T, positives.T)
    return (to_text + to_image) / 2


def base_double_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Image-to-text cross-entropy and text-to-image multi-positive loss, averaged.

    logits: (B, C) float, images against class texts; labels: (B,) int64 in [0, C).
    Returns a scalar: (l_img + l_txt) / 2, where l_txt is the mean over the classes that the batch
    holds (the reference adds a constant for the others; our deviation changes no gradient's
    direction, only the weight of l_txt). Source: FSNL, the "base double" loss.
    """
    positives = _same_class(labels, logits.shape[1])
    return (multi_positive_loss(logits, positives) + multi_positive_loss(logits.T, positives.T)) / 2


def caption_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Symmetric multi-positive loss of images against one caption per image.

    logits: (B, B) float, row i an image, column j the caption of sample j; labels: (B,) int64.
    Every pair of the same class is positive. Returns a scalar. Source: FSNL, the caption loss.
    """
    positives = labels[:, None] == labels[None, :]
    return (multi_positive_loss(logits, positives) + multi_positive_loss(logits.T, positives)) / 2


def _same_class(labels: Tensor, classes: int) -> Tensor:
    return labels[:, None] == torch.arange(classes, device=labels.device)[None, :]
