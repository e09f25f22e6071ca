"""Small tokenizers of transformers, built and trained here: one of each kind that open_clip's text
towers were trained with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "a photo of a red panda, a type of animal.",
    "two happy dogs and an ant eater at night; person: curly hair, 1st place medal!",
    "an okapi (C++) by the large T-Rex in a video game, a origami plant",
    "a bad photo of the small piñata, art of the crème brûlée",
]
CONTEXT_LENGTH = 40


@dataclass(frozen=True)
class Kind:
    """One kind of tokenizer, and the settings of a text tower that was trained with it."""

    build: Callable[[], PreTrainedTokenizerFast]
    text_cfg: dict[str, Any] = field(default_factory=dict)


def _sentencepiece(splits: Any, added: str, names: dict[str, str]) -> PreTrainedTokenizerFast:
    """A unigram vocabulary whose words begin with "▁"."""
    special = list(dict.fromkeys([*names.values(), "<unk>"]))
    words = Tokenizer(models.Unigram())
    words.normalizer = normalizers.Sequence([normalizers.NFKC()])
    words.pre_tokenizer = splits
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    words.train_from_iterator(TEXTS * 3, trainer)
    return _finished(words, added, names | {"unk_token": "<unk>"})


def _finished(words: Tokenizer, added: str, names: dict[str, str]) -> PreTrainedTokenizerFast:
    """The tokenizer that adds what stands around "$A"."""
    around = [(token, words.token_to_id(token)) for token in added.split() if token != "$A"]
    words.post_processor = processors.TemplateProcessing(single=added, special_tokens=around)
    return PreTrainedTokenizerFast(tokenizer_object=words, **names)


def _t5() -> PreTrainedTokenizerFast:
    splits = pre_tokenizers.Metaspace(prepend_scheme="always")
    return _sentencepiece(splits, "$A </s>", {"pad_token": "<pad>", "eos_token": "</s>"})


def _xlm() -> PreTrainedTokenizerFast:
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="always")
    splits = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>"}
    return _sentencepiece(splits, "<s> $A </s>", names)


def _nllb() -> PreTrainedTokenizerFast:
    splits = pre_tokenizers.Metaspace(prepend_scheme="always")
    names = {"bos_token": "eng_Latn", "pad_token": "<pad>", "eos_token": "</s>"}
    return _sentencepiece(splits, "eng_Latn $A </s>", names)


def _gemma(across: bool) -> PreTrainedTokenizerFast:
    """Bytes for what it does not know, and no "▁" in front of a text's first word. across: merges
    over spaces, which the real one has not learned."""
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"}
    special = [*names.values(), "<unk>", *[f"<0x{byte:02X}>" for byte in range(256)]]
    words = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    words.normalizer = normalizers.Replace(" ", "▁")
    splits = pre_tokenizers.Split(" ", "merged_with_previous")
    learned = pre_tokenizers.Metaspace(prepend_scheme="never")
    words.pre_tokenizer = splits if across else learned
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False)
    words.train_from_iterator(TEXTS * 3, trainer)
    words.pre_tokenizer = splits
    return _finished(words, "$A <eos>", names | {"unk_token": "<unk>"})


def _bert() -> PreTrainedTokenizerFast:
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names |= {"bos_token": "[BOS]", "eos_token": "[EOS]", "unk_token": "[UNK]"}
    words = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer()
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = list(names.values())
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    words.train_from_iterator(TEXTS * 3, trainer)
    return _finished(words, "[CLS] $A [SEP]", names)


def _roberta() -> PreTrainedTokenizerFast:
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=list(names.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words.train_from_iterator(TEXTS * 3, trainer)
    words.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return PreTrainedTokenizerFast(tokenizer_object=words, **names)


def _clip() -> PreTrainedTokenizerFast:
    """CLIP's own vocabulary and merges, as transformers has them."""
    own = open_clip.SimpleTokenizer()
    pieces = {"continuing_subword_prefix": "", "end_of_word_suffix": "</w>"}
    words = Tokenizer(models.BPE(own.encoder, list(own.bpe_ranks), **pieces))
    words.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    pattern = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    start, end = "<start_of_text>", "<end_of_text>"
    names = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    return _finished(words, f"{start} $A {end}", names)


_SIGLIP = {"tokenizer_kwargs": {"clean": "canonicalize"}, "no_causal_mask": True}
KINDS: dict[str, Kind] = {
    "t5": Kind(_t5, _SIGLIP | {"pool_type": "last", "proj_bias": True}),
    "gemma": Kind(lambda: _gemma(across=False), _SIGLIP | {"pool_type": "last"}),
    "gemma_cased": Kind(lambda: _gemma(across=False), {"pool_type": "last"}),
    "across": Kind(lambda: _gemma(across=True), {"pool_type": "last"}),
    "xlm": Kind(_xlm, {"pool_type": "eos", "eos_id": 2}),
    "nllb": Kind(_nllb, {"pool_type": "first", "no_causal_mask": True}),
    "bert": Kind(
        _bert,
        {
            "pool_type": "last",
            "no_causal_mask": True,
            "tokenizer_kwargs": {"strip_sep_token": True},
        },
    ),
    "clips": Kind(_bert, {"pool_type": "last", "no_causal_mask": True, "tokenizer_mode": "clips"}),
    "roberta": Kind(_roberta, {"pool_type": "eos", "eos_id": 2}),
    "clip": Kind(_clip, {"tokenizer_kwargs": {"clean": "lower"}}),
}


@cache
def _built(build: Callable[[], PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    return build()


def write_kind(kind: str, folder: Path) -> dict[str, Any]:
    """Writes a tokenizer; returns `text_cfg` of a small tower that reads it."""
    words = _built(KINDS[kind].build)
    words.save_pretrained(folder)
    sizes = {"context_length": CONTEXT_LENGTH, "vocab_size": len(words)}
    return sizes | {"hf_tokenizer_name": str(folder)} | KINDS[kind].text_cfg
