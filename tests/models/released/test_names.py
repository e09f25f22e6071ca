"""FSNL's checkpoints of learned names, written as its code writes them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from jobs.export import ExportModelConfig, export_model
from jobs.import_ import ImportNamesConfig, import_names
from models.backbones import load_clip
from models.clip import Clip
from models.methods import load_adapted
from models.methods.fsnl import Fsnl, FsnlHyper
from models.released.names import NAME, TABLE, NamesConfig, read_names
from models.task import Features, Task
from tests.models.methods.tasks import NAMES, task, tiny_clip

LENGTHS = {"Red_Panda": 3, "St. Bernard": 5, "okapi": 2}
"""Embeddings of names as a checkpoint may have them."""


def checkpoint(path: Path, clip: Clip, **more: Any) -> NamesConfig:
    generator = torch.Generator().manual_seed(0)
    table = clip.token_embedding(torch.arange(clip.config["text_cfg"]["vocab_size"])).detach()
    state: dict[str, Tensor] = {
        NAME + name.replace(".", " ").lower(): torch.randn(
            length, clip.text_width, generator=generator
        )
        for name, length in LENGTHS.items()
    }
    state |= {TABLE: table} | more
    torch.save({"state_dict": state, "epoch": 200, "optimizer": {"lr": 0.1}}, path)
    return NamesConfig(file=str(path), names=list(LENGTHS), hint="animal", dataset="animals")


def as_fsnl_reads(clip: Clip, embeddings: Tensor, hint: str) -> Tensor:
    """The text feature of "a photo of NAME, a type of HINT." as the original's text2embedding makes
    it: each piece encoded by itself, the name's embeddings between, padded to all 77 places."""
    words: Any = clip.tokenizer
    before, after = map(words.encode, ("a photo of ", f", a type of {hint}."))
    start, end = words.sot_token_id, words.eot_token_id
    ids = torch.tensor([start, *before, *[320] * len(embeddings), *after, end])
    table = clip.token_embedding(torch.nn.functional.pad(ids, (0, 77 - len(ids))))
    table[1 + len(before) : 1 + len(before) + len(embeddings)] = embeddings
    feature = clip.encode_embeddings(table[None], torch.tensor([len(ids) - 1]))
    return normalize(feature, dim=-1)[0]


def test_names_of_any_length_are_read_as_the_original_reads_them(tmp_path: Path) -> None:
    clip = tiny_clip()
    cfg = checkpoint(tmp_path / "model-best.pth.tar", clip)
    model, inventory = read_names(cfg, clip)
    assert model.card.names == ["Red Panda", "St. Bernard", "okapi"]
    assert inventory.taken == {"names": 3}
    assert list(inventory.ignored) == [TABLE]
    tokens = torch.randn(4, 1, clip.embed_dim)
    with torch.no_grad():
        texts = torch.stack([as_fsnl_reads(clip, e, "animal") for e in model.tensors().values()])
    expected = clip.logit_scale * normalize(tokens[:, 0], dim=-1) @ texts.T
    torch.testing.assert_close(model.logits(tokens), expected, rtol=1e-5, atol=1e-4)
    model.save(tmp_path / "saved")
    again = load_adapted(tmp_path / "saved", clip)
    torch.testing.assert_close(again.logits(tokens), model.logits(tokens))


def test_some_names_in_another_order_and_all_by_default(tmp_path: Path) -> None:
    clip = tiny_clip()
    cfg = checkpoint(tmp_path / "x.pth.tar", clip)
    some, inventory = read_names(replace(cfg, names=["OKAPI", "red_panda"]), clip)
    every, _ = read_names(replace(cfg, names=[]), clip)
    assert every.card.names == ["red panda", "st  bernard", "okapi"]
    first, last = list(every.tensors().values())[::2]
    for tensor, expected in zip(some.tensors().values(), (last, first), strict=True):
        assert torch.equal(tensor, expected)
    assert inventory.ignored[NAME + "st  bernard"] == "a class that is not asked for"


@pytest.mark.parametrize(
    ("names", "more", "said"),
    [
        (["okapi", "lion"], {}, r"names: \['lion'\] are not in .*x.pth.tar; allowed: \['okapi'"),
        (["okapi", "Okapi"], {}, r"names: \['okapi'\] twice"),
        ([], {NAME + "okapi": torch.zeros(3, 7)}, "names model: name_embeddings.okapi: expected"),
        ([], {NAME + "okapi": torch.zeros(80, 16)}, "'okapi' has 80 embeddings; allowed 1 to 75"),
        ([], {TABLE: torch.ones(49408, 16)}, "made on another CLIP than"),
    ],
)
def test_what_does_not_fit_is_named(
    names: list[str], more: dict[str, Tensor], said: str, tmp_path: Path
) -> None:
    cfg = checkpoint(tmp_path / "x.pth.tar", tiny_clip(), **more)
    with pytest.raises(ValueError, match=said):
        read_names(replace(cfg, names=names), tiny_clip())


def test_a_model_goes_out_and_comes_back(tmp_path: Path) -> None:
    clip = load_clip("tiny")
    learned = Fsnl.fit(of_class_tokens(clip), FsnlHyper(epochs=2), seed=0)
    learned.save(tmp_path / "model")
    export_model(
        ExportModelConfig(adapted=str(tmp_path / "model"), folder=str(tmp_path / "out"), name="a")
    )
    saved = torch.load(tmp_path / "out" / "a.pth.tar", weights_only=True)["state_dict"]
    assert saved.keys() == {NAME + name for name in NAMES} | {TABLE}
    made = import_names(
        ImportNamesConfig(
            storage=str(tmp_path), backbone="tiny", file=str(tmp_path / "out" / "a.pth.tar"),
            names=learned.card.names, hint=learned.card.hint, dataset="animals", shots=4,
        )
    )  # fmt: skip
    again = load_adapted(made.local_dir(), clip)
    tokens = torch.randn(3, 1, clip.embed_dim)
    torch.testing.assert_close(again.logits(tokens), learned.logits(tokens))


def of_class_tokens(clip: Clip) -> Task:
    """The small task with tokens of this CLIP's size."""
    made = task()

    def tokens(features: Features) -> Features:
        images = features.stored.shape[:2]
        return replace(features, stored=torch.randn(*images, 1, clip.embed_dim).half())

    text = torch.randn(len(NAMES), clip.embed_dim)
    return replace(made, clip=clip, text=text, train=tokens(made.train), val=None)
