"""Tokenizers: CLIP's own, and those of transformers that some text towers were trained with."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import open_clip
from open_clip.tokenizer import HFTokenizer
from torch import Tensor

Tokenizer = Callable[[list[str]], Tensor]


def tokenizer(backbone: str, text: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a text tower. text: `text_cfg` of open_clip's model config.

    Raises ValueError, naming the backbone, if its files are neither here nor to be fetched.
    """
    name, context_length = text.get("hf_tokenizer_name"), text.get("context_length", 77)
    if not name:
        return _clips_own(context_length)
    settings = dict(text.get("tokenizer_kwargs") or {})
    mode = text.get("tokenizer_mode")
    try:
        return HFTokenizer(name, context_length=context_length, tokenizer_mode=mode, **settings)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"backbone: {backbone!r}, its tokenizer {name!r} cannot be loaded "
            f"({' '.join(str(error).split())[:160]})"
        ) from error


def pad_id(tokenizer: Any) -> int:
    """Id of the token behind a text's end."""
    if isinstance(tokenizer, open_clip.SimpleTokenizer):
        return 0
    pad = tokenizer.tokenizer.pad_token_id
    return 0 if pad is None else int(pad)


@cache  # it reads and unpacks 49,152 merges, the same for every CLIP
def _clips_own(context_length: int) -> open_clip.SimpleTokenizer:
    return open_clip.SimpleTokenizer(context_length=context_length)
