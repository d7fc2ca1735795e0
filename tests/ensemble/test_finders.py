"""Each way to find weights finds what it says, on the studies that it is given and on no others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from cxr_cft.ensemble import finders
from cxr_cft.ensemble.finders import find_weights, shares

FINDERS = ("ga", "ga-category", "greedy", "best")


def members_of(strengths, studies=200, *, data=0, prevalence=0.3):
    """Scores (M, S, C) on the common scale and labels: a positive lies `strengths` (M, C) deviations higher."""
    rng = np.random.default_rng(data)
    strengths = np.asarray(strengths, dtype=np.float64)
    labels = (rng.random((studies, strengths.shape[1])) < prevalence).astype(np.float64)
    return strengths[:, None] * labels + rng.normal(size=(len(strengths), *labels.shape)), labels


def find(z, labels, *, rows=None, patients=None, scored=None, seed=0):
    rows = np.arange(len(labels)) if rows is None else np.asarray(rows)
    patients = np.arange(len(labels)) // 2 if patients is None else patients
    scored = range(labels.shape[1]) if scored is None else scored
    return find_weights(z, labels, patients, rows, scored, np.random.default_rng(seed))


def mean_auroc(labels, scores, categories):
    return np.mean([roc_auc_score(labels[:, c], scores[:, c]) for c in categories])


# ---- shares


@given(
    hnp.arrays(np.float64, (4, 3), elements=st.just(0.0) | st.floats(1e-6, 1e6)),
    hnp.arrays(np.bool_, (4, 3)),
)
def test_shares_sum_to_one_over_those_that_have_a_category_in_the_weights_proportion(weights, there):
    found = shares(weights, there)
    assert (found[~there] == 0).all()
    np.testing.assert_allclose(found.sum(axis=0), there.any(axis=0).astype(float), rtol=1e-12)
    kept = np.where(there, weights, 0)
    for c in np.flatnonzero(there.any(axis=0)):
        expected = kept[:, c] / kept[:, c].sum() if kept[:, c].any() else there[:, c] / there[:, c].sum()
        np.testing.assert_allclose(found[:, c], expected, rtol=1e-12)


# ---- what is found


@pytest.mark.parametrize("finder", FINDERS)
def test_weights_are_shares_of_the_members_that_have_a_category(finder):
    z, labels = members_of(np.full((4, 3), 0.8))
    z[1, :, 0] = z[3, :, 2] = z[2, :, 2] = np.nan
    weights = find(z, labels).weights[finder]
    assert weights.shape == (4, 3)
    assert (weights >= 0).all()
    assert weights[1, 0] == weights[3, 2] == weights[2, 2] == 0
    np.testing.assert_allclose(weights.sum(axis=0), 1)


@pytest.mark.parametrize("data", range(3))
def test_the_best_single_is_the_member_of_the_highest_mean_auroc_over_the_scored(data):
    z, labels = members_of(np.full((5, 3), 0.5), data=data)
    for scored in ([0], [1, 2], [0, 1, 2]):
        alone = [mean_auroc(labels, part, scored) for part in z]
        expected = np.zeros((5, 3))
        expected[np.argmax(alone)] = 1
        np.testing.assert_array_equal(find(z, labels, scored=scored).weights["best"], expected)


def greedy(z, labels, scored, steps):
    """Caruana et al. (ICML 2004): add whichever member helps the mean most, with replacement; the best on the way."""
    bag, best, weights = [], -1.0, None
    for _ in range(steps):
        tried = [mean_auroc(labels, z[[*bag, m]].sum(axis=0), scored) for m in range(len(z))]
        bag.append(int(np.argmax(np.round(tried, 9))))  # the first of equals
        if round(max(tried), 9) > best:
            best, weights = round(max(tried), 9), np.bincount(bag, minlength=len(z)) / len(bag)
    return weights


@pytest.mark.parametrize("data", range(4))
def test_greedy_selection_is_caruanas(data):
    z, labels = members_of(np.linspace(0.2, 1, 5)[:, None].repeat(2, axis=1), 120, data=data)
    z = z.astype(np.float32).astype(np.float64)
    expected = greedy(z, labels, [0, 1], finders.GREEDY_STEPS)
    assert np.count_nonzero(expected) > 1
    np.testing.assert_allclose(find(z, labels).weights["greedy"], expected[:, None].repeat(2, axis=1), rtol=1e-6)


def test_the_genetic_algorithm_gives_little_to_members_of_noise():
    z, labels = members_of(np.repeat([[1.2]] * 3 + [[0.0]] * 5, 2, axis=1), 500)
    found = find(z, labels)
    for finder in ("ga", "ga-category"):
        assert found.weights[finder][3:].sum(axis=0).max() < 0.2
    assert found.counted[:3].min() == 1
    assert found.counted[3:].mean() < 0.5


def test_weights_per_category_go_to_whoever_is_good_at_it():
    z, labels = members_of([[1.5, 0.0], [0.0, 1.5]], 400)
    found = find(z, labels)
    own, shared = found.weights["ga-category"], found.weights["ga"]
    assert min(own[0, 0], own[1, 1]) > 0.8
    assert shared[0, 0] == shared[0, 1] == pytest.approx(0.5, abs=0.2)
    blends = {name: (weights[:, None] * z).sum(axis=0) for name, weights in found.weights.items()}
    assert mean_auroc(labels, blends["ga-category"], [0, 1]) > mean_auroc(labels, blends["ga"], [0, 1]) + 0.05


def test_the_genetic_algorithm_is_no_worse_on_its_studies_than_any_member_or_equal_weights():
    z, labels = members_of([[0.3, 1.0], [1.0, 0.3], [0.6, 0.6], [0.0, 0.0]], 400)
    blend = (find(z, labels).weights["ga"][:, None] * z).sum(axis=0)
    rivals = [*z, z.mean(axis=0)]
    assert mean_auroc(labels, blend, [0, 1]) > max(mean_auroc(labels, rival, [0, 1]) for rival in rivals)


def test_only_the_scored_categories_decide_on_shared_weights_but_each_on_its_own():
    z, labels = members_of([[1.5, 0.0], [0.0, 1.5]], 300)
    first, second = (find(z, labels, scored=[c]).weights for c in (0, 1))
    for finder in ("ga", "greedy", "best"):
        assert min(first[finder][0].min(), second[finder][1].min()) > 0.7
    assert min(own["ga-category"][c, c] for own in (first, second) for c in (0, 1)) > 0.8


def test_a_category_without_both_classes_gets_the_shared_weights():
    z, labels = members_of([[1.5, 1.5, 1.5], [0.2, 0.2, 0.2]])
    labels[:, 1], labels[:, 2] = np.nan, 0
    found = find(z, labels, scored=[0])
    np.testing.assert_allclose(found.weights["ga-category"][:, 1:], found.weights["ga"][:, 1:], rtol=1e-6)
    assert abs(found.weights["ga"][0, 0] - 0.5) > 0.1


def test_where_nothing_can_be_scored_all_weights_are_finite_shares():
    z, labels = members_of([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]], 20)
    found = find(z, np.full_like(labels, np.nan))
    for weights in found.weights.values():
        np.testing.assert_allclose(weights.sum(axis=0), 1)
    np.testing.assert_allclose(found.weights["greedy"], 1 / 3)


def test_one_member_has_all_the_weight():
    z, labels = members_of([[1.0, 1.0]])
    z[0, :, 1] = np.nan
    found = find(z, labels)
    assert set(found.weights) == set(FINDERS)
    for weights in found.weights.values():
        np.testing.assert_array_equal(weights, [[1, 0]])
    assert found.counted == [1]


# ---- who lacks a category


@pytest.fixture
def specialist():
    """A member of 0.98 in the first of two categories, which lacks the second, and two of 0.80 in both; and labels."""
    z, labels = members_of([[3.0, 0.0], [1.2, 1.2], [1.2, 1.2]], 400)
    z[0, :, 1] = np.nan
    aurocs = [roc_auc_score(labels[:, 0], part[:, 0]) for part in z]
    assert aurocs[0] > 0.97
    # As a coin in the second it would be behind the others.
    assert (aurocs[0] + 0.5) / 2 < min(mean_auroc(labels, part, [0, 1]) for part in z[1:])
    return z, labels


def test_the_best_single_is_no_coin_where_it_lacks_a_category(specialist):
    np.testing.assert_array_equal(find(*specialist).weights["best"], [[1, 0], [0, 0.5], [0, 0.5]])


def test_greedy_selection_begins_with_the_best_even_if_it_lacks_a_category(specialist, monkeypatch):
    monkeypatch.setattr(finders, "GREEDY_STEPS", 1)
    np.testing.assert_array_equal(find(*specialist).weights["greedy"], [[1, 0], [0, 0.5], [0, 0.5]])


@pytest.mark.parametrize("data", range(3))
def test_greedy_selection_takes_who_lacks_a_category_for_the_others_there(data):
    z, labels = members_of([[1.5, 0.0], [0.9, 0.9], [0.6, 1.0], [0.0, 1.2]], 120, data=data)
    z[0, :, 1] = z[3, :, 0] = np.nan
    z = z.astype(np.float32).astype(np.float64)
    there = ~np.isnan(z).any(axis=1)

    def worth(bag):
        weights = shares(np.repeat(np.bincount(bag, minlength=4)[:, None], 2, axis=1), there)
        return round(mean_auroc(labels, (weights[:, None] * np.nan_to_num(z)).sum(axis=0), [0, 1]), 9)

    bag, bags = [], []
    for _ in range(finders.GREEDY_STEPS):
        bag = max(([*bag, m] for m in range(4)), key=worth)
        bags.append(bag)
    best = np.bincount(max(bags, key=worth), minlength=4)
    expected = shares(np.repeat(best[:, None], 2, axis=1), there)
    np.testing.assert_allclose(find(z, labels).weights["greedy"], expected, rtol=1e-6)


def test_the_genetic_algorithm_does_not_give_up_a_member_for_the_category_that_it_lacks(specialist):
    z, labels = specialist
    weights = find(z, labels).weights
    for finder in ("ga", "ga-category"):
        assert weights[finder][0, 0] > 0.4
        np.testing.assert_array_equal(weights[finder][0, 1], 0)
        np.testing.assert_allclose(weights[finder][1:, 1].sum(), 1)
        blend = (weights[finder][:, None] * np.nan_to_num(z)).sum(axis=0)
        assert mean_auroc(labels, blend, [0]) > 0.97


def test_what_the_genes_of_an_absent_member_drift_to_moves_no_weight_of_the_present(monkeypatch):
    z, labels = members_of([[1.0, 1.0], [0.8, 0.4], [0.5, 0.9], [0.9, 0.7]])
    z[1, :, 0] = z[3, :, 1] = np.nan
    real = finders.maximise_islands
    found = []
    for drift in range(3):
        draw = np.random.default_rng(drift).uniform

        def drifted(*call, draw=draw, **options):
            genes, fitness = real(*call, **options)
            genes = np.array(genes)
            if len(genes) == 2 * finders.BAGS:  # an island a resample and category
                for c, absent in ((0, 1), (1, 3)):
                    genes[c::2] *= draw(0.1, 1, (finders.BAGS, 1))
                    genes[c::2, absent] = draw(0, 9, finders.BAGS)
                    genes[c::2] /= genes[c::2].sum(axis=1, keepdims=True)
            return genes, fitness

        monkeypatch.setattr(finders, "maximise_islands", drifted if drift else real)
        found.append(find(z, labels).weights["ga-category"])
    np.testing.assert_allclose(found[0].sum(axis=0), 1)
    assert found[0][1, 0] == found[0][3, 1] == 0
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-6)


# ---- on which studies


def test_studies_that_are_not_given_do_not_move_a_bit():
    z, labels = members_of(np.full((3, 2), 0.7))
    rows = np.arange(0, 200, 3)
    plain = find(z, labels, rows=rows)
    others = np.setdiff1d(np.arange(200), rows)
    labels[others] = 1 - labels[others]
    z[:, others] = np.random.default_rng(9).normal(size=(3, len(others), 2))
    again = find(z, labels, rows=rows)
    for finder in FINDERS:
        assert again.weights[finder].tobytes() == plain.weights[finder].tobytes()
    assert again.counted.tobytes() == plain.counted.tobytes()
    labels[rows] = 1 - labels[rows]
    assert find(z, labels, rows=rows).weights["ga"].tobytes() != plain.weights["ga"].tobytes()


def test_unknown_labels_count_for_nothing():
    z, labels = members_of(np.full((3, 2), 0.7))
    labels[::4] = np.nan
    plain = find(z, labels)
    z[:, ::4] = np.random.default_rng(9).normal(size=z[:, ::4].shape)
    again = find(z, labels)
    assert all(again.weights[finder].tobytes() == plain.weights[finder].tobytes() for finder in FINDERS)


def test_the_generator_alone_decides_what_is_drawn():
    z, labels = members_of(np.full((3, 2), 0.7))
    first, again, other = (find(z, labels, seed=seed).weights for seed in (1, 1, 2))
    for finder in ("ga", "ga-category"):
        assert first[finder].tobytes() == again[finder].tobytes() != other[finder].tobytes()
    for finder in ("greedy", "best"):
        assert first[finder].tobytes() == other[finder].tobytes()


# ---- resamples


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 12), min_size=1, max_size=40))
def test_a_resample_draws_whole_patients_from_the_given_studies(seed, patients):
    patients = np.array(patients)
    rows = np.flatnonzero(np.random.default_rng(seed).random(len(patients)) < 0.7)
    rows = rows if len(rows) else np.array([0])
    drawn = finders._resample(patients, rows, np.random.default_rng(seed))
    assert set(drawn) <= set(rows)
    often = np.bincount(drawn, minlength=len(patients))
    for patient in set(patients[rows]):
        assert len(set(often[rows[patients[rows] == patient]])) == 1
    number = len(set(patients[rows]))
    assert sum(often[rows[patients[rows] == patient][0]] for patient in set(patients[rows])) == number


def test_resamples_differ_and_leave_out_a_third_of_the_patients():
    rows, rng = np.arange(900), np.random.default_rng(0)
    first, second = (finders._resample(rows // 3, rows, rng) for _ in range(2))
    assert set(first) != set(second)
    assert len(set(first // 3)) == pytest.approx(300 * (1 - np.exp(-1)), rel=0.1)


def test_a_resample_of_many_studies_holds_about_as_many_as_are_asked_for():
    rows = np.arange(6000)
    assert len(finders._resample(rows // 2, rows, np.random.default_rng(0))) == finders.BAG_STUDIES


def test_the_search_sees_resamples_of_patients(monkeypatch):
    seen = []
    real = finders._Sample
    monkeypatch.setattr(finders, "_Sample", lambda *call: seen.append(call[3]) or real(*call))
    z, labels = members_of(np.full((3, 2), 0.7), 60)
    find(z, labels, rows=np.arange(40))
    whole, *bags = seen
    np.testing.assert_array_equal(whole, np.arange(40))
    assert len(bags) == finders.BAGS
    for rows in bags:
        often = np.bincount(rows, minlength=60)
        np.testing.assert_array_equal(often[0:40:2], often[1:40:2])
        assert often[40:].sum() == 0
        assert often.max() > 1
