"""FSNL against a folder of golden tensors; every size, name and text is read from the folder.

Called by `python -m tests.parity DIR`. The folder holds config.json (open_clip model config, class
names, hint, template, captions, truncation text), open_clip_tiny.pth and golden.npz.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from kernels.contrastive import base_double_loss_reference, multi_positive_loss_reference
from models.building import clip_from_config
from models.clip import Clip
from models.name_learner import NameLearner
from models.prompts.interface import PromptTokenizer

WEIGHTS, NUMBERS, CONFIG = "open_clip_tiny.pth", "golden.npz", "config.json"


def check(path: Path) -> dict[str, float]:
    """Largest relative error per quantity: max |ours − golden| over max |golden|.

    path: a folder as described above. The losses are the reference's, eps included, for a batch
    may lack a class.
    """
    config = json.loads((path / CONFIG).read_text())
    golden = {name: torch.from_numpy(a) for name, a in np.load(path / NUMBERS).items()}
    state = torch.load(path / WEIGHTS, map_location="cpu", weights_only=True)
    clip = clip_from_config(config["model"], state, backbone=str(path))
    learner = NameLearner(clip, config["classnames"], config["hint"])
    errors = _base(learner, clip, golden, config["optimizer"])
    errors |= _captions(learner, clip, golden, config)
    errors |= _multi_positive(golden)
    errors["truncation.tokens"] = _truncation(learner.tokenizer, golden, config)
    return errors


def _base(
    learner: NameLearner, clip: Clip, golden: dict[str, Tensor], optimizer: str
) -> dict[str, float]:
    """Steps of plain SGD on the base loss, from CLIP's own name embeddings."""
    labels, lr = golden["labels"], _number_after("lr", optimizer)
    images = normalize(clip.encode_tokens(golden["images"])[:, 0], dim=-1)
    given = normalize(golden["image_features"], dim=-1)
    errors = {"image_features": relative_error(images, given)}
    sgd = torch.optim.SGD(learner.parameters(), lr)
    step = 0
    while f"base.step{step}.loss" in golden:
        logits = clip.logit_scale * given @ learner.class_features().T
        if step == 0:
            errors["logits_init"] = relative_error(logits.detach(), golden["logits_init"])
        loss = base_double_loss_reference(logits, labels)
        sgd.zero_grad()
        loss.backward()
        norm = learner.table.grad.norm() if learner.table.grad is not None else torch.zeros(())
        for name, value in {"loss": loss.detach(), "grad_norm": norm}.items():
            key = f"base.step{step}.{name}"
            errors[key] = relative_error(value, golden[key])
        sgd.step()
        step += 1
    with torch.no_grad():
        logits = clip.logit_scale * given @ learner.class_features().T
    errors["base.logits_after"] = relative_error(logits, golden["base.logits_after"])
    for i, embedding in enumerate(learner.embeddings()):
        key = f"name_embedding_after.{i}"
        errors[key] = relative_error(embedding.detach(), golden[key])
    return errors


@torch.no_grad()
def _captions(
    learner: NameLearner, clip: Clip, golden: dict[str, Tensor], config: dict[str, Any]
) -> dict[str, float]:
    """The captions with the learned names in them, contexts not swapped."""
    labels = golden["labels"]
    found = learner.tokenizer.captions(config["captions"], labels.tolist(), config["classnames"])
    of_labels = zip(found, labels.tolist(), strict=True)
    contexts = [context or learner.hands[label] for context, label in of_labels]
    names = [learner.names[label] for label in labels.tolist()]
    texts = learner.features(learner.tokenizer.fill(contexts, names), labels)
    images = normalize(golden["image_features"], dim=-1)
    logits, positives = clip.logit_scale * images @ texts.T, labels[:, None] == labels[None, :]
    loss = (
        multi_positive_loss_reference(logits, positives)
        + multi_positive_loss_reference(logits.T, positives)
    ) / 2
    given = normalize(golden["caption.text_features"], dim=-1)
    return {
        "caption.text_features": relative_error(texts, given),
        "caption.loss_unswapped": relative_error(loss, golden["caption.loss_unswapped"]),
    }


def _multi_positive(golden: dict[str, Tensor]) -> dict[str, float]:
    rows, columns = golden["multipos.row_labels"], golden["multipos.col_labels"]
    loss = multi_positive_loss_reference(
        golden["multipos.logits"], rows[:, None] == columns[None, :]
    )
    return {"multipos.loss": relative_error(loss, golden["multipos.loss"])}


def _truncation(
    tokenizer: PromptTokenizer, golden: dict[str, Tensor], config: dict[str, Any]
) -> float:
    """Ids that differ: 0 or more. The text belongs to its first name; a later one may be cut."""
    text, names = config["truncation_text"], config["classnames"]
    contexts = tokenizer.captions([text] * len(names), range(len(names)), names)
    found = [(len(c.pieces[0]), c, label) for label, c in enumerate(contexts) if c is not None]
    if not found:
        raise ValueError(f"truncation_text: none of the class names {names} stands in it")
    _, context, label = min(found, key=lambda place: place[0])
    (name,) = tokenizer.named("{name}", [names[label]])[1]
    ours = tokenizer.fill([context], [name]).ids[0]
    expected = golden["truncation.tokens"]
    padded = torch.zeros_like(expected)
    padded[: len(ours)] = ours
    return float((padded != expected).sum())


def relative_error(ours: Tensor, golden: Tensor) -> float:
    """max |ours − golden| / max |golden|; inf if the shapes differ."""
    if ours.shape != golden.shape:
        return float("inf")
    scale = golden.double().abs().max().clamp(min=1e-12)
    return ((ours.double() - golden.double()).abs().max() / scale).item()


def _number_after(word: str, text: str) -> float:
    found = re.search(rf"{word}\s+([\d.e-]+)", text)
    if found is None:
        raise ValueError(f"optimizer: {text!r} states no {word}")
    return float(found.group(1))
