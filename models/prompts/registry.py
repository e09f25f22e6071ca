"""Which prompt tokenizer a CLIP has, and which class names it reads as a whole."""

from collections.abc import Collection, Sequence

import torch
from open_clip import SimpleTokenizer

from models.clip import Clip
from models.prompts.clips_own import ClipsPromptTokenizer
from models.prompts.fast import FastPromptTokenizer
from models.prompts.interface import FSNL_TEMPLATE, SLOT, PromptTokenizer


def prompt_tokenizer(clip: Clip) -> PromptTokenizer:
    """ValueError, in one line, if names cannot be located among its tokenizer's tokens, or if its
    text tower looks for another end of a text than the tokenizer writes."""
    tokenizer: PromptTokenizer = (
        ClipsPromptTokenizer(clip.tokenizer)
        if isinstance(clip.tokenizer, SimpleTokenizer)
        else FastPromptTokenizer(clip)
    )
    ids = tokenizer.fill(*tokenizer.named(f"a {SLOT}", ["a"])).ids
    row, last = clip.tokenizer(["a a"]), ids.shape[1] - 1
    end = int(clip.text.ends(row, torch.tensor([last])))
    if not torch.equal(row[:, : last + 1], ids) or not (
        end == last or (clip.text.trims and int(row[0, end]) in tokenizer.end)
    ):
        raise ValueError(
            f"backbone {clip.backbone}: its text tower looks for another end of a text than its "
            "tokenizer writes; allowed for learned names: the same"
        )
    return tokenizer


def locates_names(clip: Clip) -> bool:
    """Whether names can be located among its tokenizer's tokens.

    ValueError if the tokenizer's files are not here.
    """
    if isinstance(clip.tokenizer, SimpleTokenizer):
        return True
    try:
        prompt_tokenizer(clip)
    except ValueError:
        return False
    return True


def require_readable(clip: Clip, names: Sequence[str], contexts: Collection[str] = ()) -> None:
    """ValueError for a name that has no token, or more than the text tower reads.

    contexts: templates whose text before a name has to fit, too. Of a tokenizer among whose tokens
    no name can be located nothing is known.
    """
    if not locates_names(clip):
        return
    tokenizer = prompt_tokenizer(clip)
    before = max((len(tokenizer.before(template)) for template in contexts), default=0)
    room = tokenizer.room - before
    for name, ids in zip(names, tokenizer.named(FSNL_TEMPLATE, names)[1], strict=True):
        if len(ids) > room:
            raise ValueError(f"class name {name!r} has {len(ids)} tokens; allowed 1 to {room}")
