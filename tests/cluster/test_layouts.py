import json
from pathlib import Path

import pytest

from cluster.catalog.benchmarks import BENCHMARKS, COOP, LAION_BEYOND
from cluster.catalog.layouts import HELD_OUT, benchmark_listing, folder_listing
from cluster.catalog.listing import Listing
from cluster.errors import ConfigError
from tests.small_trees import AWKWARD, coop_tree, folder_tree, laion_tree, picture

NO_SPLITS = {"OOP": None, "IP": None}
EUROSAT = ("eurosat", "2750", "split_zhou_EuroSAT.json")


def files(listing: Listing, split: str) -> list[str]:
    return [entry.file for entry in listing.entries if entry.split == split]


def test_the_catalogue_has_both_benchmarks() -> None:
    assert (len(COOP), len(LAION_BEYOND)) == (11, 9)
    assert all("{}" in benchmark.template for benchmark in BENCHMARKS.values())
    assert sum(domain.oop for domain in LAION_BEYOND.values()) == 675


def test_a_coop_split_keeps_its_order_its_labels_and_its_names(tmp_path: Path) -> None:
    coop_tree(tmp_path, dict.fromkeys(AWKWARD, 2), *EUROSAT)
    listing = benchmark_listing("eurosat", str(tmp_path), NO_SPLITS)
    names = ["ant", "plant", "AC/DC fan heater", "St. Bernard", "F-16A/B"]
    assert [concept.name for concept in listing.concepts] == names
    assert {concept.group for concept in listing.concepts} == {"IP"}
    assert files(listing, "train")[:3] == [
        "class_4/train_1.jpg",
        "class_4/train_0.jpg",
        "class_3/train_1.jpg",
    ]
    assert [e.place for e in listing.entries if e.split == "test"] == list(range(10))
    assert min(listing.sizes) > 0


def test_two_labels_of_one_name_stay_two_classes(tmp_path: Path) -> None:
    path = coop_tree(tmp_path, {"sunglasses": 1, "sun_glasses": 1, "sun glasses": 1}, *EUROSAT)
    listing = benchmark_listing("eurosat", str(tmp_path), NO_SPLITS)
    names = [concept.name for concept in listing.concepts]
    assert names == ["sunglasses", "sun glasses", "sun glasses"]
    split = json.loads(path.read_text())
    split["val"][0][2] = "moon"
    path.write_text(json.dumps(split))
    with pytest.raises(ConfigError, match="label 2 is 'sun glasses' and 'moon'"):
        benchmark_listing("eurosat", str(tmp_path), NO_SPLITS)


def test_the_content_hash_sees_a_file_that_goes_or_grows(tmp_path: Path) -> None:
    coop_tree(tmp_path, {"a": 2, "b": 2}, *EUROSAT)
    image = tmp_path / "eurosat/2750/class_0/test_1.jpg"
    hashes = []
    for change in (lambda: None, lambda: image.write_bytes(b"x"), image.unlink):
        change()
        hashes.append(benchmark_listing("eurosat", str(tmp_path), NO_SPLITS).content_hash)
    assert len(set(hashes)) == 3


def test_a_path_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    path = coop_tree(tmp_path, {"a": 2, "b": 2}, *EUROSAT)
    picture(tmp_path / "secret.jpg")
    split = json.loads(path.read_text())
    split["train"] += [["../../secret.jpg", 0, "a"], [str(tmp_path / "secret.jpg"), 0, "a"]]
    path.write_text(json.dumps(split))
    listing = benchmark_listing("eurosat", str(tmp_path), NO_SPLITS)
    outside = [entry for entry in listing.entries if "secret" in entry.file]
    assert [listing.path(entry) for entry in outside] == [None, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ('{"train": [], "val": []}', "has no 'test'"),
        ('{"train": [["a.jpg", "0", "a"]], "val": [], "test": []}', "train entry 0"),
        ('{"train": [["a.jpg", 0, "a"]], "val": [], "test": []}', "class 'a' has 0 .* 'test'"),
        ('{"train": [["a.jpg", 0, "_"]], "val": [], "test": []}', "the class name '_'"),
    ],
)
def test_a_broken_split_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = coop_tree(tmp_path, {"a": 1}, *EUROSAT)
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        benchmark_listing("eurosat", str(tmp_path), NO_SPLITS)


def test_a_benchmark_in_plain_folders_has_coops_names(tmp_path: Path) -> None:
    folder_tree(tmp_path / "eurosat", {"SeaLake": 1, "Forest": 1})
    listing = benchmark_listing("eurosat", str(tmp_path), NO_SPLITS)
    assert [concept.name for concept in listing.concepts] == ["Forest", "Sea or Lake"]
    assert {entry.place for entry in listing.entries} == {None}
    with pytest.raises(ConfigError, match=r"has no 'split_zhou_Food101.json' and no folders"):
        benchmark_listing("food101", str(tmp_path), NO_SPLITS)


def test_aircraft_has_lists_of_variants(tmp_path: Path) -> None:
    root = tmp_path / "fgvc_aircraft"
    for i in range(6):
        picture(root / "images" / f"000{i}.jpg", i)
    (root / "variants.txt").write_text("F-16A/B\nDC-3\n")
    for number, split in enumerate(("train", "val", "test")):
        lines = (f"000{2 * number} DC-3", f"000{2 * number + 1} F-16A/B")
        (root / f"images_variant_{split}.txt").write_text("\n".join(lines) + "\n")
    listing = benchmark_listing("fgvc_aircraft", str(tmp_path), NO_SPLITS)
    assert [concept.name for concept in listing.concepts] == ["F-16A/B", "DC-3"]
    assert [(e.file, e.label) for e in listing.entries][:2] == [("0000.jpg", 1), ("0001.jpg", 0)]
    (root / "images_variant_val.txt").write_text("0002 DC-4\n")
    with pytest.raises(ConfigError, match="the variant 'DC-4'"):
        benchmark_listing("fgvc_aircraft", str(tmp_path), NO_SPLITS)


def test_imagenet_tests_on_val_and_holds_val_out_of_train(tmp_path: Path) -> None:
    root = tmp_path / "imagenet"
    folder_tree(root / "images", {"n02": 10, "n01": 10}, splits=("train", "val"))
    (root / "classnames.txt").write_text("n01 great white shark\nn02 sunglasses\nn03 okapi\n")
    listing = benchmark_listing("imagenet", str(tmp_path), NO_SPLITS)
    assert [concept.name for concept in listing.concepts] == ["great white shark", "sunglasses"]
    assert all(file.startswith("val/") for file in files(listing, "test"))
    held_out = set(files(listing, "val"))
    assert len(held_out) == 2 * min(HELD_OUT, 2)
    assert held_out < {f"train/{w}/train_{i}.png" for w in ("n01", "n02") for i in range(10)}
    assert len(files(listing, "train")) == 20 - len(held_out)
    again = benchmark_listing("imagenet", str(tmp_path), NO_SPLITS, frozenset(held_out))
    assert not held_out & set(files(again, "val")), "published shots stay in train"
    (root / "classnames.txt").write_text("n01 great white shark\n")
    with pytest.raises(ConfigError, match="'n02' is not in"):
        benchmark_listing("imagenet", str(tmp_path), NO_SPLITS)


def test_laion_beyond_joins_both_groups(tmp_path: Path) -> None:
    laion_tree(tmp_path, "Animals", "OOP", {"Zebra_finch": 0, "crane": 1})
    path = laion_tree(tmp_path, "Animals", "IP", {"crane": 0, "ant": 1, "ant.lion": 2})
    split = json.loads(path.read_text())
    del split["train"]["0"]["INFO"]
    path.write_text(json.dumps(split))
    listing = benchmark_listing("laion_animals", str(tmp_path), NO_SPLITS)
    assert [(concept.name, concept.group) for concept in listing.concepts] == [
        ("Zebra finch", "OOP"),
        ("ant", "IP"),
        ("ant.lion", "IP"),
        ("crane", "IP"),
        ("crane", "OOP"),
    ]
    cranes = [e for e in listing.entries if e.class_name == "crane" and e.split == "train"]
    assert [e.caption for e in cranes[:1]] == ["a crane (OOP) in the sun"]
    assert {listing.labels[e.group, e.label] for e in cranes} == {3, 4}
    assert [e.caption is None for e in cranes if e.group == "IP"] == [True, False, False]
    assert min(listing.sizes) > 0


def test_several_versions_of_a_domain_are_asked_about(tmp_path: Path) -> None:
    laion_tree(tmp_path, "Food", "IP", {"rice": 0})
    laion_tree(tmp_path, "Food", "OOP", {"poke": 0}, n=53)
    laion_tree(tmp_path, "Food", "OOP", {"laksa": 0}, n=60)
    several = "Food53_OOP/split_Xin_Food53_OOP.json, Food60_OOP/split_Xin_Food60_OOP.json"
    with pytest.raises(ConfigError, match=f"oop_split: none, .*allowed: {several}"):
        benchmark_listing("laion_food", str(tmp_path), NO_SPLITS)
    chosen = {"OOP": "Food60_OOP/split_Xin_Food60_OOP.json", "IP": None}
    listing = benchmark_listing("laion_food", str(tmp_path), chosen)
    assert [concept.name for concept in listing.concepts] == ["laksa", "rice"]
    with pytest.raises(ConfigError, match="has no PokemonN_OOP"):
        benchmark_listing("laion_pokemon", str(tmp_path), NO_SPLITS)


def test_a_names_file_names_folders_that_cannot_have_their_names(tmp_path: Path) -> None:
    folder_tree(tmp_path, {"red_panda": 1, "F-16A_B": 1})
    listing = folder_listing("planes", str(tmp_path))
    assert [concept.name for concept in listing.concepts] == ["F-16A B", "red panda"]
    (tmp_path / "classnames.txt").write_text("F-16A_B\tF-16A/B\nred_panda Red panda\n")
    listing = folder_listing("planes", str(tmp_path))
    assert [concept.name for concept in listing.concepts] == ["F-16A/B", "Red panda"]
    (tmp_path / "val").rename(tmp_path / "vla")
    with pytest.raises(ConfigError, match="has no folder 'val'"):
        folder_listing("planes", str(tmp_path))
