"""What a backbone is and which methods fit it, before a byte of its weights is fetched."""

from jobs.doctor.findings import Finding
from models.architectures import Facts, facts
from models.backbones import config_of, parts_of
from models.licences import RESTRICTED, licence
from models.methods import METHODS
from models.methods.needs import fitting_methods

FLOAT32 = 4
"""Bytes of a number in memory."""


def towers(backbone: str) -> Finding:
    """The input, size and licence of a backbone, and the methods that fit its towers."""
    try:
        arch, tag, _ = parts_of(backbone)
        here = facts(config_of(backbone))
    except ValueError as error:
        return Finding("fail", "backbone", str(error))
    except Exception as error:  # what open_clip makes of a foreign config has no list
        return Finding("fail", "backbone", f"{backbone!r} describes no model ({error!r:.120})")
    words = [size_words(here), methods_words(here)]
    if not tag:
        return Finding("ok", "backbone", "; ".join(words))
    terms = licence(arch, tag)
    words.append(terms)
    restricted = any(terms_of in terms for terms_of in RESTRICTED)
    return Finding("warn" if restricted else "ok", "backbone", "; ".join(words))


def size_words(of: Facts) -> str:
    """Input, patches, parameters, and bytes in memory, which a file of float32 has, too."""
    patches = f"{of.patches} patches" if of.patches else "no tokens of patches"
    besides = f" and those of {of.text}" if of.text else ""
    return (
        f"pictures of {of.image_size} pixels, {patches}, {of.parameters / 1e6:.0f} M parameters"
        f"{besides}, {FLOAT32 * of.parameters / 1e9:.2g} GB to hold and about as much to fetch"
    )


def methods_words(of: Facts) -> str:
    """Which methods fit, and whether moment-DINO does."""
    fitting, perhaps = fitting_methods(of.gifts), fitting_methods(of.gifts | of.unknown)
    others = [name for name in METHODS if name not in perhaps]
    perhaps = [name for name in perhaps if name not in fitting]
    words = f"fits {', '.join(fitting)}" if others or perhaps else "fits every method"
    words += f", by its text tower perhaps {', '.join(perhaps)}" if perhaps else ""
    words += f", not {', '.join(others)}" if others else ""
    if {"patches", "masks"} <= of.gifts:
        return f"{words}; pretraining fits"
    return f"{words}; pretraining does not{', but without masks' if of.patches else ''}"
