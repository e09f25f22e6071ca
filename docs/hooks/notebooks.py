"""Notebooks as pages: their text, their code, and what it printed when it was last run."""

import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds NAME.md beside every NAME.ipynb, which stays there to be downloaded."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            page = file.src_uri.removesuffix(".ipynb") + ".md"
            files.append(
                File.generated(config, page, content=page_of(Path(file.abs_src_path or "")))
            )
    return files


def page_of(path: Path) -> str:
    """A notebook as Markdown."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return "\n\n".join([*map(_cell, cells), f"[This page as a notebook]({path.name})"]) + "\n"


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    return "\n\n".join([f"```python\n{source}\n```", *map(_output, cell["outputs"])])


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return f"![output](data:image/png;base64,{data['image/png'].strip()})"
    text = "".join(output.get("text") or data.get("text/plain", "")).rstrip()
    return f'<div class="output" markdown>\n\n```text\n{text}\n```\n\n</div>'
