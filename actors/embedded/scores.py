"""What a CLIP knows of the embedded datasets before any adaptation, for its model card."""

import torch
from torch.nn import functional as F

from actors.embedded.concepts import SUBJECTS
from actors.embedded.target_scenes import target_concepts, target_hint, target_rows
from actors.pictures.codec import decode_rgb, resized_square
from models.clip import Clip

SHOTS = 4


def embedded_scores(clip: Clip) -> dict[str, dict[str, float]]:
    """Per embedded dataset, IP and OOP classes apart, each in its own label space, on test.

    "zero_shot": accuracy by the hand template. "prototypes": accuracy of the nearest mean of the
    image features of SHOTS training images per class, which no name plays a part in.
    """
    return {dataset: _scores(clip, dataset) for dataset in SUBJECTS}


@torch.inference_mode()
def _scores(clip: Clip, dataset: str) -> dict[str, float]:
    rows = list(target_rows(dataset))
    pictures = [resized_square(decode_rgb(row["image"]), clip.image_size) for row in rows]
    images = torch.stack([torch.from_numpy(picture.copy()) for picture in pictures]).movedim(-1, 1)
    z = [clip.encode_tokens(clip.normalise(batch))[:, 0] for batch in images.split(256)]
    features = F.normalize(torch.cat(z), dim=-1)
    scores = {}
    for group in ("IP", "OOP"):
        names = [concept.name for concept in target_concepts(dataset) if concept.group == group]
        prompts = [f"a photo of a {name}, a type of {target_hint(dataset)}." for name in names]
        text = F.normalize(clip.encode_text(clip.tokenizer(prompts)), dim=-1)
        of = {
            name: {s: [i for i, r in enumerate(rows) if r["class_name"] == name and r["split"] == s]
                   for s in ("train", "test")}
            for name in names
        }  # fmt: skip
        test = torch.tensor([i for name in names for i in of[name]["test"]])
        label = torch.tensor([c for c, name in enumerate(names) for _ in of[name]["test"]])
        means = torch.stack([features[of[name]["train"][:SHOTS]].mean(dim=0) for name in names])
        for kind, classifier in (("zero_shot", text), ("prototypes", F.normalize(means, dim=-1))):
            right = (features[test] @ classifier.T).argmax(dim=1) == label
            scores[f"{kind}_{group}"] = round(right.float().mean().item(), 4)
    return scores
