"""The benchmark sets that are known by name: facts about their folders, classes and prompts.

Sources: CoOp (Zhou et al., 2022), its dataset guide and hand-crafted prompts; LAION-Beyond, its
folder names and prompts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class CoopSet:
    """One of CoOp's 11 sets."""

    folder: str
    """Folder of the set, under the root of all sets."""
    images: str
    """Folder, below `folder`, from which the paths of the split count."""
    index: str
    """File in `folder` that says what is where, or (layout "wnids") what the classes are called."""
    layout: Literal["split", "lists", "wnids"] = "split"
    """A split file of CoOp's; lists per split, as FGVC Aircraft has; or train/WNID/ and val/WNID/,
    as ImageNet has."""
    classes: int
    hint: str
    template: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Class folders whose class CoOp calls otherwise, for sets in plain folders."""


@dataclass(frozen=True, kw_only=True)
class LaionSet:
    """One domain of LAION-Beyond: {folder}{N}_OOP and {folder}{N}_IP under the root."""

    folder: str
    spellings: tuple[str, ...] = ()
    """Other ways in which the folder's name is written."""
    oop: int
    """Classes out of pre-training, as released."""
    ip: int
    hint: str

    @property
    def classes(self) -> int:
        return self.oop + self.ip

    @property
    def template(self) -> str:
        return f"a photo of {{}}, a type of {self.hint}."


@dataclass(frozen=True, kw_only=True)
class ShiftSet:
    """Test images of classes of ImageNet that came about in another way; nothing to learn from.

    In CoOp's folders: {folder}/{images}/CLASS/file, and beside `images` ImageNet's classnames.txt.
    """

    folder: str
    images: str
    classes: int
    numbered: bool = False
    """Whether a class's folder is the number of its line in classnames.txt, from 0."""
    hint: str = "object"
    template: str = "a photo of a {}."


COOP: dict[str, CoopSet] = {
    "imagenet": CoopSet(
        folder="imagenet",
        images="images",
        index="classnames.txt",
        layout="wnids",
        classes=1000,
        hint="object",
        template="a photo of a {}.",
    ),
    "caltech101": CoopSet(
        folder="caltech-101",
        images="101_ObjectCategories",
        index="split_zhou_Caltech101.json",
        classes=100,
        hint="object",
        template="a photo of a {}.",
        renamed={
            "airplanes": "airplane",
            "Faces": "face",
            "Leopards": "leopard",
            "Motorbikes": "motorbike",
        },
    ),
    "fgvc_aircraft": CoopSet(
        folder="fgvc_aircraft",
        images="images",
        index="variants.txt",
        layout="lists",
        classes=100,
        hint="aircraft",
        template="a photo of a {}, a type of aircraft.",
    ),
    "stanford_cars": CoopSet(
        folder="stanford_cars",
        images="",
        index="split_zhou_StanfordCars.json",
        classes=196,
        hint="car",
        template="a photo of a {}.",
    ),
    "food101": CoopSet(
        folder="food-101",
        images="images",
        index="split_zhou_Food101.json",
        classes=101,
        hint="food",
        template="a photo of {}, a type of food.",
    ),
    "oxford_pets": CoopSet(
        folder="oxford_pets",
        images="images",
        index="split_zhou_OxfordPets.json",
        classes=37,
        hint="pet",
        template="a photo of a {}, a type of pet.",
    ),
    "oxford_flowers": CoopSet(
        folder="oxford_flowers",
        images="jpg",
        index="split_zhou_OxfordFlowers.json",
        classes=102,
        hint="flower",
        template="a photo of a {}, a type of flower.",
    ),
    "dtd": CoopSet(
        folder="dtd",
        images="images",
        index="split_zhou_DescribableTextures.json",
        classes=47,
        hint="texture",
        template="{} texture.",
    ),
    "eurosat": CoopSet(
        folder="eurosat",
        images="2750",
        index="split_zhou_EuroSAT.json",
        classes=10,
        hint="land use",
        template="a centered satellite photo of {}.",
        renamed={
            "AnnualCrop": "Annual Crop Land",
            "HerbaceousVegetation": "Herbaceous Vegetation Land",
            "Highway": "Highway or Road",
            "Industrial": "Industrial Buildings",
            "Pasture": "Pasture Land",
            "PermanentCrop": "Permanent Crop Land",
            "Residential": "Residential Buildings",
            "SeaLake": "Sea or Lake",
        },
    ),
    "sun397": CoopSet(
        folder="sun397",
        images="SUN397",
        index="split_zhou_SUN397.json",
        classes=397,
        hint="scene",
        template="a photo of a {}.",
    ),
    "ucf101": CoopSet(
        folder="ucf101",
        images="UCF-101-midframes",
        index="split_zhou_UCF101.json",
        classes=101,
        hint="human action",
        template="a photo of a person doing {}.",
    ),
}

LAION_BEYOND: dict[str, LaionSet] = {
    "laion_animals": LaionSet(folder="Animals", oop=92, ip=42, hint="animal"),
    "laion_architecture": LaionSet(folder="Architecture", oop=50, ip=23, hint="architecture"),
    "laion_attire": LaionSet(folder="Attire", oop=54, ip=28, hint="attire"),
    "laion_folkart": LaionSet(folder="FolkArt", oop=59, ip=27, hint="folk art"),
    "laion_food": LaionSet(folder="Food", oop=53, ip=27, hint="food"),
    "laion_insects_spiders": LaionSet(
        folder="Insects_Spiders", oop=106, ip=52, hint="insect or spider"
    ),
    "laion_landmark": LaionSet(folder="Landmark", oop=59, ip=30, hint="landmark"),
    "laion_plants_fungi": LaionSet(
        folder="Plants_Fugi",
        spellings=("Plants_Fungi",),
        oop=113,
        ip=56,
        hint="plant or fungus",
    ),
    "laion_pokemon": LaionSet(folder="Pokemon", oop=89, ip=39, hint="pokemon"),
}

SHIFTS: dict[str, ShiftSet] = {
    "imagenetv2": ShiftSet(
        folder="imagenetv2",
        images="imagenetv2-matched-frequency-format-val",
        classes=1000,
        numbered=True,
    ),
    "imagenet_sketch": ShiftSet(folder="imagenet-sketch", images="images", classes=1000),
    "imagenet_a": ShiftSet(folder="imagenet-adversarial", images="imagenet-a", classes=200),
    "imagenet_r": ShiftSet(folder="imagenet-rendition", images="imagenet-r", classes=200),
}

BENCHMARKS: dict[str, CoopSet | LaionSet | ShiftSet] = {**COOP, **LAION_BEYOND, **SHIFTS}
"""All benchmark sets, by the name that `jobs.dataset` takes."""
