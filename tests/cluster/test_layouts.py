import json
from pathlib import Path

import pytest

from cluster.catalog.benchmarks import BENCHMARKS, COOP, LAION_BEYOND
from cluster.catalog.folders import folder_listing
from cluster.catalog.layouts import HELD_OUT, benchmark_listing
from cluster.catalog.listing import Listing
from cluster.catalog.missing import likely_folder, require_files
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


@pytest.mark.parametrize(
    ("name", "folder", "classes"),
    [
        ("imagenet_a", "imagenet-adversarial/imagenet-a", ["n03", "n01"]),
        ("imagenetv2", "imagenetv2/imagenetv2-matched-frequency-format-val", ["10", "0", "2"]),
    ],
)
def test_shifts_of_imagenet_have_its_names_and_test_images_alone(
    tmp_path: Path, name: str, folder: str, classes: list[str]
) -> None:
    for number, class_folder in enumerate(classes):
        picture(tmp_path / folder / class_folder / "x.png", number)
    root = (tmp_path / folder).parent
    with pytest.raises(ConfigError, match=r"lacks 'classnames.txt' or the folder"):
        benchmark_listing(name, str(tmp_path), NO_SPLITS)
    lines = [f"n{number:02} name {number}" for number in range(11)]
    (root / "classnames.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / folder / "README.txt").write_text("read me")
    found = benchmark_listing(name, str(tmp_path), NO_SPLITS)
    numbers = sorted(int(class_folder.removeprefix("n")) for class_folder in classes)
    assert [concept.name for concept in found.concepts] == [f"name {number}" for number in numbers]
    assert [(e.split, e.class_name, e.label) for e in found.entries] == [
        ("test", f"name {number}", label) for label, number in enumerate(numbers)
    ]
    picture(tmp_path / folder / "n77" / "x.png", 0)
    with pytest.raises(ConfigError, match="'n77' is not in"):
        benchmark_listing(name, str(tmp_path), NO_SPLITS)


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


def test_one_side_of_a_domain_is_enough_where_it_is_asked_for(tmp_path: Path) -> None:
    laion_tree(tmp_path, "plants_fungi", "OOP", {"Moss": 0, "algae": 1})
    for splits in (NO_SPLITS, {"OOP": None, "IP": None}):
        with pytest.raises(ConfigError, match=r"has no Plants_FugiN_IP/.*--side OOP or IP for one"):
            benchmark_listing("laion_plants_fungi", str(tmp_path), splits)
    listing = benchmark_listing("laion_plants_fungi", str(tmp_path), {"OOP": None})
    assert [(c.name, c.group) for c in listing.concepts] == [("Moss", "OOP"), ("algae", "OOP")]
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


def test_what_lies_in_folders_and_is_no_picture_of_a_class_is_named(tmp_path: Path) -> None:
    root, outside = tmp_path / "zoo", tmp_path / "outside"
    folder_tree(root, {"ant": 2, "okapi": 1})
    folder_tree(outside, {"goat": 1}, splits=("train",))
    picture(root / "train" / "ant" / "part2" / "deep.png")
    picture(root / "train" / ".ipynb_checkpoints" / "ant.png")
    picture(root / "train" / "@eaDir" / "ant.png")
    picture(root / "train" / "lone.png")
    picture(root / "more" / "ant" / "0.png")
    (root / "test" / "ant" / ".DS_Store").write_bytes(b"x")
    (root / "README.md").write_text("about")
    (root / "train" / "goat").symlink_to(outside / "train" / "goat")
    (root / "val").rename(tmp_path / "elsewhere")
    (root / "valid").symlink_to(tmp_path / "elsewhere")
    listing = folder_listing("zoo", str(root))
    assert [concept.name for concept in listing.concepts] == ["ant", "okapi"]
    assert files(listing, "train")[0] == "train/ant/part2/deep.png"
    assert len(files(listing, "val")) == 3, "the folder of a split may be a link and may be valid/"
    assert min(listing.sizes) > 0
    assert listing.unread == {
        "README.md": "beside the folders of the splits",
        "more": "beside the folders of the splits",
        "test/ant/.DS_Store": "hidden",
        "train/.ipynb_checkpoints": "hidden",
        "train/@eaDir": "hidden",
        "train/goat": "a link that leads out of the folder",
        "train/lone.png": "in no class's folder",
    }


def test_a_class_folder_without_a_picture_is_no_class_left_out(tmp_path: Path) -> None:
    folder_tree(tmp_path, {"ant": 1})
    (tmp_path / "train" / "okapi").mkdir()
    with pytest.raises(ConfigError, match="class 'okapi' has 0 readable images in 'train'"):
        folder_listing("zoo", str(tmp_path))


def test_splits_within_a_split_are_no_classes(tmp_path: Path) -> None:
    folder_tree(tmp_path / "train", {"ant": 1})
    folder_tree(tmp_path, {"train": 1, "bus": 1}, splits=("val", "test"))
    with pytest.raises(ConfigError, match="called as a split and holds folders alone"):
        folder_listing("zoo", str(tmp_path))
    folder_tree(tmp_path / "traffic", {"train": 1, "bus": 1})
    listing = folder_listing("traffic", str(tmp_path / "traffic"))
    assert [concept.name for concept in listing.concepts] == ["bus", "train"]


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    folder_tree(tmp_path, {"ant": 1}, splits=("train", "val", "validation", "test"))
    with pytest.raises(ConfigError, match="has 'val' and 'validation', which are both val"):
        folder_listing("zoo", str(tmp_path))


def test_class_folders_of_a_names_file_are_found_however_they_are_composed(tmp_path: Path) -> None:
    folder_tree(tmp_path, {"e\u0301clair": 1, "ant": 1})
    (tmp_path / "classnames.txt").write_bytes("ant ant\n\u00e9clair cake\n".encode("utf-8-sig"))
    listing = folder_listing("food", str(tmp_path))
    assert {concept.name for concept in listing.concepts} == {"ant", "cake"}
    (tmp_path / "classnames.txt").write_text("ant ant\nant bee\n")
    with pytest.raises(ConfigError, match="names 'ant' twice"):
        folder_listing("food", str(tmp_path))
    (tmp_path / "classnames.txt").write_text("ant ant\n\u00e9clair cake\ne\u0301clair pie\n")
    with pytest.raises(ConfigError, match="names 'e\u0301clair' twice"):
        folder_listing("food", str(tmp_path))
    (tmp_path / "classnames.txt").unlink()
    (tmp_path / "classnames.txt").mkdir()
    with pytest.raises(ConfigError, match=r"classnames\.txt' cannot be read \(no regular file"):
        folder_listing("food", str(tmp_path))


def test_labels_are_whole_numbers_also_written_as_fractions(tmp_path: Path) -> None:
    path = coop_tree(tmp_path, {"a": 1, "b": 1}, *EUROSAT)
    split = json.loads(path.read_text())
    for part in split.values():
        for entry in part:
            entry[1] = float(entry[1])
    path.write_bytes(json.dumps(split).encode("utf-8-sig"))
    listing = benchmark_listing("eurosat", str(tmp_path), NO_SPLITS)
    assert [concept.name for concept in listing.concepts] == ["a", "b"]
    for label in (0.5, "0", True, None):
        split["val"][0][1] = label
        path.write_text(json.dumps(split))
        with pytest.raises(ConfigError, match=r"val entry 0 .* a whole number, not a text"):
            benchmark_listing("eurosat", str(tmp_path), NO_SPLITS)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    coop_tree(tmp_path, {"a": 2, "b": 2}, *EUROSAT)
    images = tmp_path / "eurosat" / "2750"
    picture(tmp_path / "secret.jpg")
    (images / "class_0" / "train_0.jpg").unlink()
    (images / "class_0" / "train_0.jpg").symlink_to(tmp_path / "secret.jpg")
    (images / "class_1").rename(images / "moved")
    (images / "class_1").symlink_to(images / "moved")
    listing = benchmark_listing("eurosat", str(tmp_path), NO_SPLITS)
    paths = {entry.file: listing.path(entry) for entry in listing.entries}
    assert paths["class_0/train_0.jpg"] is None
    assert paths["class_1/train_0.jpg"] == images / "class_1" / "train_0.jpg"


def test_missing_images_are_told_by_a_path_and_their_likely_folder(tmp_path: Path) -> None:
    coop_tree(tmp_path, {"a": 2, "b": 2}, *EUROSAT)
    (tmp_path / "eurosat" / "2750").rename(tmp_path / "eurosat" / "images")
    listing = benchmark_listing("eurosat", str(tmp_path), NO_SPLITS)
    with pytest.raises(ConfigError) as refusal:
        require_files("eurosat", listing, "root")
    said = str(refusal.value)
    assert "class 'a' has 0 readable images in 'test'; 12 of all 12 images are not there" in said
    assert f"tried was '{tmp_path}/eurosat/2750/class_0/test_1.jpg'" in said
    assert f"likely folder: '{tmp_path}/eurosat/images'" in said
    for odd in ("a\0.jpg", "a" * 5000):  # names that no file can have
        assert likely_folder(tmp_path / "eurosat" / "2750", odd) is None
    (tmp_path / "eurosat" / "images").rename(tmp_path / "eurosat" / "2750")
    require_files("eurosat", benchmark_listing("eurosat", str(tmp_path), NO_SPLITS), "root")
