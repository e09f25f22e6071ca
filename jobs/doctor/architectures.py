"""python -m jobs.doctor.architectures

The table of docs/architectures.md: every architecture of open_clip, built without memory, and what
can be done with it.
"""

from collections.abc import Iterator

import open_clip

from models.architectures import Facts, facts
from models.methods import METHODS
from models.methods.needs import fitting_methods

COLUMNS = ("architecture", "pixels", "patches", "joint space", "parameters", "pretraining", "not")


def table() -> Iterator[str]:
    """The lines of the table."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * len(COLUMNS)}"
    for arch in open_clip.list_models():
        yield line(arch, facts(open_clip.get_model_config(arch) or {}))


def line(arch: str, of: Facts) -> str:
    """The row of an architecture."""
    fitting, perhaps = fitting_methods(of.gifts), fitting_methods(of.gifts | of.unknown)
    others = ", ".join(
        f"{name}?" if name in perhaps else name for name in METHODS if name not in fitting
    )
    pretraining = "yes" if "masks" in of.gifts else "no masks" if of.patches else "no"
    parameters = f"{of.parameters / 1e6:.0f}{'*' if of.text else ''}"
    cells = (arch, of.image_size, of.patches, of.embed_dim, parameters, pretraining, others)
    return f"| {' | '.join(map(str, cells))} |".replace("|  |", "| |")


def main() -> None:
    """Prints the table."""
    for row in table():
        print(row)


if __name__ == "__main__":
    main()
