"""Which methods can be run on which CLIP: what each asks, and what the towers give."""

from collections.abc import Collection
from typing import Any

from models.clip import Clip
from models.methods import METHODS
from models.prompts.registry import prompt_tokenizer
from models.towers.interface import Gift

WORDS: dict[Gift, str] = {
    "patches": "tokens of patches",
    "masks": "patches that can be masked",
    "sizes": "pictures of other sizes than its own",
    "names": "a text tower that learned names can be put into",
    "image maps": "linear maps of the image tower that take low-rank updates",
    "text maps": "linear maps of the text tower that take low-rank updates",
}


def fitting_methods(gifts: Collection[Gift]) -> list[str]:
    """Names of the methods whose defaults ask for nothing else, in the order of METHODS."""
    return [
        name for name, method in METHODS.items() if method.needs(method.Hyper(), ()) <= set(gifts)
    ]


def require_gifts(clip: Clip, needs: Collection[Gift], where: str) -> None:
    """ValueError, in one line, if a CLIP has not all that is needed.

    where: the beginning of the message, a field and what needs it.
    """
    if missing := [WORDS[gift] for gift in WORDS if gift in set(needs) - clip.gifts]:
        raise ValueError(
            f"{where} needs {' and '.join(missing)}, which {clip.backbone!r} has not; methods that "
            f"fit it: {', '.join(fitting_methods(clip.gifts))}"
        )
    if "names" in needs:
        try:
            prompt_tokenizer(clip)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def require_method(
    clip: Clip, where: str, method: str, hyper: Any, searched: Collection[str]
) -> None:
    """ValueError if a CLIP has not what a method needs. where: the field that names the method."""
    needs = METHODS[method].needs(hyper, searched)
    require_gifts(clip, needs, f"{where}: {method}")
