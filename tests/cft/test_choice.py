"""What the choice gains is told by rows that did not choose, with an interval that can be believed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, ttest_1samp

from cxr_cft.cft import choice
from cxr_cft.cft.choice import BLOCKS, FOLDS, Gain, Groups, best_column, cross_fitted_gain, mean_gain
from cxr_cft.metrics import auroc, average_precision


def gain_of(labels, scores, groups=None, seed=0, metric=auroc):
    grouped = Groups.of(np.arange(len(labels)) if groups is None else np.asarray(groups), seed)
    blocks = int(grouped.blocks.max()) + 1
    rng = np.random.default_rng(seed)
    return cross_fitted_gain(
        metric, np.asarray(labels, np.float64), np.asarray(scores, np.float32), grouped, blocks, rng
    )


def drawn(rng, rows, positives, separations):
    """Labels, and a column of normal scores for each separation of the classes."""
    labels = np.repeat([1.0, 0.0], [positives, rows - positives])
    return labels, labels[:, None] * separations + rng.normal(size=(rows, len(separations)))


def area(separation):
    """The AUROC of normal scores whose classes lie so far apart."""
    return norm.cdf(separation / np.sqrt(2))


# Groups and folds


@settings(deadline=None)
@given(
    codes=st.lists(st.integers(0, 15), min_size=1, max_size=60),
    seed=st.integers(0, 10_000),
    folds=st.integers(2, FOLDS),
)
def test_folds_keep_groups_whole_are_even_and_have_a_positive_each_where_there_are_enough(codes, seed, folds):
    rng = np.random.default_rng(seed)
    codes = np.array(codes)
    labels = rng.integers(0, 2, len(codes)).astype(float)
    fold_of = choice._folds(labels, codes, folds, rng)
    groups = np.unique(codes)
    of_groups = [set(fold_of[codes == group]) for group in groups]
    assert all(len(found) == 1 for found in of_groups)
    sizes = np.bincount([found.pop() for found in of_groups], minlength=folds)
    assert len(sizes) == folds
    assert np.ptp(sizes) <= 1
    positive = len(np.unique(codes[labels == 1]))
    assert len(set(fold_of[labels == 1])) == min(folds, positive)


def test_folds_are_drawn_anew_each_time():
    labels, codes, rng = np.arange(20) % 2 * 1.0, np.arange(20), np.random.default_rng(0)
    first, second = (choice._folds(labels, codes, 5, rng) for _ in range(2))
    assert (first != second).any()


@pytest.mark.parametrize("names", [["b", "a", "b", "c"], [7, -1, 7, 10**12], [0.5, 0.1, 0.5, 9.0]])
def test_groups_may_have_any_names(names):
    groups = Groups.of(np.array(names), seed=0)
    assert groups.codes.tolist() == [1, 0, 1, 2]
    assert groups.blocks[0] == groups.blocks[2]
    assert sorted(set(groups.blocks)) == [0, 1, 2]


@pytest.mark.parametrize(("groups", "blocks"), [(1, 1), (199, 199), (200, 200), (1001, 200)])
def test_blocks_are_one_a_group_or_as_many_as_there_may_be_and_even(groups, blocks):
    found = Groups.of(np.repeat(np.arange(groups), 2), seed=0)
    assert all(len(set(found.blocks[found.codes == group])) == 1 for group in range(groups))
    sizes = np.bincount(found.blocks)
    assert len(sizes) == blocks <= BLOCKS
    assert np.ptp(sizes) <= 2  # one group of two rows


def test_no_row_is_no_group():
    assert Groups.of(np.arange(0), seed=0).blocks.shape == (0,)


# The interval


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), number=st.integers(2, 50), confidence=st.sampled_from([0.5, 0.9, 0.95]))
def test_the_jackknife_of_a_mean_is_students_interval(seed, number, confidence):
    values = np.random.default_rng(seed).normal(3, 2, number)
    gain = Gain(values.mean(), (values.sum() - values) / (number - 1))
    expected = ttest_1samp(values, 0).confidence_interval(confidence)
    np.testing.assert_allclose(gain.interval(confidence), (expected.low, expected.high), rtol=1e-9, atol=1e-9)


def test_an_interval_worked_out_by_hand():
    # Means of 1, 2 and 6 without each: 4, 3.5, 1.5. Their variance about their mean of 3, times 2 of 3 blocks:
    # (1 + 0.25 + 2.25) · 2/3 = 7/3. Student's t with 2 degrees of freedom at 97.5 % is 4.302653.
    low, high = Gain(3.0, np.array([4, 3.5, 1.5])).interval(0.95)
    assert (low, high) == pytest.approx((3 - 4.302653 * np.sqrt(7 / 3), 3 + 4.302653 * np.sqrt(7 / 3)), rel=1e-6)


@pytest.mark.parametrize("gain", [Gain(np.nan, np.full(9, np.nan)), Gain(0.1, np.array([0.1])), Gain(0.1, np.zeros(0))])
def test_where_there_is_no_estimate_there_is_no_interval(gain):
    assert np.isnan(gain.interval(0.95)).all()


def test_the_mean_gain_is_that_of_the_categories_that_have_one():
    gains = [
        Gain(0.1, np.array([0.1, 0.3])),
        Gain(np.nan, np.full(2, np.nan)),
        Gain(0.3, np.array([0.2, 0.1])),
    ]
    found = mean_gain(gains)
    assert found.value == pytest.approx(0.2)
    np.testing.assert_allclose(found.without, [0.15, 0.2])


@pytest.mark.parametrize("gains", [[], [Gain(np.nan, np.full(3, np.nan))] * 2])
def test_without_any_gain_there_is_no_mean(gains):
    found = mean_gain(gains)
    assert np.isnan(found.value)
    assert np.isnan(found.interval(0.95)).all()


def test_the_mean_of_two_opposite_gains_is_certain():
    noise = np.random.default_rng(0).normal(size=50)  # the same patients: what one category gains the other loses
    found = mean_gain([Gain(0.2, 0.2 + noise), Gain(0.4, 0.4 - noise)])
    np.testing.assert_allclose(found.interval(0.95), (0.3, 0.3))


# The choice


@pytest.mark.parametrize(
    ("values", "chosen"), [([1, 3, 2], 1), ([2, 2, 1], 0), ([np.nan, 1, 1], 1), ([np.nan, np.nan], 0), ([5], 0)]
)
def test_the_best_column_is_the_first_of_equals_and_never_an_unknown_one(values, chosen):
    assert best_column(np.array(values, np.float64)) == chosen


@pytest.mark.parametrize("metric", [auroc, average_precision])
def test_the_gain_and_what_is_left_without_each_block_are_those_of_the_definition(metric):
    rng = np.random.default_rng(1)
    labels, scores = drawn(rng, 60, 20, [0.5, 1.0, 0.8])
    groups = rng.integers(0, 25, 60)
    found = gain_of(labels, scores, groups, seed=4, metric=metric)
    grouped = Groups.of(groups, 4)
    again = np.random.default_rng(4)
    scores = scores.astype(np.float32)
    expected = []
    for _ in range(choice.REPEATS):
        fold_of = choice._folds(labels, grouped.codes, FOLDS, again)
        for fold in range(FOLDS):
            held = fold_of == fold
            chosen = int(np.argmax(metric(labels[~held], scores[~held])))
            parts = [held] + [held & (grouped.blocks != block) for block in range(grouped.blocks.max() + 1)]
            values = [metric(labels[part], scores[part]) for part in parts]
            differences = np.array([value[chosen] - value[0] for value in values])
            expected.append(np.where(np.isnan(differences), differences[0], differences))
    value, *without = np.mean(expected, axis=0)
    assert found.value == pytest.approx(value)
    np.testing.assert_allclose(found.without, without)


def test_a_block_without_a_known_row_changes_nothing():
    rng = np.random.default_rng(0)
    labels, scores = drawn(rng, 60, 20, [0.5, 1.5])
    groups = Groups(np.arange(60), np.arange(60) + 5)
    found = cross_fitted_gain(auroc, labels, scores.astype(np.float32), groups, 70, np.random.default_rng(0))
    assert found.without.shape == (70,)
    assert np.isnan(found.without[[*range(5), *range(65, 70)]]).all()
    alone = Groups(np.arange(60), np.arange(60))
    plain = cross_fitted_gain(auroc, labels, scores.astype(np.float32), alone, 60, np.random.default_rng(0))
    assert found.value == plain.value
    assert found.interval(0.95) == plain.interval(0.95)


def test_with_nothing_to_choose_there_is_no_gain():
    labels, scores = drawn(np.random.default_rng(0), 60, 20, [1.0])
    gain = gain_of(labels, np.repeat(scores, 4, axis=1))
    assert gain.value == 0
    assert gain.interval(0.95) == (0, 0)


def test_a_perfect_ranking_in_place_of_a_reversed_one_gains_all():
    labels = np.arange(40) % 2 * 1.0
    gain = gain_of(labels, np.stack([-labels, labels], axis=1))
    assert gain.value == 1
    assert gain.interval(0.95) == (1, 1)


@pytest.mark.parametrize("few", [1, 2, 3])
@pytest.mark.parametrize("rarer", [0, 1])
def test_a_class_of_fewer_than_four_groups_has_no_estimate(few, rarer):
    labels = np.where(np.arange(20) < few, rarer, 1 - rarer)
    gain = gain_of(labels, np.random.default_rng(0).normal(size=(20, 3)))
    assert np.isnan(gain.value)
    assert np.isnan(gain.without).all()
    assert len(gain.without) == 20
    assert np.isnan(gain.interval(0.95)).all()


@pytest.mark.parametrize("positives", [4, 5])
def test_an_interval_from_as_few_positives_as_there_may_be_knows_how_unsure_it_is(positives):
    # Two for each of two folds: with one, leaving it out would leave nothing, and the interval would be far too short.
    rng = np.random.default_rng(0)
    bounds = [gain_of(*drawn(rng, 100, positives, [1.0] * 6), seed=seed).interval(0.95) for seed in range(200)]
    assert np.mean([low <= 0 <= high for low, high in bounds]) > 0.8
    assert np.mean([low > 0 for low, _ in bounds]) < 0.1


def test_many_rows_of_one_group_are_one_group():
    labels = np.repeat([1.0, 0.0], [12, 30])
    scores = np.random.default_rng(0).normal(size=(42, 2))
    three, four = (np.r_[np.arange(12) % number, np.arange(12, 42)] for number in (3, 4))
    assert np.isnan(gain_of(labels, scores, groups=three).value)
    assert np.isfinite(gain_of(labels, scores, groups=four).value)


def test_groups_of_both_classes_that_leave_folds_of_one_class_are_no_obstacle():
    # Four groups of both classes and many of the one: a fold may get none of the other.
    rng = np.random.default_rng(0)
    labels, groups = np.r_[np.tile([1.0, 0.0], 4), np.ones(30)], np.r_[np.repeat(np.arange(4), 2), np.arange(4, 34)]
    gains = [gain_of(labels, rng.normal(size=(38, 3)), groups, seed) for seed in range(40)]
    assert all(-1 <= gain.value <= 1 for gain in gains)


@pytest.mark.parametrize("positives", [4, 5, 9, 10, 50])
def test_few_positives_are_enough_for_an_estimate(positives):
    labels, scores = drawn(np.random.default_rng(0), 100, positives, [0.0, 6.0])
    gain = gain_of(labels, scores)
    assert gain.value > 0.2
    low, high = gain.interval(0.95)
    assert low < gain.value < high


def test_the_same_generator_gives_the_same_estimate_and_another_one_another():
    labels, scores = drawn(np.random.default_rng(0), 80, 20, [1.0] * 6)
    first, again, other = (gain_of(labels, scores, seed=seed) for seed in (3, 3, 4))
    assert first.value == again.value
    assert first.without.tobytes() == again.without.tobytes()
    assert first.value != other.value


# What it is for


@pytest.fixture(scope="module")
def noise():
    """Choices among eleven columns that are equally good: apparent gains, and the estimates of them."""
    rng = np.random.default_rng(0)
    apparent, gains = [], []
    for seed in range(700):
        labels, scores = drawn(rng, 80, 25, [1.0] * 11)
        values = auroc(labels, scores)
        apparent.append(values.max() - values[0])
        gains.append(gain_of(labels, scores, seed=seed))
    return np.array(apparent), gains


def test_choosing_among_noise_seems_to_gain_but_is_told_to_gain_nothing(noise):
    apparent, gains = noise
    values = np.array([gain.value for gain in gains])
    assert apparent.mean() > 0.06
    assert abs(values.mean()) < 0.01  # three standard errors of the simulation
    assert values.std() / np.sqrt(len(values)) < 0.0034


def test_the_interval_of_a_gain_that_is_not_there_covers_zero_about_as_often_as_it_says(noise):
    _, gains = noise
    for confidence, least, most in ((0.95, 0.8, 0.99), (0.5, 0.35, 0.6)):
        bounds = np.array([gain.interval(confidence) for gain in gains])
        covered = ((bounds[:, 0] <= 0) & (bounds[:, 1] >= 0)).mean()
        assert least <= covered <= most
        # What a rule that asks for a gain above 0 is afraid of is not more frequent than it says.
        assert (bounds[:, 0] > 0).mean() < (1 - confidence) / 2 + 0.05


def test_the_gain_of_a_truly_better_candidate_is_found_and_its_interval_covers_it():
    rng = np.random.default_rng(0)
    truth = area(2.0) - area(1.0)
    gains = [gain_of(*drawn(rng, 100, 40, [1.0, 2.0]), seed=seed) for seed in range(150)]
    assert np.mean([gain.value for gain in gains]) == pytest.approx(truth, abs=0.012)
    bounds = np.array([gain.interval(0.95) for gain in gains])
    assert 0.88 <= ((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])).mean() <= 0.99
    assert (bounds[:, 0] > 0).mean() > 0.7


def test_what_is_estimated_is_the_choice_and_not_the_best_column():
    # Among many bad columns and one that is slightly better, the choice often errs, and the estimate knows.
    rng = np.random.default_rng(0)
    gains = [gain_of(*drawn(rng, 40, 12, [1.0, 1.2, *[0.9] * 10]), seed=seed).value for seed in range(150)]
    assert np.mean(gains) < area(1.2) - area(1.0) - 0.02


def test_a_patients_views_told_as_such_do_not_shrink_the_interval():
    rng = np.random.default_rng(0)
    labels, scores = drawn(rng, 80, 30, [1.0, 1.8])
    single = gain_of(labels, scores)
    views = np.tile(labels, 4), np.tile(scores, (4, 1))
    grouped = gain_of(*views, groups=np.tile(np.arange(80), 4))
    assert grouped.value == pytest.approx(single.value)
    np.testing.assert_allclose(grouped.interval(0.95), single.interval(0.95))
    mistaken = gain_of(*views)
    assert np.ptp(mistaken.interval(0.95)) < 0.7 * np.ptp(single.interval(0.95))


def test_views_that_are_alike_in_many_patients_do_not_make_noise_look_like_a_gain():
    # Ungrouped, a patient's other view is among the rows that choose: columns that know patients by heart look better.
    rng = np.random.default_rng(0)
    grouped, mistaken = [], []
    for seed in range(60):
        labels, scores = drawn(rng, 40, 15, [1.0] * 11)
        views = np.tile(labels, 4), np.tile(scores, (4, 1))
        grouped.append(gain_of(*views, groups=np.tile(np.arange(40), 4), seed=seed).value)
        mistaken.append(gain_of(*views, seed=seed).value)
    assert abs(np.mean(grouped)) < 0.035
    assert np.mean(mistaken) > 0.06
