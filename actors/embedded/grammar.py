"""The embedded caption writer: a grammar over the factors of a class."""

from collections.abc import Mapping

from actors.embedded.sprite_factors import FACTORS


def grammar_caption(class_name: str, hint: str, factors: Mapping[str, str]) -> str:
    """A sentence that names the class and every factor that is not empty.

    >>> grammar_caption("fox", "animal", {"attribute": "small", "background": "in the snow"})
    'A photo of a fox, a type of animal, small, in the snow.'
    """
    phrases = [hint, *(factors[name] for name in FACTORS if factors.get(name))]
    return f"A photo of a {class_name}, a type of {', '.join(phrases)}."
