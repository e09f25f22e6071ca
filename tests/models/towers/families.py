"""One small random CLIP of each family: the families' own networks, with few and narrow layers."""

import json
from pathlib import Path
from typing import Any

import torch
from timm.models import eva, fastvit, register_model, vision_transformer, vitamin
from timm.models import vision_transformer_hybrid as hybrid
from timm.models.convnext import convnext_base
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from models.building import built, clip_from_config
from models.clip import Clip

EMBED_DIM = 32
SMALL: dict[str, Any] = {"img_size": 32, "depth": 2, "num_heads": 2}
WORDS = [
    "a",
    "photo",
    "of",
    "cat",
    "dog",
    "two",
    "happy",
    "red",
    "panda",
    "ant",
    "eater",
    "okapi",
    "type",
    "animal",
    "at",
    "night",
    ".",
    ",",
]


@register_model
def small_eva01(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    sizes = SMALL | {"embed_dim": 32, "patch_size": 8}
    return eva.eva_giant_patch14_224(pretrained, **sizes, **kwargs)


@register_model
def small_eva02(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    sizes = SMALL | {"embed_dim": 32, "patch_size": 8}
    return eva.eva02_base_patch16_clip_224(pretrained, **sizes, **kwargs)


@register_model
def small_pe(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    sizes = SMALL | {"embed_dim": 32, "patch_size": 8, "attn_pool_num_heads": 4}
    return eva.vit_pe_core_base_patch16_224(pretrained, **sizes, **kwargs)


@register_model
def small_pe_without_class_token(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    sizes = SMALL | {"embed_dim": 32, "patch_size": 8, "attn_pool_num_heads": 4}
    return eva.vit_pe_core_gigantic_patch14_448(pretrained, **sizes, **kwargs)


@register_model
def small_siglip(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    sizes = SMALL | {"embed_dim": EMBED_DIM, "patch_size": 8}
    return vision_transformer.vit_base_patch16_siglip_224(pretrained, **sizes, **kwargs)


@register_model
def small_mobileclip_b(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    return hybrid.vit_base_mci_224(pretrained, img_size=32, depth=1, **kwargs)


@register_model
def small_mobileclip_l(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    sizes = SMALL | {"embed_dim": 32, "patch_size": 8}
    return vision_transformer.vit_large_patch14_clip_224(pretrained, **sizes, **kwargs)


@register_model
def small_fastvit(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    sizes = {"layers": (1, 1, 1, 1), "embed_dims": (16, 16, 32, 32)}
    return fastvit.fastvit_mci0(pretrained, **sizes, **kwargs)


@register_model
def small_vitamin(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    return vitamin.vitamin_small_224(pretrained, img_size=32, depth=1, **kwargs)


@register_model
def small_convnext(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    return convnext_base(pretrained, depths=[1, 1, 1, 1], dims=[8, 16, 24, 32], **kwargs)


def _timm(name: str, pool: str, proj: str | None, size: int = 32) -> dict[str, Any]:
    names = {"timm_model_name": name, "timm_pool": pool, "timm_proj": proj}
    return names | {"image_size": size}


VIT = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
TEXT = {"width": 32, "heads": 2, "layers": 2}
BESIDE = {"custom_text": True}
SIGLIP_TEXT = {
    "context_length": 12,
    "vocab_size": 64,
    "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
    "act_kwargs": {"approximate": "tanh"},
}
FAMILIES: dict[str, dict[str, Any]] = {
    "vit": {"vision_cfg": VIT},
    "eva01": {"vision_cfg": _timm("small_eva01", "token", None), **BESIDE},
    "eva02": {"vision_cfg": _timm("small_eva02", "token", None), **BESIDE},
    "pe": {
        "vision_cfg": _timm("small_pe", "map", None),
        "text_cfg": {"context_length": 32},
        **BESIDE,
    },
    "pe_big": {
        "vision_cfg": _timm("small_pe_without_class_token", "map", None),
        "text_cfg": {"context_length": 32},
        **BESIDE,
    },
    "siglip2": {
        "vision_cfg": _timm("small_siglip", "map", "none"),
        "text_cfg": SIGLIP_TEXT,
        "init_logit_bias": -10,
        **BESIDE,
    },
    "mobileclip2_b": {"vision_cfg": _timm("small_mobileclip_b", "token", None), **BESIDE},
    "mobileclip2_l": {
        "vision_cfg": _timm("small_mobileclip_l", "token", None),
        "text_cfg": {"no_causal_mask": True},
        **BESIDE,
    },
    "mobileclip2_s": {
        "vision_cfg": _timm("small_fastvit", "avg", None, 64),
        "text_cfg": {"no_causal_mask": True},
        **BESIDE,
    },
    "resnet": {
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32}
    },
    "convnext": {"vision_cfg": _timm("small_convnext", "", "mlp", 64)},
    "vitamin": {"vision_cfg": _timm("small_vitamin", "", "linear"), **BESIDE},
    "coca": {
        "vision_cfg": VIT
        | {"attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True},
        "text_cfg": {"context_length": 20, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {"context_length": 20, "width": 32, "heads": 2, "layers": 1},
        **BESIDE,
    },
    "clipa": {
        "vision_cfg": VIT | {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        "text_cfg": {
            "context_length": 12,
            "vocab_size": 64,
            "tokenizer_kwargs": {"strip_sep_token": True},
            "pool_type": "last",
            "no_causal_mask": True,
        },
    },
    "metaclip2": {
        "vision_cfg": VIT,
        "text_cfg": {"context_length": 12, "vocab_size": 64, "pool_type": "eos", "eos_id": 2},
    },
    "roberta": {"vision_cfg": VIT, "text_cfg": {"hf_pooler_type": "mean_pooler"}},
}
_BERT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
_BERT |= {"num_attention_heads": 2, "max_position_embeddings": 80}
_T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
_M2M = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "max_position_embeddings": 80}
_M2M |= {"encoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
HUB_TEXTS: dict[str, dict[str, Any]] = {
    "roberta": {"model_type": "roberta", **_BERT},
    "xlm_roberta": {"model_type": "xlm-roberta", **_BERT},
    "bert": {"model_type": "bert", **_BERT},
    "mt5": {"model_type": "mt5", **_T5},
    "m2m_100": {"model_type": "m2m_100", **_M2M, "decoder_attention_heads": 2},
}
"""Text towers that open_clip has from transformers, each as the hub's config says it."""
_HUB_SETTINGS: dict[str, dict[str, Any]] = {
    "xlm_roberta": {"hf_pooler_type": "mean_pooler", "hf_proj_type": "mlp"},
    "bert": {"hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"},
    "mt5": {"hf_pooler_type": "mean_pooler", "hf_proj_type": "linear"},
    "m2m_100": {"hf_pooler_type": "cls_pooler"},
}
TEXT_FAMILIES = list(dict.fromkeys([*FAMILIES, *HUB_TEXTS]))
WORD_TOKENIZERS = ("siglip2", "clipa", "metaclip2", "roberta")
"""Families whose tokenizer is one of transformers'."""


def family_config(family: str, folder: Path) -> dict[str, Any]:
    """open_clip's model config of a family. folder: where its tokenizer is written, if it needs
    one of transformers'."""
    of_family = FAMILIES.get(family) or {"vision_cfg": VIT, "text_cfg": _HUB_SETTINGS[family]}
    config: dict[str, Any] = {"embed_dim": EMBED_DIM, **of_family}
    text = TEXT | config.get("text_cfg", {})
    if family in (*WORD_TOKENIZERS, *HUB_TEXTS):
        write_tokenizer(folder)
        text["hf_tokenizer_name"] = str(folder)
    if family in HUB_TEXTS:
        settings = HUB_TEXTS[family] | {"vocab_size": 64, "pad_token_id": 0}
        (folder / "config.json").write_text(json.dumps(settings))
        text = {"hf_model_name": str(folder), **text}
        text = {k: v for k, v in text.items() if k not in TEXT}
    return config | {"text_cfg": text}


def family_clip(family: str, folder: Path) -> Clip:
    """A family's small CLIP, its weights drawn by a fixed seed: so large that every one counts, as
    those that timm begins with do not, and none of them 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = family_config(family, folder)
        model = built(config)
        for weight in model.parameters():
            if weight.ndim > 1:
                inputs = weight[0].numel() if len(weight) > 1 else 4
                weight.data.normal_(std=inputs**-0.5)
            elif not weight.any():  # as a residual branch that begins with none
                weight.data.normal_(std=0.1)
    return clip_from_config(config, model.state_dict(), f"random-{family}")


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of transformers that knows a few words."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    vocabulary = {word: i for i, word in enumerate(special + WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        eos_token="[SEP]",
    ).save_pretrained(folder)
