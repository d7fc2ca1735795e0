"""The search gives weight to what ranks well, says what that is worth on patients that it has not seen, and no more."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cxr_cft.data.studies import AGGREGATIONS
from cxr_cft.ensemble import nested, search_weights, weights
from cxr_cft.ensemble.blend import to_scale, weighted
from cxr_cft.ensemble.file import CANDIDATES
from cxr_cft.ensemble.nested import ERRORS
from cxr_cft.ensemble.problem import EQUAL, FAMILIES, FOLDS
from cxr_cft.ensemble.scales import CALIBRATED, COMPARABLE, PLAIN, SCALES
from cxr_cft.errors import PredictionsError

CATEGORIES = ("Cardiomegaly", "Edema")
NOISE = 10.0  # a member of this noise has nothing to say, see `made`


def mean_auroc(labels, scores):
    """Scikit-learn's, over the categories that have both classes, of the known labels."""
    known = ~np.isnan(labels)
    both = [c for c, k in enumerate(known.T) if len(set(labels[k, c])) == 2]
    return np.mean([roc_auc_score(labels[known[:, c], c], scores[known[:, c], c]) for c in both])


def written(found):
    return json.dumps(found.model_dump(mode="json"), allow_nan=False)


# ---- what is found


def test_every_candidate_has_weights_that_are_shares(search):
    found, _, _ = search((1.0, 2.0, 3.0))
    assert set(found.candidates) == {EQUAL, *FAMILIES} == set(CANDIDATES)
    for name in found.candidates:
        assert found.weights(name).min() >= 0
        np.testing.assert_allclose(found.weights(name).sum(axis=0), 1)
    for name in (EQUAL, "platt", "isotonic"):
        np.testing.assert_allclose(found.weights(name), 1 / 3)
    for name in ("ga", "greedy", "best"):
        assert (found.weights(name)[:, 0] == found.weights(name)[:, 1]).all()
    assert sorted(found.weights("best")[:, 0]) == [0, 0, 1]


@pytest.mark.usefixtures("whole_searches")
def test_of_three_good_members_among_noise_the_genetic_algorithm_is_recommended(search):
    found, _, _ = search((1.5, 1.5, 1.5, *[NOISE] * 5), 160)
    assert found.recommended == found.chosen == "ga"
    assert found.weights("ga")[3:].sum(axis=0).max() < 0.3
    assert found.weights("ga")[:3].min() > 0.15
    worth = found.candidates["ga"]
    assert worth.difference > 0.05
    assert worth.difference_interval[0] > 0
    assert [entry.counted for entry in found.members[:3]] == [1, 1, 1]
    assert np.mean([entry.counted for entry in found.members[3:]]) < 0.5
    assert min(entry.gain for entry in found.members[:3]) > max(entry.gain for entry in found.members[3:])


def test_of_members_good_on_different_categories_weights_per_category_are_recommended(member, made, names):
    labels, (good, poor) = made(np.random.default_rng(0), 300, (1.0, 6.0))
    first = np.column_stack([good[:, 0], poor[:, 1]])
    second = np.column_stack([poor[:, 0], good[:, 1]])
    found = search_weights([member("a", first), member("b", second)], names(300), labels, CATEGORIES)
    assert found.recommended == "ga-category"
    assert found.weights()[0, 0] > 0.7
    assert found.weights()[1, 1] > 0.7


def test_of_members_that_are_the_same_nothing_is_better_than_equal_weights(member, made, names):
    labels, (good,) = made(np.random.default_rng(0), 80, (1.0,))
    found = search_weights([member(name, good) for name in "abc"], names(80), labels, CATEGORIES)
    assert found.recommended == EQUAL
    assert "no candidate is better by enough" in found.verdict
    assert found.copies == (("a", "b", "c"),)
    for name in ("ga", "ga-category", "greedy", "best"):
        assert found.candidates[name].fitted == pytest.approx(found.candidates[EQUAL].fitted)
        assert found.candidates[name].difference == pytest.approx(0)
    np.testing.assert_allclose(found.correlations, 1)
    assert [entry.gain for entry in found.members] == pytest.approx([0, 0, 0])


def test_perfect_members_are_weighed_equally(member, names):
    labels = np.repeat([[0.0], [1.0]], 30, axis=0).repeat(2, axis=1)
    perfect = np.linspace(0.1, 0.9, 60)[:, None].repeat(2, axis=1)
    found = search_weights([member("a", perfect), member("b", perfect**2)], names(60), labels, CATEGORIES)
    assert found.recommended == EQUAL
    assert (found.candidates[EQUAL].fitted, found.candidates[EQUAL].out_of_fold) == (1, 1)


# ---- fitted, and what is unseen


@pytest.mark.parametrize("scale", [None, *SCALES])
def test_fitted_scores_are_scikit_learns_of_the_files_own_blend_on_the_same_rows(search, scale):
    found, labels, scores = search((1.0, 2.0, 1.5), scale=scale)
    for name, candidate in found.candidates.items():
        assert candidate.fitted == pytest.approx(mean_auroc(labels, found.using(name).blend(scores)), abs=1e-9), name


def test_the_prior_is_the_mean_probability_of_each_blend(search):
    found, _, scores = search((1.0, 2.0))
    for name, candidate in found.candidates.items():
        mean = found.using(name).blend(scores).mean(axis=0)
        np.testing.assert_allclose([candidate.prior[c] for c in CATEGORIES], mean)


def test_members_of_pure_noise_look_good_fitted_are_a_coin_out_of_fold_and_get_equal_weights(search):
    found = [search((NOISE,) * 6, 200, data=data, scale="zlogit")[0] for data in range(4)]
    for name in ("greedy", "best", "platt"):  # the others are shrunk, the more the less there is to find
        fitted = np.mean([each.candidates[name].fitted for each in found])
        assert fitted > 0.52, name
        assert fitted > np.mean([each.candidates[name].out_of_fold for each in found]) + 0.02, name
    assert np.mean([each.procedure.out_of_fold for each in found]) == pytest.approx(0.5, abs=0.04)
    assert [each.recommended for each in found] == [EQUAL] * 4
    assert all(each.candidates["ga"].difference_interval[0] <= 0 for each in found)


def test_the_out_of_fold_estimate_foretells_other_patients(search, made):
    labels, scores = made(np.random.default_rng(99), 3000, (1.5, 2.5, NOISE))
    found = [search((1.5, 2.5, NOISE), 300, data=data, scale="zlogit")[0] for data in range(3)]
    for name in CANDIDATES:
        unseen = [mean_auroc(labels, each.using(name).blend(np.stack(scores))) for each in found]
        told = [each.candidates[name].out_of_fold for each in found]
        assert np.mean(told) == pytest.approx(np.mean(unseen), abs=0.03), name
        gained = np.array(unseen) - [mean_auroc(labels, each.using(EQUAL).blend(np.stack(scores))) for each in found]
        told = [each.candidates[name].difference for each in found]
        assert np.mean(told) == pytest.approx(gained.mean(), abs=0.02), name
    for each in found:
        unseen = mean_auroc(labels, each.blend(np.stack(scores)))
        assert each.procedure.interval[0] - 0.02 < unseen < each.procedure.interval[1] + 0.02


def test_differences_are_from_equal_weights_and_intervals_hold_their_estimates(search):
    found, _, _ = search((1.0, 2.0, 4.0), 160)
    equal = found.candidates[EQUAL]
    assert (equal.difference, equal.difference_interval) == (0, (0, 0))
    for each in (*found.candidates.values(), found.procedure):
        assert each.difference == pytest.approx(each.out_of_fold - equal.out_of_fold)
        assert each.interval[0] < each.out_of_fold < each.interval[1]
        assert each.difference_interval[0] <= each.difference <= each.difference_interval[1]
    # Paired: both blends are of the same studies, so that their difference is surer than either.
    ga = found.candidates["ga"]
    assert np.ptp(ga.difference_interval) < 0.8 * np.hypot(np.ptp(ga.interval), np.ptp(equal.interval))


def test_intervals_are_of_patients_kept_whole(member, made):
    labels, scores = made(np.random.default_rng(0), 100, (1.0, 2.0))
    studies = [f"valid/p{k:03d}/study1" for k in range(100)]
    alone = search_weights(
        [member(name, part, studies=studies) for name, part in zip("ab", scores, strict=True)],
        studies,
        labels,
        CATEGORIES,
    )
    again = [f"valid/p{k:03d}/study{n}" for n in range(4) for k in range(100)]
    members = [member(name, np.tile(part, (4, 1)), studies=again) for name, part in zip("ab", scores, strict=True)]
    often = search_weights(members, again, np.tile(labels, (4, 1)), CATEGORIES)
    assert (often.studies, often.patients, alone.patients) == (400, 100, 100)
    widths = [np.ptp(found.candidates[EQUAL].interval) for found in (alone, often)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_the_procedure_is_judged_as_a_row_of_its_own(search):
    found = [search((2.0, 3.0, NOISE, NOISE), 80, data=data)[0] for data in range(4)]
    assert any(each.procedure.out_of_fold != each.candidates[each.recommended].out_of_fold for each in found)


def test_the_verdict_says_the_rule_and_what_is_recommended(search):
    gained, equal = search((0.2, 4.0), 200)[0], search((1.5, 1.6, 1.4), 60)[0]
    assert gained.recommended != EQUAL
    assert gained.verdict.startswith(f"recommended: {CANDIDATES[gained.recommended]} (in the order of the table, a ca")
    assert gained.verdict.endswith("its numbers had a part in choosing it, so expect those of the last row")
    assert equal.verdict.startswith("recommended: equal weights; no candidate is better by enough (in the ")
    for found in (gained, equal):
        assert f"by {ERRORS} standard errors of the difference" in found.verdict
        assert "Out-of-fold ones hold for unseen patients as far as" in found.caveat


def test_where_runs_take_part_all_estimates_are_called_optimistic(member, made, names):
    labels, scores = made(np.random.default_rng(0), 40, (1.0, 2.0))
    members = [replace(member("a", scores[0]), kind="run"), member("b", scores[1])]
    found = search_weights(members, names(40), labels, CATEGORIES)
    assert found.optimistic
    assert "even the out-of-fold numbers are optimistic for unseen patients" in found.caveat
    assert not search_weights(members[1:], names(40), labels, CATEGORIES).optimistic


def test_a_handful_of_positives_of_noise_is_no_reason_to_leave_equal_weights(member, names):
    recommended = []
    for data in range(8):
        rng = np.random.default_rng(data)
        labels = np.zeros((20, 2))
        for c in range(2):
            labels[rng.permutation(20)[:3], c] = 1
        members = [member(f"m{m}", rng.random((20, 2))) for m in range(6)]
        recommended.append(search_weights(members, names(20), labels, CATEGORIES, scale="zlogit").recommended)
    assert recommended.count(EQUAL) >= 6


@pytest.mark.parametrize("data", [0, 4])
def test_nothing_is_recommended_on_the_evidence_of_one_positive(member, names, data):
    rng = np.random.default_rng(data)
    labels = np.zeros((200, 2))
    labels[17] = 1
    members = [member(f"m{m}", rng.random((200, 2))) for m in range(5)]
    found = search_weights(members, names(200), labels, CATEGORIES, seed=data)
    assert found.candidates["best"].difference_interval is None
    assert found.recommended == EQUAL


# ---- what is said of members


def test_each_member_is_told_alone_and_against_the_others(search):
    found, labels, scores = search((1.0, 2.0, NOISE), 200)
    for m, entry in enumerate(found.members):
        assert entry.alone == pytest.approx(mean_auroc(labels, scores[m]))
        assert 0 <= entry.counted <= 1
        logits = np.log(scores / (1 - scores))
        for other in range(3):
            expected = np.mean([np.corrcoef(logits[[m, other], :, c])[0, 1] for c in range(2)])
            assert found.correlations[m][other] == pytest.approx(expected)
        others = [found.correlations[m][other] for other in range(3) if other != m]
        assert entry.correlation == pytest.approx(np.mean(others))
    assert found.members[0].gain == max(entry.gain for entry in found.members) > 0.02


def test_copies_are_named(member, made, names):
    labels, (good, other) = made(np.random.default_rng(0), 40, (1.0, 2.0))
    members = [member("a", good), member("b", other), member("c", good)]
    assert search_weights(members, names(40), labels, CATEGORIES).copies == (("a", "c"),)
    assert search_weights(members[:2], names(40), labels, CATEGORIES).copies == ()


def test_what_the_search_was_of_is_counted(search):
    found, labels, _ = search((1.0, 2.0), 90, seed=4)
    assert (found.studies, found.patients, found.seed) == (90, 45, 4)
    assert found.positives == dict(zip(CATEGORIES, labels.sum(axis=0).astype(int).tolist(), strict=True))
    assert found.settings["standard_errors"] == ERRORS
    assert found.settings["folds"] == FOLDS


# ---- what members may be like


def test_one_member_comes_back_as_it_was(search):
    found, labels, scores = search((1.0,))
    np.testing.assert_allclose(found.blend(scores), scores[0], rtol=0, atol=1e-9)
    assert found.recommended == EQUAL
    assert found.verdict == "one member only, m0: there is nothing to weigh"
    assert found.candidates[EQUAL].fitted == pytest.approx(mean_auroc(labels, scores[0]))
    assert (found.members[0].gain, found.members[0].correlation) == (None, None)
    for name in ("ga", "ga-category", "greedy", "best"):
        np.testing.assert_array_equal(found.weights(name), [[1, 1]])


def test_a_blend_reads_like_the_average_members_probability(search):
    found, _, scores = search((1.0, 1.5, 2.0), 200)
    logits = np.log(scores / (1 - scores))
    blend = found.using(EQUAL).blend(scores)
    blend = np.log(blend / (1 - blend))
    np.testing.assert_allclose(blend.mean(axis=0), logits.mean(axis=(0, 1)))
    np.testing.assert_allclose(blend.std(axis=0), logits.std(axis=1).mean(axis=0))


def test_a_member_without_a_category_is_used_for_the_others(member, made, names):
    labels, (first, second, third) = made(np.random.default_rng(0), 120, (1.0, 1.5, 2.0))
    members = [member("a", first), member("b", second[:, 1:], CATEGORIES[1:]), member("c", third[:, :1], ["Edema"])]
    found = search_weights(members, names(120), labels, CATEGORIES)
    for name, candidate in found.candidates.items():
        assert {member: set(own) for member, own in candidate.weights.items()} == {
            "a": set(CATEGORIES),
            "b": {"Edema"},
            "c": {"Edema"},
        }
        np.testing.assert_allclose(found.weights(name).sum(axis=0), 1)
        assert candidate.weights["a"]["Cardiomegaly"] == 1
    assert all(set(scale) == {"Edema"} for scale in found.members[1].scales.values())
    np.testing.assert_allclose(found.weights(EQUAL)[:, 1], 1 / 3)
    scores = np.full((3, 120, 2), np.nan)
    scores[0], scores[1, :, 1], scores[2, :, 1] = first, second[:, 1], third[:, 0]
    for name, candidate in found.candidates.items():
        blend = found.using(name).blend(scores)
        assert candidate.fitted == pytest.approx(mean_auroc(labels, blend))
        np.testing.assert_array_equal(blend[:, 0].argsort(), first[:, 0].argsort())
    written(found)


def test_members_without_a_common_category_have_no_correlation(member, made, names):
    labels, (first, second) = made(np.random.default_rng(0), 60, (1.0, 1.5))
    members = [member("a", first[:, :1], CATEGORIES[:1]), member("b", second[:, 1:], CATEGORIES[1:])]
    found = search_weights(members, names(60), labels, CATEGORIES)
    assert found.correlations == ((pytest.approx(1), None), (None, pytest.approx(1)))
    assert found.recommended == EQUAL
    for entry, part, c in zip(found.members, (first, second), (0, 1), strict=True):
        assert entry.alone == pytest.approx(roc_auc_score(labels[:, c], part[:, c]))
    written(found)


def test_scores_of_another_tool_outside_0_and_1_take_part(member, made, names):
    labels, (good, poor) = made(np.random.default_rng(0), 300, (1.0, NOISE))
    foreign = 2.8 * np.log(good / (1 - good)) + 40
    found = search_weights([member("f", foreign), member("n", poor)], names(300), labels, CATEGORIES, scale="zlogit")
    assert found.weights("ga")[0].min() > 0.7
    assert found.recommended != EQUAL
    blend = found.blend(np.stack([foreign, poor]))
    assert mean_auroc(labels, blend) == pytest.approx(found.candidates[found.chosen].fitted)
    alone = search_weights([member("f", foreign)], names(300), labels, CATEGORIES).blend(foreign[None])
    assert ((alone > 0) & (alone < 1)).all()
    np.testing.assert_array_equal(alone.argsort(axis=0), foreign.argsort(axis=0))


@pytest.mark.parametrize("constant", [0.0, 0.3, 1.0, 7.0])
def test_a_member_that_always_says_the_same_neither_helps_nor_harms(member, made, names, constant):
    labels, (good,) = made(np.random.default_rng(0), 80, (1.0,))
    flat = np.full_like(good, constant)
    found = search_weights([member("good", good), member("flat", flat)], names(80), labels, CATEGORIES)
    alone = mean_auroc(labels, good)
    assert found.candidates[EQUAL].fitted == pytest.approx(alone)
    assert found.candidates["ga"].fitted == pytest.approx(alone)
    assert np.isfinite(found.blend(np.stack([good, flat]))).all()
    assert found.members[1].correlation is None
    written(found)


@pytest.mark.parametrize("constant", [0.0, 0.5, 40.0])
def test_members_that_all_say_nothing_are_a_coin(member, made, names, constant):
    labels, _ = made(np.random.default_rng(0), 40, (1.0,))
    members = [member(name, np.full((40, 2), constant)) for name in "ab"]
    found = search_weights(members, names(40), labels, CATEGORIES)
    assert found.recommended == EQUAL
    assert {candidate.out_of_fold for candidate in found.candidates.values()} == {0.5}
    written(found)


def test_members_that_are_certain_take_part(member, made, names):
    labels, (good,) = made(np.random.default_rng(0), 100, (1.0,))
    certain = (good > 0.5).astype(np.float64)
    found = search_weights([member("good", good), member("sure", certain)], names(100), labels, CATEGORIES)
    blended = found.using(EQUAL).blend(np.stack([good, certain]))
    assert ((blended > 0) & (blended < 1)).all()
    assert mean_auroc(labels, blended) > mean_auroc(labels, certain)


@pytest.mark.parametrize("scale", ["zlogit", "logit"])
@pytest.mark.parametrize("sure", [(-33, -1), (-33, -30), (-30, 30), (26, 33)])
def test_blends_of_members_that_are_nearly_certain_keep_studies_apart(member, names, scale, sure):
    rng = np.random.default_rng(0)
    logits = np.concatenate([rng.normal(size=(2, 100, 2)), rng.uniform(*sure, (2, 20, 2))], axis=1)
    scores = 1 / (1 + np.exp(-logits))
    labels = (rng.random((120, 2)) < 0.5).astype(float)
    members = [member(name, part) for name, part in zip("ab", scores, strict=True)]
    found = search_weights(members, names(120), labels, CATEGORIES, scale=scale)
    for name in (EQUAL, "ga", "ga-category"):
        used = found.using(name)
        blend = used.blend(scores)
        assert ((blend > 0) & (blend < 1)).all()
        scales = [[entry.scales[scale][category].model_dump() for category in CATEGORIES] for entry in found.members]
        z = weighted(to_scale(scores, scales), used.weights()).round(9)
        assert [len(np.unique(column)) for column in blend.T] >= [len(np.unique(column)) for column in z.T]
        assert len(np.unique(z)) > 200


def test_members_may_have_other_studies_too_but_lack_none(member, made, names):
    labels, (good, other) = made(np.random.default_rng(0), 40, (1.0, 2.0))
    more = search_weights([member("a", good), member("b", other)], names(40)[:30], labels[:30], CATEGORIES)
    assert more.studies == 30
    with pytest.raises(PredictionsError, match=r"member short has no row for 2 of 40 studies: Tiny/valid/patient00019"):
        search_weights([member("a", good), member("short", other[:38])], names(40), labels, CATEGORIES)


KINDS = (
    lambda rng, shape: rng.random(shape),
    lambda rng, shape: rng.integers(0, 2, shape).astype(float),
    lambda rng, shape: rng.normal(0, 50, shape),
)
"""Probabilities, certainties, and scores of another tool."""


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 2**16),
    st.integers(4, 30),
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    st.floats(0, 0.5),
)
def test_whatever_members_and_labels_are_like_the_file_is_whole(member, seed, studies, kinds, unknown):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (studies, 2)).astype(float)
    labels[rng.random(labels.shape) < unknown] = np.nan
    labels[:2, 0] = 0, 1
    names = [f"x/p{patient}/s{k}" for k, patient in enumerate([0, 1, *rng.integers(0, studies, studies - 2)])]
    scores = np.stack([kind(rng, (studies, 2)) for kind in kinds])
    members = [member(f"m{m}", part, studies=names) for m, part in enumerate(scores)]
    found = search_weights(members, names, labels, CATEGORIES, seed=seed)
    written(found)
    scored = [CATEGORIES.index(category) for category in found.scored]
    for name, candidate in found.candidates.items():
        blend = found.using(name).blend(scores)
        assert ((blend > 0) & (blend < 1)).all()
        assert candidate.fitted == pytest.approx(mean_auroc(labels[:, scored], blend[:, scored]), abs=1e-9)


# ---- views and scales


@pytest.fixture
def by_view(viewed, made, names):
    """Members of two views a study, whose scores differ by `spread`; labels with them."""

    def by_view(spread, noises=(1.0, 2.0), studies=60, **options):
        labels, scores = made(np.random.default_rng(0), studies, noises)
        rng = np.random.default_rng(1)
        members = []
        for m, part in enumerate(scores):
            logits = np.log(part / (1 - part)).repeat(2, axis=0)
            moved = 1 / (1 + np.exp(-logits - spread * rng.normal(size=logits.shape)))
            members.append(viewed(f"v{m}", moved))
        return search_weights(members, names(studies), labels, CATEGORIES, **options)

    return by_view


def test_views_are_joined_in_three_ways_only_where_they_differ(by_view, search):
    tried = [(each.aggregation, each.scale) for each in by_view(0.5).scales]
    assert tried[0] == ("max", "zlogit")
    assert tried[: len(AGGREGATIONS)] == [(how, "zlogit") for how in AGGREGATIONS]
    [used] = {how for how, _ in tried[len(AGGREGATIONS) :]}
    assert tried[len(AGGREGATIONS) :] == [(used, kind) for kind in PLAIN if kind != "zlogit"]
    for found in (by_view(0.0), search((1.0, 2.0))[0]):
        assert [(each.aggregation, each.scale) for each in found.scales] == [("max", kind) for kind in PLAIN]


def test_of_noisy_views_the_mean_is_taken(by_view):
    found = by_view(4.0, (0.3, 0.3), 400, scale="zlogit")
    assert found.aggregation in ("mean", "logit_mean")
    first, *others = found.scales
    assert (first.aggregation, first.difference, first.error) == ("max", 0, 0)
    assert max(each.difference - ERRORS * each.error for each in others) > 0
    assert by_view(0.2, scale="zlogit").aggregation == "max"


def test_forced_views_and_scales_leave_nothing_to_choose(by_view):
    found = by_view(1.0, aggregation="mean", scale="rank")
    assert (found.aggregation, found.scales) == ("mean", ())
    assert all(entry.by_view for entry in found.members)
    for name, candidate in found.candidates.items():
        assert candidate.scale == (name if name in CALIBRATED else "rank")
    assert (found.settings["aggregations"], found.settings["scales"]) == (["mean"], ["rank"])
    assert {each.aggregation for each in by_view(1.0, aggregation="logit_mean").scales} == {"logit_mean"}
    assert {each.scale for each in by_view(1.0, scale="none").scales} == {"none"}


def test_every_candidate_names_its_scale_and_the_members_have_it(search):
    found, _, _ = search((1.0, 2.0))
    for name, candidate in found.candidates.items():
        assert candidate.scale in (PLAIN if name == EQUAL else [name] if name in CALIBRATED else COMPARABLE)
        assert all(candidate.scale in entry.scales for entry in found.members)


def test_a_member_of_studies_is_not_one_of_views(search):
    assert not any(entry.by_view for entry in search((1.0, 2.0))[0].members)


@pytest.mark.parametrize("shift", [-4.0, 3.0])
def test_how_members_are_calibrated_moves_nothing_on_a_standardised_scale(member, made, names, shift):
    labels, scores = made(np.random.default_rng(0), 120, (1.2, 2.0))
    found = []
    for by in (0, shift):
        moved = [1 / (1 + np.exp(-(np.log(part / (1 - part)) + by * m))) for m, part in enumerate(scores)]
        members = [member(f"m{m}", part) for m, part in enumerate(moved)]
        found.append(search_weights(members, names(120), labels, CATEGORIES, scale="zlogit"))
    for name in (EQUAL, "greedy", "best", "ga"):
        assert found[0].candidates[name].out_of_fold == pytest.approx(found[1].candidates[name].out_of_fold, abs=0.005)
    np.testing.assert_allclose(found[0].weights("ga"), found[1].weights("ga"), atol=0.02)


# ---- what labels may be like


def test_unknown_labels_count_for_nothing(search, member, names):
    _, labels, scores = search((1.0, 2.0))
    hidden = np.where(np.random.default_rng(3).random(labels.shape) < 0.4, np.nan, labels)
    members = [member(name, part) for name, part in zip("ab", scores, strict=True)]
    found = search_weights(members, names(100), hidden, CATEGORIES)
    for name, candidate in found.candidates.items():
        assert candidate.fitted == pytest.approx(mean_auroc(hidden, found.using(name).blend(scores)))
    assert found.positives == {c: int((hidden[:, k] == 1).sum()) for k, c in enumerate(CATEGORIES)}


@pytest.mark.parametrize("positives", [[17], [3, 40]])
def test_too_few_positives_leave_the_intervals_undefined_and_the_file_is_json_all_the_same(
    search, member, names, positives
):
    _, labels, scores = search((1.0, 2.0), 60)
    labels[:] = 0
    labels[positives] = 1
    members = [member(name, part) for name, part in zip("ab", scores, strict=True)]
    found = search_weights(members, names(60), labels, CATEGORIES)
    assert all(candidate.interval is None for candidate in found.candidates.values())
    assert json.loads(written(found))["candidates"]["ga"]["difference_interval"] is None


def test_where_no_fold_has_both_classes_there_is_no_estimate_and_equal_weights(member):
    studies = [f"x/p{k}/s" for k in range(2)]
    rng = np.random.default_rng(0)
    members = [member(name, rng.random((2, 2)), studies=studies) for name in "abc"]
    found = search_weights(members, studies, np.array([[0, 1], [1, 0.0]]), CATEGORIES)
    assert found.recommended == EQUAL
    assert {candidate.out_of_fold for candidate in found.candidates.values()} == {None}
    assert [entry.gain for entry in found.members] == [None] * 3
    written(found)


@pytest.mark.parametrize("label", [np.nan, 0.0, 1.0])
def test_a_category_that_nobody_can_score_is_blended_but_not_counted(search, member, names, label):
    _, labels, scores = search((1.0, 2.0), 60)
    labels[:, 1] = label
    members = [member(name, part) for name, part in zip("ab", scores, strict=True)]
    found = search_weights(members, names(60), labels, CATEGORIES)
    assert (found.scored, list(found.positives)) == (("Cardiomegaly",), ["Cardiomegaly"])
    assert found.categories == CATEGORIES
    for name, candidate in found.candidates.items():
        blend = found.using(name).blend(scores)
        assert np.isfinite(blend).all()
        assert candidate.fitted == pytest.approx(roc_auc_score(labels[:, 0], blend[:, 0]))
        np.testing.assert_allclose(found.weights(name).sum(axis=0), 1)


@pytest.mark.parametrize(
    ("categories", "scored"), [(("Fracture", "Edema"), ("Edema",)), (("Fracture", "Other"), ("Fracture", "Other"))]
)
def test_the_competitions_categories_decide_where_there_are_any(member, made, names, categories, scored):
    labels, parts = made(np.random.default_rng(0), 60, (1.0, 2.0))
    members = [member(name, part, categories) for name, part in zip("ab", parts, strict=True)]
    found = search_weights(members, names(60), labels, categories)
    assert found.scored == scored
    columns = [categories.index(name) for name in scored]
    blend = found.using(EQUAL).blend(np.stack(parts))
    assert found.candidates[EQUAL].fitted == pytest.approx(mean_auroc(labels[:, columns], blend[:, columns]))


def test_labels_of_one_class_are_refused(member, names):
    with pytest.raises(PredictionsError, match="no category has both a positive and a negative study among the labels"):
        search_weights([member("a", np.zeros((6, 2)))], names(6), np.zeros((6, 2)), CATEGORIES)


def test_studies_of_one_patient_cannot_be_judged(member):
    studies = ["flat/one", "flat/two", "flat/three"]
    labels, scores = np.array([[0, 1], [1, 0], [1, 1.0]]), np.random.default_rng(0).random((3, 2))
    with pytest.raises(PredictionsError, match="all studies are of one patient, 'flat', so that no weights can be jud"):
        search_weights([member("a", scores, studies=studies)], studies, labels, CATEGORIES)


@pytest.mark.parametrize("patients", [2, 3])
def test_two_or_three_patients_are_enough(member, patients):
    studies = [f"p{k}/s{n}" for k in range(patients) for n in range(2)]
    labels = np.tile([[0, 1], [1, 0.0]], (patients, 1))
    rng = np.random.default_rng(0)
    members = [member(name, rng.random(labels.shape), studies=studies) for name in "ab"]
    found = search_weights(members, studies, labels, CATEGORIES)
    assert (found.studies, found.patients) == (2 * patients, patients)
    assert found.candidates[EQUAL].out_of_fold is not None


# ---- the same bytes


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(search):
    first, again, other = (search((1.0, 2.0, 3.0), 80, seed=seed)[0] for seed in (1, 1, 2))
    assert written(first) == written(again)
    assert first.candidates[EQUAL].out_of_fold != other.candidates[EQUAL].out_of_fold
    assert first.candidates["ga"].weights != other.candidates["ga"].weights
    assert first.candidates[EQUAL].fitted == other.candidates[EQUAL].fitted


def test_any_number_of_processors_gives_the_same_bytes(search, monkeypatch):
    found = []
    for number in (1, 3):
        monkeypatch.setattr(nested, "processors", lambda number=number: number)
        found.append(written(search((1.0, 2.0, 3.0))[0]))
    assert found[0] == found[1]


def test_a_search_that_goes_on_gives_the_same_bytes(search, tmp_path, monkeypatch, notes):
    whole = search((1.0, 2.0, 3.0), kept=tmp_path / "k")[0]
    assert (tmp_path / "k").exists()
    monkeypatch.setattr(nested, "find_weights", lambda *_: pytest.fail("all of them were made before"))
    again = search((1.0, 2.0, 3.0), kept=tmp_path / "k", progress=notes)[0]
    assert written(again) == written(whole)
    assert notes.told == ["16 of 16 searches were made before; going on with the others"]


def test_resamples_of_intervals_do_not_hang_on_the_search(search, monkeypatch):
    seen = []
    real = weights.resample_counts
    monkeypatch.setattr(weights, "resample_counts", lambda *call: seen.append(real(*call)) or seen[-1])
    search((1.0, 2.0), 40, scale="zlogit", seed=1)
    search((1.0, 2.0, 3.0), 40, scale="zlogit", seed=1)
    search((1.0, 2.0), 40, scale="zlogit", seed=2)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert (seen[0] != seen[2]).any()
