import numpy as np
import pytest

from actors.embedded.handwriting import FORMS, numeral


def written(digit: int, seed: int) -> np.ndarray:
    return np.asarray(numeral(digit, 72, np.random.default_rng([digit, seed])))


@pytest.mark.parametrize("digit", range(10))
def test_a_digit_is_ink_on_nothing_and_never_the_same(digit: int) -> None:
    pictures = [written(digit, seed) for seed in range(8)]
    for picture in pictures:
        assert picture.shape == (72, 72, 4)
        inked = picture[..., 3] > 0
        assert 0.02 < inked.mean() < 0.5
        assert picture[inked][:, :3].max() < 90
        assert inked[:36].any()
        assert inked[36:].any()
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    assert (written(digit, 3) == pictures[3]).all()


def test_digits_are_told_apart_by_the_mean_of_others() -> None:
    """By the nearest mean of 40 of each, in one size: a plain classifier reads the writing."""
    means = [np.mean([written(d, s)[..., 3] / 255 for s in range(40)], axis=0) for d in range(10)]
    tests = [(d, written(d, s)[..., 3] / 255) for d in range(10) for s in range(40, 50)]
    right = [d == int(np.argmin([((ink - mean) ** 2).sum() for mean in means])) for d, ink in tests]
    assert len(FORMS) == 10
    assert np.mean(right) > 0.6
