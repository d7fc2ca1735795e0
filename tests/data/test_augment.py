"""Augmentation: the seed alone decides, nothing goes further than the recipe allows."""

from __future__ import annotations

import numpy as np
import pytest

from cxr_cft.data.augment import augmentation
from cxr_cft.settings import AugmentSettings

NOTHING = {"rotate": 0, "shift": 0, "scale": 0, "contrast": 0, "horizontal_flip": 0}
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
SEEDS = range(60)


def only(**settings):
    """An augmentation by the given settings and no others."""
    return augmentation(AugmentSettings(**{**NOTHING, **settings}))


def spot(row: int, column: int) -> np.ndarray:
    """A black square of 101 pixels a side, whose middle is 50, with a bright spot of 3."""
    image = np.zeros((101, 101), np.uint8)
    image[row - 1 : row + 2, column - 1 : column + 2] = 255
    return image


def centre(image: np.ndarray) -> np.ndarray:
    """Row and column of the centre of mass, from the middle of the image."""
    places = np.indices(image.shape).reshape(2, -1)
    return places @ image.ravel().astype(float) / image.sum() - (image.shape[0] - 1) / 2


def test_all_settings_at_zero_change_nothing():
    for seed in range(5):
        np.testing.assert_array_equal(only()(NOISE, seed), NOISE)


@pytest.mark.parametrize(
    "settings",
    [
        {"rotate": 10},
        {"shift": 0.05},
        {"scale": 0.1},
        {"contrast": 0.2},
        {"horizontal_flip": 0.5},
        AugmentSettings().model_dump(),
    ],
    ids=lambda settings: "default" if len(settings) > 1 else next(iter(settings)),
)
def test_the_seed_alone_decides(settings):
    augment, again = only(**settings), only(**settings)
    first = [augment(NOISE, seed) for seed in range(8)]
    backwards = [again(NOISE, seed) for seed in reversed(range(8))][::-1]  # neither order nor earlier calls matter
    for one, other in zip(first, backwards, strict=True):
        np.testing.assert_array_equal(one, other)
        assert (one.shape, one.dtype) == (NOISE.shape, np.uint8)
    assert any((first[0] != other).any() for other in first[1:])


def test_the_given_image_is_not_changed():
    image = NOISE.copy()
    augmentation(AugmentSettings())(image, 1)
    np.testing.assert_array_equal(image, NOISE)


def test_a_shift_goes_both_ways_and_no_further_than_its_share_of_the_side():
    moved = np.array([centre(only(shift=0.05)(spot(50, 50), seed)) for seed in SEEDS])
    assert np.abs(moved).max() <= 0.05 * 101 + 0.5
    assert (moved.min(axis=0) < -2).all()
    assert (moved.max(axis=0) > 2).all()


def test_a_rotation_goes_both_ways_and_no_further_than_its_degrees():
    turned = np.degrees([np.arctan2(*centre(only(rotate=10)(spot(50, 90), seed))) for seed in SEEDS])
    assert -10.5 < turned.min() < -5
    assert 5 < turned.max() < 10.5


def test_a_change_of_scale_keeps_the_proportions_and_goes_no_further_than_its_share():
    square = np.zeros((101, 101), np.uint8)
    square[30:71, 30:71] = 200
    bright = [only(scale=0.1)(square, seed) > 100 for seed in SEEDS]
    widths = np.array([image[50].sum() for image in bright])
    heights = np.array([image[:, 50].sum() for image in bright])
    np.testing.assert_array_equal(widths, heights)
    assert 0.88 * 41 <= widths.min() < 39
    assert 43 < widths.max() <= 1.12 * 41


def test_contrast_moves_greys_both_ways_and_leaves_the_geometry():
    augment = only(contrast=0.2)
    greys = np.array([augment(np.full((8, 8), 100, np.uint8), seed).mean() for seed in SEEDS])
    assert 100 * 0.8 - 51 - 1 <= greys.min() < 90  # contrast down by 0.2, brightness by 0.2 of 255
    assert 110 < greys.max() <= 100 * 1.2 + 51 + 1
    lit = augment(spot(20, 70), 3)
    np.testing.assert_array_equal(lit == lit.max(), spot(20, 70) == 255)


def test_a_mirror_image_is_exact_and_comes_as_often_as_asked():
    np.testing.assert_array_equal(only(horizontal_flip=1.0)(NOISE, 0), NOISE[:, ::-1])
    mirrored = [(only(horizontal_flip=0.25)(NOISE, seed) != NOISE).any() for seed in range(200)]
    assert 0.15 < np.mean(mirrored) < 0.35


def test_by_default_the_heart_stays_on_its_side():
    augment = augmentation(AugmentSettings(contrast=0))
    assert all(centre(augment(spot(60, 75), seed))[1] > 10 for seed in SEEDS)
