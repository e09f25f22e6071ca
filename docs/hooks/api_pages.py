"""Pages of the Python API, one per room, generated from the docstrings of its modules.

Nothing has to be listed: a new room or module has its place as soon as it is there.
"""

from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
ROOMS = ("actors", "models", "kernels", "cluster", "jobs")
FIRST = "actors.local"
"""The room that notebooks import from: of it the names that the package itself offers."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the pages to the navigation."""
    pages = sorted(rooms(), key=lambda room: (room != FIRST, ROOMS.index(room.split(".")[0])))
    assert config.nav is not None
    config.nav.append({"Python API": [{room: f"api/{room}.md"} for room in pages]})
    config.watch.extend(str(ROOT / room) for room in ROOMS)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages themselves."""
    for room, modules in rooms().items():
        content = f"# {room}\n\n" + "\n\n".join(f"::: {module}" for module in modules) + "\n"
        files.append(File.generated(config, f"api/{room}.md", content=content))
    return files


def rooms() -> dict[str, list[str]]:
    """Room to its modules, its own docstring first; rooms in order of name."""
    modules: dict[str, list[str]] = {}
    for path in _sources():
        parts = path.relative_to(ROOT).with_suffix("").parts
        room = ".".join(parts[:-1][:2])
        modules.setdefault(room, []).append(".".join(parts).removesuffix(".__init__"))
    return {room: sorted(names) for room, names in sorted(modules.items())} | {FIRST: [FIRST]}


def _sources() -> Iterator[Path]:
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            if path.name != "__main__.py" and path.stat().st_size:
                yield path
