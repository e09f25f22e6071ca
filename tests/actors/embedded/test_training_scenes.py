"""What the tiny CLIP is trained on: IP concepts, and nothing else."""

import re

import numpy as np
import torch

from actors.embedded.concepts import SUBJECTS, caption_words, load_concepts, words_of
from actors.embedded.trainer import ARTIST_SHARES, ClipTrainer, ClipTrainerConfig
from actors.embedded.training_scenes import BootstrapScenes, ip_concepts

ALLOWED_BESIDE_NAMES = caption_words() | {w for s in SUBJECTS.values() for w in words_of(s.hint)}


def test_no_oop_concept_is_among_the_sprites_or_names_of_training() -> None:
    trained = ClipTrainer(ClipTrainerConfig(steps=1)).scenes.concepts
    oop = {concept.code for concept in load_concepts() if concept.group == "OOP"}
    assert len(trained) > 900
    assert not oop & {concept.code for concept in trained}
    # textures are all that scenes are drawn from, one per artist and trained concept
    assert {concept.group for concept in trained} == {"IP"}


def test_no_caption_says_a_word_of_an_oop_name() -> None:
    concepts = ip_concepts()
    oop_words = {w for c in load_concepts() if c.group == "OOP" for w in words_of(c.name)}
    scenes = BootstrapScenes(concepts[:300], ARTIST_SHARES, size=16)
    said = set()
    for seed in range(3):
        _, captions = scenes.batch(np.arange(300), seed)
        for concept, caption in zip(concepts, captions, strict=False):
            assert concept.name in caption
            said |= set(re.findall(r"\w+", caption.replace(concept.name, "").lower()))
    assert said <= ALLOWED_BESIDE_NAMES
    assert not said & oop_words


def test_a_batch_depends_on_its_seed_alone() -> None:
    scenes = BootstrapScenes(ip_concepts()[:8], ARTIST_SHARES, size=32)
    rows = np.arange(8)
    first, captions = scenes.batch(rows, seed=5)
    scenes.batch(rows, seed=6)
    again, captions_again = scenes.batch(rows, seed=5)
    assert torch.equal(first, again)
    assert captions == captions_again
    assert first.shape == (8, 3, 32, 32)
    assert 0 <= first.min() <= first.max() <= 1
    assert not torch.equal(first, scenes.batch(rows, seed=6)[0])


def test_no_concept_twice_in_a_batch() -> None:
    trainer = ClipTrainer(ClipTrainerConfig(steps=10, batch_size=256))
    for step in range(4):
        trainer.step = step
        assert len(set(trainer.concept_rows())) == 256
