"""python -m tests.docs.notebook docs/notebooks/NAME.ipynb …

Runs notebooks in this process and writes what they print into them, as pages show it.
"""

import ast
import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))
Notebook = dict[str, Any]


def run(path: Path) -> Notebook:
    """The notebook with the outputs of this run; an error in a cell is raised."""
    notebook: Notebook = json.loads(path.read_text("utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    number = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            number += 1
            cell["execution_count"] = number
            cell["outputs"] = _outputs(
                "".join(cell["source"]), names, f"{path.name}, cell {number}"
            )
    return notebook


def texts(notebook: Notebook) -> list[str]:
    """All text that the cells gave out."""
    outputs = [o for cell in notebook["cells"] for o in cell.get("outputs", [])]
    return ["".join(o.get("text") or o["data"].get("text/plain", "")) for o in outputs]


def _outputs(source: str, names: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """What a cell prints, and the value of its last line, as Jupyter has them."""
    tree = ast.parse(source, where)
    shows = bool(tree.body) and isinstance(tree.body[-1], ast.Expr)
    last = tree.body.pop() if shows else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, where, "exec"), names)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), where, "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        lines = printed.getvalue().splitlines(keepends=True)
        outputs.append({"name": "stdout", "output_type": "stream", "text": lines})
    if value is not None:
        outputs.append({"data": _data(value), "metadata": {}, "output_type": "display_data"})
    return outputs


def _data(value: Any) -> dict[str, str]:
    if hasattr(value, "_repr_png_"):  # a picture of PIL's
        png = base64.b64encode(value._repr_png_()).decode()
        return {"image/png": png, "text/plain": "a picture"}
    return {"text/plain": repr(value)}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        done = run(Path(name))
        Path(name).write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", "utf-8")
