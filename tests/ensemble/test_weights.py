"""The search gives weight to what ranks well, and its estimate is of patients that it has not seen."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxr_cft.ensemble import search_weights, weights
from cxr_cft.errors import PredictionsError
from cxr_cft.progress import Silent

CATEGORIES = ("Cardiomegaly", "Edema")
NOISE = 10.0  # a member of this noise has nothing to say, see `made`


@pytest.fixture
def search(member, made, names):
    """Search over made members, one a noise; returns (ensemble, labels, scores (M, S, C))."""

    def search(noises, studies=200, *, seed=0, data=0, prevalence=0.3, shifts=None, **options):
        labels, scores = made(np.random.default_rng(data), studies, noises, prevalence)
        if shifts is not None:
            scores = [1 / (1 + (1 / p - 1) * np.exp(-shift)) for p, shift in zip(scores, shifts, strict=True)]
        members = [member(f"m{number}", part) for number, part in enumerate(scores)]
        return (
            search_weights(members, names(studies), labels, CATEGORIES, seed=seed, **options),
            labels,
            np.stack(scores),
        )

    return search


def mean_auroc(labels, scores):
    return np.mean([roc_auc_score(labels[:, c], scores[:, c]) for c in range(labels.shape[1])])


# What is found


def test_weights_are_shares_and_never_worse_than_equal_ones_on_what_they_were_fitted_to(search):
    found, _, _ = search((1.0, 2.0, 3.0), 120)
    for estimate in (found.equal, found.ga):
        assert sum(estimate.weights.values()) == pytest.approx(1)
        assert min(estimate.weights.values()) >= 0
    assert found.equal.weights == pytest.approx(dict.fromkeys(("m0", "m1", "m2"), 1 / 3))
    assert found.ga.fitted >= found.equal.fitted


def test_where_equal_weights_are_best_the_search_finds_nothing_else(member, names):
    labels = np.repeat([[0.0], [1.0]], 30, axis=0).repeat(2, axis=1)
    perfect = np.linspace(0.1, 0.9, 60)[:, None].repeat(2, axis=1)
    found = search_weights([member("a", perfect), member("b", perfect)], names(60), labels, CATEGORIES)
    assert found.ga.weights == found.equal.weights
    assert (found.equal.fitted, found.equal.out_of_fold, found.difference) == (1, 1, 0)
    assert found.chosen == "equal"


def test_a_member_of_noise_gets_little_weight_where_there_are_many_studies(search):
    found, _, _ = search((1.5, 1.5, NOISE), 1500)
    assert found.ga.weights["m2"] < 0.1
    assert min(found.ga.weights["m0"], found.ga.weights["m1"]) > 0.3
    assert found.chosen == "ga"
    assert found.difference > 0.02
    assert found.interval[0] > 0
    assert {entry.name: entry.weight for entry in found.members} == found.ga.weights


def test_the_files_fitted_scores_are_those_of_its_blend_on_the_same_rows(search):
    found, labels, scores = search((1.0, 2.0, 1.5), 150)
    for which in ("equal", "ga"):
        assert mean_auroc(labels, found.using(which).blend(scores)) == pytest.approx(getattr(found, which).fitted)


def test_the_prior_is_the_mean_probability_of_the_chosen_blend(search):
    found, _, scores = search((1.0, 2.0), 100)
    np.testing.assert_allclose([found.prior[c] for c in CATEGORIES], found.blend(scores).mean(axis=0))


def test_each_members_scale_is_measured_on_the_studies(search):
    found, _, scores = search((1.0, 2.0), 100)
    for entry, part in zip(found.members, scores, strict=True):
        logits = np.log(part / (1 - part))
        assert [entry.scale[c].center for c in CATEGORIES] == pytest.approx(logits.mean(axis=0))
        assert [entry.scale[c].spread for c in CATEGORIES] == pytest.approx(logits.std(axis=0))
        assert all(entry.scale[c].probability for c in CATEGORIES)


# How it is judged


def test_members_of_pure_noise_are_worth_a_coin_out_of_fold_though_the_fit_looks_better(search):
    found = [search((NOISE,) * 6, 200, data=data)[0] for data in range(3)]
    assert np.mean([each.ga.fitted for each in found]) > 0.54
    assert np.mean([each.ga.out_of_fold for each in found]) == pytest.approx(0.5, abs=0.025)
    assert np.mean([abs(each.difference) for each in found]) < 0.05
    assert all(each.interval[0] < 0 < each.interval[1] for each in found)


def test_the_out_of_fold_estimate_foretells_other_patients(search, made):
    found, _, _ = search((1.5, 2.5, NOISE), 800)
    labels, scores = made(np.random.default_rng(99), 20000, (1.5, 2.5, NOISE))
    for which in ("equal", "ga"):
        unseen = mean_auroc(labels, found.using(which).blend(np.stack(scores)))
        assert getattr(found, which).out_of_fold == pytest.approx(unseen, abs=0.03)


def test_the_genetic_algorithm_is_chosen_only_where_it_wins_by_more_than_chance(search):
    chosen = []
    for members, studies in (((1.5, 1.6, 1.4, 1.5), 80), ((0.2, 2.5), 300)):
        found, _, _ = search(members, studies)
        chosen.append(found.chosen)
        assert found.difference == pytest.approx(found.ga.out_of_fold - found.equal.out_of_fold)
        assert found.chosen == ("ga" if found.interval[0] > 0 else "equal")
        used = found.ga if found.chosen == "ga" else found.equal
        assert {entry.name: entry.weight for entry in found.members} == used.weights
    assert chosen == ["equal", "ga"]


def test_how_members_are_calibrated_does_not_move_the_verdict(search):
    plain, _, _ = search((1.2, 2.0), 200)
    shifted, _, _ = search((1.2, 2.0), 200, shifts=(-4.0, 3.0))
    assert shifted.ga.weights == pytest.approx(plain.ga.weights)
    assert shifted.difference == pytest.approx(plain.difference)
    assert shifted.chosen == plain.chosen


def test_patients_are_kept_whole_across_folds(search, monkeypatch, names):
    seen = []
    monkeypatch.setattr(weights._Problem, "search", lambda _, rows, __: seen.append(rows) or np.full(2, 0.5))
    search((1.0, 2.0), 60)
    everything, *kept = seen
    assert everything.all()
    patients = np.array([name.split("/")[2] for name in names(60)])
    held_out = [~rows for rows in kept]
    assert len(held_out) == weights.FOLDS
    assert (np.sum(held_out, axis=0) == 1).all()
    for rows in held_out:
        assert not set(patients[rows]) & set(patients[~rows])
        assert rows.sum() == 12


def test_a_fold_is_judged_on_a_scale_and_weights_that_it_had_no_part_in(search, monkeypatch):
    seen = []
    real = weights._blended
    monkeypatch.setattr(weights, "_blended", lambda *call: seen.append(call) or real(*call))
    found, _, scores = search((1.0, 2.0), 60)
    assert len(seen) == 2 * weights.FOLDS
    assert all(len(call[0][0]) == 12 for call in seen)
    whole = [[entry.scale[c].center for c in CATEGORIES] for entry in found.members]
    for held_out, _, (_, center, _) in seen:
        rest = [m[~np.isin(m[:, 0], h[:, 0])] for m, h in zip(scores, held_out, strict=True)]
        np.testing.assert_allclose(center, [np.log(m / (1 - m)).mean(axis=0) for m in rest])
        assert not np.allclose(center, whole)


def test_the_same_seed_gives_the_same_file_and_another_seed_other_folds(search):
    first, again, other = (search((1.0, 2.0, 3.0), 80, seed=seed)[0] for seed in (1, 1, 2))
    assert first == again
    assert first.equal.out_of_fold != other.equal.out_of_fold
    assert first.equal.fitted == other.equal.fitted


def test_progress_hears_of_each_fold(search):
    class Counting(Silent):
        def track(self, items, description, total, unit="steps"):
            self.told = description, total, unit
            yield from items

    progress = Counting()
    search((1.0, 2.0), 60, progress=progress)
    assert progress.told == ("judging out of fold", 5, "folds")


# What members may be like


def test_one_member_has_all_the_weight_and_nothing_to_win(search):
    found, labels, scores = search((1.0,), 60)
    assert found.equal == found.ga
    assert found.ga.weights == {"m0": 1.0}
    assert (found.chosen, found.difference, found.interval) == ("equal", 0, (0, 0))
    np.testing.assert_allclose(found.blend(scores), scores[0])
    assert found.equal.fitted == pytest.approx(mean_auroc(labels, scores[0]))


def test_ranks_of_another_tool_outside_0_and_1_take_part(member, made, names):
    labels, (good, poor) = made(np.random.default_rng(0), 300, (1.0, NOISE))
    foreign = 2.8 * np.log(good / (1 - good)) + 40
    found = search_weights([member("f", foreign), member("n", poor)], names(300), labels, CATEGORIES)
    assert found.ga.weights["f"] > 0.8
    assert not any(scale.probability for scale in found.members[0].scale.values())
    assert mean_auroc(labels, found.using("ga").blend(np.stack([foreign, poor]))) == pytest.approx(found.ga.fitted)


@pytest.mark.parametrize("constant", [0.0, 0.3, 1.0, 7.0])
def test_a_member_that_always_says_the_same_neither_helps_nor_harms(member, made, names, constant):
    labels, (good,) = made(np.random.default_rng(0), 100, (1.0,))
    flat = np.full_like(good, constant)
    found = search_weights([member("good", good), member("flat", flat)], names(100), labels, CATEGORIES)
    alone = mean_auroc(labels, good)
    assert found.equal.fitted == pytest.approx(alone)
    assert found.ga.fitted == pytest.approx(alone)
    assert np.isfinite(found.blend(np.stack([good, flat]))).all()


def test_members_that_are_certain_take_part(member, made, names):
    labels, (good,) = made(np.random.default_rng(0), 100, (1.0,))
    certain = (good > 0.5).astype(np.float64)
    found = search_weights([member("good", good), member("sure", certain)], names(100), labels, CATEGORIES)
    blended = found.using("equal").blend(np.stack([good, certain]))
    assert ((blended >= 0) & (blended <= 1)).all()
    assert mean_auroc(labels, blended) > mean_auroc(labels, certain)


def test_members_may_have_other_studies_too_but_lack_none(member, made, names):
    labels, (good, other) = made(np.random.default_rng(0), 40, (1.0, 2.0))
    more = search_weights([member("a", good), member("b", other)], names(40)[:30], labels[:30], CATEGORIES)
    assert more.studies == 30
    lacking = member("short", other[:38])
    with pytest.raises(PredictionsError, match=r"short\.csv has no row for 2 of 40 studies: Tiny/valid/patient00019"):
        search_weights([member("a", good), lacking], names(40), labels, CATEGORIES)


# What labels may be like


def test_unknown_labels_count_for_nothing(search, member, names):
    _, labels, scores = search((1.0, 2.0), 100)
    hidden = np.where(np.random.default_rng(3).random(labels.shape) < 0.4, np.nan, labels)
    members = [member(name, part) for name, part in zip("ab", scores, strict=True)]
    found = search_weights(members, names(100), hidden, CATEGORIES)
    known = ~np.isnan(hidden)
    blended = found.using("equal").blend(scores)
    expected = np.mean([roc_auc_score(hidden[k, c], blended[k, c]) for c, k in enumerate(known.T)])
    assert found.equal.fitted == pytest.approx(expected)


def test_too_few_positives_leave_the_interval_undefined_and_the_file_is_json_all_the_same(search, member, names):
    _, labels, scores = search((1.0, 2.0), 60)
    labels[:] = 0
    labels[[3, 40]] = 1
    members = [member(name, part) for name, part in zip("ab", scores, strict=True)]
    found = search_weights(members, names(60), labels, CATEGORIES)
    assert found.interval is None
    assert json.loads(json.dumps(found.model_dump(mode="json"), allow_nan=False))["interval"] is None


def test_a_single_positive_is_searched_for_in_four_folds_of_five_without_a_word_of_numpy(search, member, names):
    _, labels, scores = search((1.0, 2.0), 60)
    labels[:] = 0
    labels[17] = 1
    members = [member(name, part) for name, part in zip("ab", scores, strict=True)]
    assert search_weights(members, names(60), labels, CATEGORIES).interval is None


def test_a_category_that_nobody_can_score_is_blended_but_not_counted(search, member, names):
    _, labels, scores = search((1.0, 2.0), 60)
    labels[:, 1] = np.nan
    members = [member(name, part) for name, part in zip("ab", scores, strict=True)]
    found = search_weights(members, names(60), labels, CATEGORIES)
    assert found.scored == ("Cardiomegaly",)
    assert found.categories == CATEGORIES
    assert np.isfinite(found.blend(scores)).all()


@pytest.mark.parametrize(
    ("categories", "scored"), [(("Fracture", "Edema"), ("Edema",)), (("Fracture", "Other"), ("Fracture", "Other"))]
)
def test_the_competitions_categories_decide_where_there_are_any(member, made, names, categories, scored):
    labels, parts = made(np.random.default_rng(0), 60, (1.0, 2.0))
    members = [member(name, part, categories) for name, part in zip("ab", parts, strict=True)]
    assert search_weights(members, names(60), labels, categories).scored == scored


def test_labels_of_one_class_are_refused(member, names):
    with pytest.raises(PredictionsError, match="no category has both a positive and a negative study among the labels"):
        search_weights([member("a", np.zeros((6, 2)))], names(6), np.zeros((6, 2)), CATEGORIES)


def test_studies_of_one_patient_cannot_be_judged(member):
    studies = ["flat/one", "flat/two", "flat/three"]
    labels, scores = np.array([[0, 1], [1, 0], [1, 1.0]]), np.random.default_rng(0).random((3, 2))
    with pytest.raises(PredictionsError, match="all studies are of one patient, 'flat', so that no weights can be jud"):
        search_weights([member("a", scores, studies=studies)], studies, labels, CATEGORIES)


def test_two_patients_are_enough(member):
    studies = ["p1/s1", "p1/s2", "p2/s1", "p2/s2"]
    labels = np.array([[0, 1], [1, 0], [1, 1.0], [0, 0]])
    rng = np.random.default_rng(0)
    members = [member(name, rng.random((4, 2)), studies=studies) for name in "ab"]
    assert search_weights(members, studies, labels, CATEGORIES).studies == 4
