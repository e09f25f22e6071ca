"""The table of readers of foreign bytes: good inputs, and how jobs read them."""

import io
import json
import sys
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from actors.pictures.codec import BadImageError, decode_rgb, png_bytes, resized_square
from actors.pictures.sources import from_parquet
from actors.synthesis.base_sets.exporting import INDEX
from actors.synthesis.base_sets.importing import import_plan
from actors.synthesis.factors.tables import read_factor_file, table_rows
from cluster.catalog.benchmarks import COOP, LAION_BEYOND
from cluster.catalog.folders import NAMES_FILE, folder_listing
from cluster.catalog.layouts import benchmark_listing
from cluster.catalog.published import read_prompts, read_shot_lists
from cluster.job import parsed
from cluster.text_files import read_lines
from jobs.bench.fuzz.answer_readers import caption_answers, factor_answers, server_answers
from jobs.bench.fuzz.artifact_readers import dataset_files, fuzz_dataset, manifests
from jobs.bench.fuzz.children import Reader
from jobs.bench.fuzz.model_readers import (
    cards,
    clip_configs,
    fine_tuned_files,
    saved_tensors,
    teachers,
    weights,
)
from jobs.pretrain import PretrainConfig
from jobs.search import SearchConfig

RECIPES = resources.files("jobs") / "recipes"
NAMES = ["okapi", "red panda", "AC/DC fan_heater"]
TABLE = b"""attributes: [small, large, asleep]
backgrounds: [in a meadow, on a sofa]  # the most frequent first
datasets:
  pets: {backgrounds: [on a sofa, in a garden], lightings: [at dusk]}
classes:
  okapi: &a
    attributes: ["with a bushy tail", 'silver and black']
    synonyms: [forest giraffe]
    examples: {Base: [A large okapi looks into the camera.], BG: []}
  red panda: *a
"""


def _pictures() -> Reader:
    ramp = Image.linear_gradient("L").resize((24, 18))
    colours = Image.merge("RGB", (ramp, ramp.rotate(90), ramp.rotate(180)))
    alpha = colours.convert("RGBA")
    alpha.putalpha(ramp)
    variants: list[tuple[str, Image.Image, dict[str, Any]]] = [
        *((kind, colours, {}) for kind in ("PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP", "AVIF")),
        ("PNG", ramp.convert("I;16"), {}),
        ("PNG", colours.quantize(16), {"transparency": 3}),
        ("PNG", alpha, {}),
        ("JPEG", colours.convert("CMYK"), {"progressive": True}),
        ("TIFF", colours, {"compression": "tiff_lzw"}),
        ("TIFF", ramp.convert("F"), {}),
        ("GIF", colours, {"save_all": True, "append_images": [ramp.convert("RGB")]}),
    ]
    inputs = []
    for kind, image, options in variants:
        image.save(buffer := io.BytesIO(), kind, **options)
        inputs.append(buffer.getvalue())
    return Reader(inputs, lambda data, _: resized_square(decode_rgb(data), 64), (BadImageError,))


def _split_file() -> Reader:
    """CoOp's, of a set whose classes nobody counts."""
    split = {
        part: [[f"{label}/{i}.jpg", label, name] for label, name in enumerate(NAMES) for i in "01"]
        for part in ("train", "val", "test")
    }

    def read(data: bytes, folder: Path) -> None:
        place = folder / COOP["oxford_pets"].folder
        place.mkdir()
        (place / COOP["oxford_pets"].index).write_bytes(data)
        benchmark_listing("oxford_pets", str(folder), {})

    return Reader([json.dumps(split).encode(), json.dumps(split, indent=1).encode()], read)


def _laion_split_file() -> Reader:
    split = {
        part: {
            str(i): {"classname": name, "image_name": f"{i}.jpg", "label": i, "superclass": "x",
                     "INFO": {"Refined_caption3": f"a {name}\nin the sun"}}
            for i, name in enumerate(NAMES)
        }
        for part in ("train", "val", "test")
    }  # fmt: skip
    domain = LAION_BEYOND["laion_animals"].folder

    def read(data: bytes, folder: Path) -> None:
        for group in ("OOP", "IP"):
            place = folder / f"{domain}3_{group}"
            place.mkdir()
            content = data if group == "OOP" else json.dumps(split).encode()
            (place / f"split_Xin_{place.name}.json").write_bytes(content)
        benchmark_listing("laion_animals", str(folder), {})

    return Reader([json.dumps(split).encode()], read)


def _class_names() -> Reader:
    picture = png_bytes(Image.new("RGB", (8, 8)))

    def read(data: bytes, folder: Path) -> None:
        for split in ("train", "val", "test"):
            for name in ("n01", "n02"):
                (folder / split / name).mkdir(parents=True)
                (folder / split / name / "0.png").write_bytes(picture)
        (folder / NAMES_FILE).write_bytes(data)
        folder_listing("fuzz", str(folder))

    return Reader([b"n01 okapi\nn02 red panda\n", b"n01\tokapi\r\nn02\tred panda"], read)


def _variant_lists() -> Reader:
    def read(data: bytes, folder: Path) -> None:
        place = folder / COOP["fgvc_aircraft"].folder
        place.mkdir()
        (place / COOP["fgvc_aircraft"].index).write_bytes(data.partition(b"--\n")[0])
        for split in ("train", "val", "test"):
            (place / f"images_variant_{split}.txt").write_bytes(data.rpartition(b"--\n")[2])
        benchmark_listing("fgvc_aircraft", str(folder), {})

    return Reader([b"707-320\nF-16A/B\n--\n0000001 707-320\n0000002 F-16A/B\n"], read)


def _in_file(name: str, read: Callable[[str], object], data: bytes, folder: Path) -> None:
    (folder / name).write_bytes(data)
    read(str(folder / name))


def _prompts() -> Reader:
    content = {name: [f"A photo of a {name}.", "Another one."] for name in NAMES}
    inputs = [json.dumps(content, ensure_ascii=ascii).encode() for ascii in (True, False)]
    return Reader(inputs, partial(_in_file, "prompts.json", lambda p: read_prompts(p, NAMES)))


def _shot_lists() -> Reader:
    paths = [f"okapi/{i}.jpg" for i in range(4)]
    lines = [json.dumps({"path": path, "split": "train", "label": 0}) for path in paths]
    lists = {"train": paths, "val": [[path, 0, "okapi"] for path in paths]}

    def read(data: bytes, folder: Path) -> None:
        suffix = "jsonl" if data[:9].count(b"path") else "json"
        (folder / f"shot_4-seed_1.{suffix}").write_bytes(data)
        read_shot_lists(str(folder))

    return Reader(["\n".join(lines).encode(), json.dumps(lists).encode()], read)


def _name_lists() -> Reader:
    inputs = ["okapi\nred panda\n\né\n".encode()]
    return Reader(inputs, partial(_in_file, "names.txt", lambda p: read_lines(p, "names")))


def _factor_tables() -> Reader:
    datasets = [fuzz_dataset("pets", NAMES)]

    def read(path: str) -> None:
        table_rows(datasets, read_factor_file(path, datasets))

    return Reader([TABLE], partial(_in_file, "table.yaml", read))


def _recipe(config: type, file: str) -> Reader:
    """As `--config`; what a file of it names lies beside it."""

    def read(path: str) -> None:
        (Path(path).parent / "parts").symlink_to(str(RECIPES / "parts"))
        sys.argv = ["job", "--config", path]
        parsed(config)

    return Reader([(RECIPES / file).read_bytes()], partial(_in_file, file, read), ())


def _index_lines() -> Reader:
    lines = [
        {"file": f"view1/okapi/{i}.png", "dataset": "pets", "class_name": "okapi", "index": i,
         "view": 0, "caption": "an okapi"}
        for i in range(3)
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    return Reader(
        [text.encode()],
        partial(_in_file, INDEX, lambda path: import_plan(str(Path(path).parent), "pets")),
    )


def _parquet() -> Reader:
    picture = png_bytes(Image.new("RGB", (8, 8), (5, 90, 200)))
    rows = [
        {"image": picture, "class_name": name, "split": split, "path": f"{split}/{name}.png"}
        for name in NAMES
        for split in ("train", "validation", "test")
    ]
    table, inputs = pa.Table.from_pylist(rows), []
    nested = [{**row, "image": {"bytes": picture, "path": "x"}, "group": "OOP"} for row in rows]
    for part, options in (
        (table, {}),
        (table, {"compression": "none", "use_dictionary": False}),
        (pa.Table.from_pylist(nested), {"compression": "zstd", "data_page_version": "2.0"}),
    ):
        pq.write_table(part, buffer := io.BytesIO(), **options)
        inputs.append(buffer.getvalue())

    def read(path: str) -> None:
        for _ in from_parquet("pets", path).parts():
            pass

    return Reader(inputs, partial(_in_file, "rows.parquet", read))


READERS: dict[str, Callable[[], Reader]] = {
    "pictures": _pictures,
    "split_files": _split_file,
    "laion_split_files": _laion_split_file,
    "class_names": _class_names,
    "variant_lists": _variant_lists,
    "prompts": _prompts,
    "shot_lists": _shot_lists,
    "name_lists": _name_lists,
    "parquet": _parquet,
    "index_lines": _index_lines,
    "factor_tables": _factor_tables,
    "pretrain_recipes": partial(_recipe, PretrainConfig, "tiny.yaml"),
    "search_recipes": partial(_recipe, SearchConfig, "embedded_search.yaml"),
    "caption_answers": caption_answers,
    "factor_answers": factor_answers,
    "server_answers": server_answers,
    "manifests": manifests,
    "dataset_files": dataset_files,
    "cards": cards,
    "saved_tensors": saved_tensors,
    "clip_configs": clip_configs,
    "weights": weights,
    "teachers": teachers,
    "fine_tuned": fine_tuned_files,
}
"""What makes each reader, for some take seconds and a model."""
