"""Small artifacts of the kinds that a report reads, written as the jobs before it write them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch

from actors.embedded.imagined_scenes import Scene, paint
from actors.pictures.codec import png_bytes
from actors.search.measures import MEASURES, Answers
from actors.search.results import SCHEMAS
from cluster.artifacts import Artifact, draft
from cluster.rows import row_id, row_rng

SEEDS, SHOTS = (0, 1, 2), (1, 4)
SCRIPT = "<script>alert('caption')</script>"
LEVELS = {"zero-shot": 0.4, "linear-probe": 0.3, "imaginefsl-scratch": 0.5, "imaginefsl": 0.55}


@dataclass(frozen=True)
class Sources:
    """What a report job is pointed to."""

    results: Artifact
    adapted: Artifact
    teacher: Artifact
    base_set: Artifact


def write_sources(
    storage: Path, datasets: Sequence[str] = ("animals", "digits"), shots: Sequence[int] = SHOTS
) -> Sources:
    rows = [row for dataset in datasets for row in result_rows(dataset, shots)]
    return Sources(
        _results(storage, rows),
        _adapted(storage, rows),
        _teacher(storage),
        _base_set(storage, datasets),
    )


def result_rows(dataset: str, shots: Sequence[int]) -> list[dict[str, object]]:
    rows = []
    for method, level in LEVELS.items():
        for number in shots if method != "zero-shot" else (0,):
            for seed in SEEDS if number else (0,):
                noise = row_rng(f"{dataset} {method} {number} {seed}").normal(0, 0.02)
                accuracy = min(level + 0.1 * number**0.5 + noise, 0.99)
                rows.append(_row(dataset, method, number, seed, "all", accuracy))
    groups = {"OOP": 0.1} | ({"IP": 0.8} if dataset != "digits" else {})
    for space, accuracy in groups.items():
        rows.append(_row(dataset, "zero-shot", 0, 0, space, accuracy))
    for seed in SEEDS:
        for space, accuracy in (groups | {"all": 0.6}).items():
            shown = accuracy + 0.1 + row_rng(f"{dataset} {space} {seed}").normal(0, 0.03)
            rows.append(_row(dataset, "fsnl", 4, seed, space, shown))
    return rows


def _row(
    dataset: str, method: str, shots: int, seed: int, space: str, accuracy: float
) -> dict[str, object]:
    drawn = f"{dataset} {'OOP' if method == 'fsnl' else 'all'} {shots} {seed}"
    return {
        "dataset": dataset,
        "method": method,
        "shots": shots,
        "seed": seed,
        "concepts": "OOP" if method == "fsnl" else "all",
        "label_space": space,
        "value": accuracy,
        "images": 200,
        "split_hash": row_id(drawn, "", 0, 0, ""),
        "val_policy": "min",
        "val_accuracy": accuracy if shots else None,
        "backbone": "tiny",
        "template_set": "hand",
        "config_hash": "0" * 32,
        "head": "fused" if method.startswith("imaginefsl") else "text",
        "hyper": json.dumps({"lr": 0.001 * (1 + shots), "steps": 80}),
        "wall_s": 1.0,
    }


def _results(storage: Path, rows: list[dict[str, object]]) -> Artifact:
    measured = [row | score for row in rows for score in _scores(row)]
    out = draft(
        str(storage), "results", "results", content={"rows": measured}, config={}, inputs={}
    )
    out.write_table("rows", pa.Table.from_pylist(measured, SCHEMAS["rows"]))
    names = ("fox", "wolf", "tomato")
    answers = [
        {**row, "label": label, "class_name": names[label], "predicted_label": answer,
         "predicted": names[answer], "images": images}
        for row in rows
        if row["label_space"] == "all"
        for label, answer, images in ((0, 0, 90), (0, 1, 10), (2, 0, 100))
    ]  # fmt: skip
    out.write_table("confusion", pa.Table.from_pylist(answers, SCHEMAS["confusion"]))
    heads = [
        {**row, "head": head, "value": float(str(row["value"])) - worse}
        for row in measured
        if str(row["method"]).startswith("imaginefsl")
        for head, worse in (("fused", 0.0), ("visual", 0.1), ("text", 0.2))
    ]
    out.write_table("heads", pa.Table.from_pylist(heads, SCHEMAS["heads"]))
    return out.publish({"rows": len(measured)})


def _scores(row: dict[str, object]) -> list[dict[str, object]]:
    """Accuracy as it was given, and each other measure of answers that have about this accuracy."""
    answers = _answers(round(200 * float(str(row["value"]))))
    values = {name: measure.value(answers) for name, measure in MEASURES.items()}
    values["accuracy"] = float(str(row["value"]))
    return [{"measure": name, "value": value} for name, value in values.items()]


def _answers(right: int) -> Answers:
    """Of 150 images of one class and 50 of another the first ones are answered right."""
    labels = torch.tensor([0] * 150 + [1] * 50)
    predicted = torch.where(torch.arange(200) < right, labels, 1 - labels)
    return Answers(torch.nn.functional.one_hot(predicted, 2).float(), labels)


def _adapted(storage: Path, rows: list[dict[str, object]]) -> Artifact:
    space = {
        "lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "steps": {"low": 40, "high": 200, "log": False},
    }
    config = {"methods": {"imaginefsl": {"space": space}}}
    out = draft(str(storage), "adapted", "search", content={"rows": rows}, config=config, inputs={})
    fits, trials = [], []
    for row in rows:
        if row["label_space"] != "all":
            continue
        cell = f"{row['dataset']}-{row['shots']}shot-{row['method']}"
        told = ("dataset", "shots", "seed", "split_hash", "hyper", "val_accuracy", "wall_s")
        fits.append({"cell": cell, "name": row["method"]} | {name: row[name] for name in told})
        out.write_json(f"models/{cell}/{row['seed']}/adapted.json", {"selection": _selection(row)})
        if row["shots"] and row["seed"] == 0:
            trials += [_trial(cell, number) for number in range(4)]
    out.write_table("fits", pa.Table.from_pylist(fits))
    out.write_table("trials", pa.Table.from_pylist(trials))
    return out.publish({"fits": len(fits), "trials": len(trials)})


def _selection(row: dict[str, object]) -> dict[str, object]:
    weights = [number / 50 for number in range(51)]
    best = 0.3 + 0.1 * int(str(row["seed"]))
    curve = [(weight, 0.7 - (weight - best) ** 2) for weight in weights]
    fused = row["head"] == "fused"
    return {"head": row["head"], "fusion_weight": best, "curve": curve if fused else []}


def _trial(cell: str, number: int) -> dict[str, object]:
    failed = number == 3
    return {
        "cell": cell,
        "number": number,
        "state": "fail" if failed else "complete",
        "val_accuracy": None if failed else 0.5 + 0.1 * (number % 2),
        "values": json.dumps({"lr": 0.001 * (1 + number % 2), "steps": 40 + 20 * number}),
        "wall_s": 2.0,
        "error": "ArithmeticError: the loss is not finite" if failed else "",
    }


def _teacher(storage: Path) -> Artifact:
    out = draft(str(storage), "teacher", "tiny", content={}, config={}, inputs={})
    rows = [
        {"step": step, "loss": 12 - step / 30, "dino": 6 - step / 60, "ibot": 6 - step / 60,
         "lr": 1e-4 * (1 - step / 250), "images_per_s": 210.0}
        for step in range(10, 201, 10)
    ]  # fmt: skip
    out.write_bytes("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    return out.publish({"steps": 200})


def _base_set(storage: Path, datasets: Sequence[str]) -> Artifact:
    """Foxes and tomatoes of every dataset, painted; one caption is a script, one row is refused."""
    out = draft(
        str(storage), "images", "sprites", content={"d": list(datasets)}, config={}, inputs={}
    )
    rows = [
        _image(dataset, name, group, index, view)
        for dataset in datasets
        for name, group in (("fox", "IP"), ("tomato", "OOP"))
        for index in range(2)
        for view in range(4)
    ]
    refused = rows[-1] | {
        "id": "f" * 32,
        "index": 9,
        "view": 0,
        "image": b"",
        "reason": "empty caption",
    }
    out.write_table("rows", pa.Table.from_pylist([*rows, refused]))
    return out.publish({"rows": len(rows) + 1, "refused": 1})


def _image(dataset: str, name: str, group: str, index: int, view: int) -> dict[str, object]:
    identity = row_id(dataset, name, index, view, "sprites")
    caption = f"A photo of a {name}, {SCRIPT if index else 'in the snow'}."
    return {
        "id": identity,
        "dataset": dataset,
        "class_name": name,
        "group": group,
        "index": index,
        "view": view,
        "caption": caption,
        "image": png_bytes(paint(Scene(name), identity)),
        "reason": "",
    }
