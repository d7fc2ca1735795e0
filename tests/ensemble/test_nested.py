"""No study has a part in what judges it: folds of whole patients, and every choice made again without each fold."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cxr_cft.ensemble import nested
from cxr_cft.ensemble.finders import find_weights
from cxr_cft.ensemble.nested import ERRORS, UNSHRUNK_ERRORS, choose, judge
from cxr_cft.ensemble.problem import (
    EQUAL,
    FAMILIES,
    FEWEST_CASES,
    FEWEST_PATIENTS,
    FOLDS,
    Config,
    Problem,
    configurations,
)
from cxr_cft.ensemble.scales import CALIBRATED, COMPARABLE, PLAIN
from cxr_cft.metrics.folded import FoldedAuroc

SCALE, *_ = KINDS = tuple(PLAIN)
NAMES = (EQUAL, *FAMILIES)


@pytest.fixture
def problem(made):
    """Made members, one a noise, two studies a patient; `folds` takes another problem's."""

    def problem(noises=(1.0, 2.0, 3.0), studies=80, *, data=0, seed=0, prevalence=0.3, change=None, folds=None):
        labels, scores = made(np.random.default_rng(data), studies, noises, prevalence)
        if change is not None:
            change(labels)
        found = Problem({"max": np.stack(scores)}, labels, np.arange(studies) // 2, [0, 1], seed)
        if folds is not None:
            found.folds = folds
        return found

    return problem


def mean_auroc(labels, scores):
    return np.mean([roc_auc_score(labels[:, c], scores[:, c]) for c in range(labels.shape[1])])


# ---- folds


@settings(max_examples=60)
@given(st.integers(0, 99), st.lists(st.integers(1, 4), min_size=2, max_size=40), st.sampled_from([0.0, 0.05, 0.3, 1.0]))
def test_folds_hold_whole_patients_and_as_many_each(seed, sizes, prevalence):
    patients = np.repeat(np.arange(len(sizes)), sizes)
    labels = (np.random.default_rng(seed).random((len(patients), 2)) < prevalence).astype(float)
    shuffled = np.random.default_rng(seed).permutation(len(patients))
    found = Problem({"max": np.zeros((1, *labels.shape))}, labels, patients[shuffled], [0, 1], seed)
    assert list(found.numbers) == list(range(min(FOLDS, len(sizes))))
    pairs = set(zip(patients[shuffled].tolist(), found.folds.tolist(), strict=True))
    assert len(pairs) == len(sizes)
    counts = np.bincount([fold for _, fold in pairs], minlength=len(found.numbers))
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("seed", range(5))
def test_every_fold_gets_its_share_of_the_rarest_finding(seed):
    labels = np.zeros((200, 2))
    labels[np.random.default_rng(seed).choice(100, 10, replace=False) * 2, 1] = 1
    labels[::3, 0] = 1
    found = Problem({"max": np.zeros((1, 200, 2))}, labels, np.arange(200) // 2, [0, 1], seed)
    np.testing.assert_array_equal(np.bincount(found.folds[labels[:, 1] == 1]), [2] * FOLDS)


def test_the_seed_deals_the_folds(problem):
    first, again, other = (problem(seed=seed).folds for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


# ---- leakage


def blends(problem, scale=SCALE):
    """Everything that is judged: by finder, and equal weights on each scale."""
    found = judge(problem, scale)
    return {**found.unseen, **found.tried}


def flip(where):
    def change(labels):
        labels[where] = 1 - labels[where]

    return change


def test_labels_of_a_fold_move_no_blend_of_the_fold(problem):
    plain = problem()
    before = blends(plain)
    assert set(before) == {*NAMES, "procedure"}
    for fold in plain.numbers:
        inside = plain.folds == fold
        after = blends(problem(change=flip(inside), folds=plain.folds))
        for name in before:
            np.testing.assert_array_equal(after[name][inside], before[name][inside], err_msg=name)
        # Else nothing would be shown: the other folds do look at these labels.
        for name in ("ga", "ga-category", "greedy", "platt", "isotonic"):
            assert (after[name][~inside] != before[name][~inside]).any(), name


@pytest.mark.parametrize("study", [0, 13, 50])
def test_a_studys_own_label_moves_no_blend_of_it(problem, study):
    plain = problem()
    before, after = blends(plain), blends(problem(change=flip(study), folds=plain.folds))
    for name in before:
        np.testing.assert_array_equal(after[name][study], before[name][study], err_msg=name)
    assert (after["platt"] != before["platt"]).any()


def test_labels_of_a_fold_move_no_choice_of_the_scale_for_it(problem):
    plain = outliers(problem, 100)
    before = blends(plain, None)
    assert set(before) == {*NAMES, "procedure", *(("max", kind) for kind in PLAIN)}
    moved = False
    for fold in (0, 3):
        inside = plain.folds == fold
        after = blends(outliers(problem, 100, change=flip(inside), folds=plain.folds), None)
        for name in before:
            np.testing.assert_array_equal(after[name][inside], before[name][inside], err_msg=str(name))
        moved |= (after[EQUAL][~inside] != before[EQUAL][~inside]).any()
    assert moved  # the other folds do choose by these labels


@pytest.mark.parametrize("scale", ["platt", "isotonic"])
def test_labels_of_a_fold_move_no_scale_that_is_fitted_to_labels(problem, scale):
    plain = problem(studies=60)
    before = blends(plain, scale)
    inside = plain.folds == 1
    after = blends(problem(studies=60, change=flip(inside), folds=plain.folds), scale)
    for name in before:
        np.testing.assert_array_equal(after[name][inside], before[name][inside], err_msg=name)
        assert (after[name][~inside] != before[name][~inside]).any()


@pytest.mark.parametrize("scale", ["zlogit", "zscore", "rank"])
def test_scores_of_a_fold_move_no_scale_that_it_is_judged_on(problem, scale):
    plain = problem()
    _, before = plain.rescaled("max", scale, plain.learnt((2,)))
    plain.scores["max"][:, plain.folds == 2] **= 3
    plain.logits["max"][:, plain.folds == 2] *= 3
    assert plain.rescaled("max", scale, plain.learnt((2,)))[1] == before
    assert plain.rescaled("max", scale, plain.learnt((1,)))[1] != before


def test_every_search_leaves_out_one_fold_or_two_or_none_and_is_made_once(problem, monkeypatch):
    seen, lock = [], threading.Lock()

    def watched(z, labels, patients, rows, scored, rng):
        with lock:
            seen.append(rows)
        return find_weights(z, labels, patients, rows, scored, rng)

    monkeypatch.setattr(nested, "find_weights", watched)
    found = problem()
    judge(found, SCALE)
    left_out = [tuple(sorted(set(found.folds.tolist()) - set(found.folds[rows].tolist()))) for rows in seen]
    pairs = [(j, k) for k in range(FOLDS) for j in range(k)]
    assert sorted(left_out) == sorted([(), *((k,) for k in range(FOLDS)), *pairs])
    for rows, held_out in zip(seen, left_out, strict=True):
        np.testing.assert_array_equal(rows, np.flatnonzero(~np.isin(found.folds, held_out)))


def test_equal_weights_and_the_best_single_are_judged_as_one_would_by_hand(problem):
    given = problem(studies=120)
    scores, labels = given.scores["max"], given.labels
    logits = np.log(scores / (1 - scores))
    found = judge(given, SCALE).unseen
    for fold in given.numbers:
        inside, others = given.folds == fold, given.folds != fold
        center, spread = logits[:, others].mean(axis=1)[:, None], logits[:, others].std(axis=1)[:, None]
        z = (logits - center) / spread
        np.testing.assert_allclose(found[EQUAL][inside], z[:, inside].mean(axis=0))
        best = np.argmax([mean_auroc(labels[others], part[others]) for part in scores])
        np.testing.assert_allclose(found["best"][inside], z[best, inside])


# ---- the rule


SHRUNK = (EQUAL, "ga", "ga-category")


def table(values, errors=0.02, patients=40):
    """Values, each with an error (of its difference from the first, whose own is nothing)."""
    errors = np.broadcast_to(errors, len(values)).astype(float)
    errors[0] = 0
    signs = np.where(np.arange(patients) % 2, 1.0, -1.0)
    influence = errors[:, None] * signs / np.sqrt(patients)
    return FoldedAuroc(np.array(values, dtype=float), influence)


def chosen(values, errors=0.02):
    found = table(values, errors)
    return choose(found, np.arange(found.influence.shape[1]), SHRUNK[: len(values)])


def test_a_gain_has_to_be_more_than_so_many_standard_errors():
    assert chosen([0.8, 0.8 + ERRORS * 0.02 + 1e-6]) == "ga"
    assert chosen([0.8, 0.8 + ERRORS * 0.02 - 1e-6]) == "equal"
    assert 1 < ERRORS < 2


def test_what_is_not_shrunk_has_to_gain_more():
    found = table([0.8, 0.8 + (ERRORS + UNSHRUNK_ERRORS) / 2 * 0.02])
    for name, expected in (("ga", "ga"), ("greedy", "equal"), ("best", "equal"), ("platt", "equal")):
        assert choose(found, np.arange(40), ("equal", name)) == expected
    assert choose(table([0.8, 0.8 + UNSHRUNK_ERRORS * 0.02 + 1e-6]), np.arange(40), ("equal", "greedy")) == "greedy"


def test_the_first_stays_where_all_are_as_good_even_without_any_error():
    assert chosen([0.8, 0.8, 0.8], errors=0) == "equal"
    assert chosen([0.8, 0.7, 0.79]) == "equal"
    assert chosen([1.0, 1.0], errors=0) == "equal"


def test_each_has_to_beat_the_one_that_is_chosen_so_far_rather_than_the_first():
    # Both gain over the first; the third hardly gains over the second, and their errors go together.
    assert chosen([0.80, 0.90, 0.905], errors=[0, 0.02, 0.03]) == "ga"
    assert chosen([0.80, 0.90, 0.930], errors=[0, 0.02, 0.03]) == "ga-category"
    assert chosen([0.80, 0.82, 0.840], errors=[0, 0.02, 0.02]) == "ga-category"
    assert chosen([0.80, 0.84, 0.820], errors=[0, 0.02, 0.02]) == "ga"


def test_it_matters_who_is_asked_first():
    values, errors = np.array([0.80, 0.90, 0.905]), np.array([0, 0.02, 0.03])
    for order in ([0, 1, 2], [0, 2, 1]):
        found = table(values[order], errors[order])
        assert choose(found, np.arange(40), [SHRUNK[k] for k in order]) == SHRUNK[order[1]]


def test_patients_are_kept_whole_in_the_standard_error():
    found = table([0.8, 0.84])
    influence = np.abs(found.influence)
    influence[:, 1::2] *= -1
    alternating = FoldedAuroc(found.value, influence)
    assert choose(alternating, np.arange(40), SHRUNK[:2]) == "ga"
    together = FoldedAuroc(found.value, np.sort(influence, axis=1))  # a patient's two studies move alike
    assert choose(together, np.arange(40) // 2, SHRUNK[:2]) == "equal"


def test_without_a_number_the_first_stays():
    assert choose(FoldedAuroc(np.full(3, np.nan), np.zeros((3, 4))), np.arange(4), SHRUNK) == EQUAL


# ---- what is chosen


def test_what_is_chosen_is_what_the_rule_says_of_the_blends_of_unseen_studies(problem):
    for noises, expected in (((0.2, 2.5, 10.0), None), ((1.5, 1.6, 1.4), EQUAL)):
        given = problem(noises, 200)
        found = judge(given, SCALE)
        unseen = given.judge(np.stack([found.unseen[name] for name in NAMES]), given.folds)
        assert found.chosen == choose(unseen, given.patients, NAMES)
        assert (found.chosen == EQUAL) == (expected == EQUAL)


def only(cases, state):
    """Labels of which so many patients alone have this state, in either category."""

    def change(labels):
        labels[:] = 1 - state
        for c in range(2):
            labels[np.arange(cases) * 8 + 2 * c, c] = state

    return change


@pytest.mark.parametrize("scale", [SCALE, None])
@pytest.mark.parametrize(
    "too_little",
    [
        {"studies": 2 * FEWEST_PATIENTS - 2},
        {"change": only(FEWEST_CASES - 1, 1)},
        {"change": only(FEWEST_CASES - 1, 0)},
    ],
    ids=["patients", "with a finding", "without"],
)
def test_with_too_little_to_choose_by_all_is_shrunk_as_far_as_can_be_out_of_fold_too(problem, too_little, scale):
    given = problem((0.7, 5.0, 5.0), **too_little)
    assert not given.can_choose
    found = judge(given, scale)
    assert found.configs == {
        EQUAL: Config(EQUAL, SCALE),
        **{name: Config(name, name if name in CALIBRATED else SCALE, grid[-1]) for name, grid in FAMILIES.items()},
    }
    assert (found.chosen, found.aggregation) == (EQUAL, "max")
    for name in ("ga", "ga-category"):
        assert found.configs[name].shrinkage == 1
        np.testing.assert_array_equal(found.unseen[name], found.unseen[EQUAL])
        np.testing.assert_array_equal(given.weights(found.configs[name], found.found), given.equal)
    np.testing.assert_array_equal(found.unseen["procedure"], found.unseen[EQUAL])
    assert (found.unseen["best"] != found.unseen[EQUAL]).any()  # it cannot be shrunk


@pytest.mark.parametrize("change", [only(FEWEST_CASES, 1), only(FEWEST_CASES, 0)])
def test_just_enough_of_both_is_enough_to_choose_by(problem, change):
    assert problem(studies=80, change=change).can_choose
    assert problem(studies=2 * FEWEST_PATIENTS, prevalence=0.5).can_choose


def test_equal_members_get_equal_weights(problem):
    given = problem((1.0, 1.0))
    for part in given.scores, given.logits:
        part["max"][1] = part["max"][0]
    found = judge(given, SCALE)
    assert found.chosen == EQUAL
    for name in ("ga", "ga-category", "greedy", "best", "procedure"):
        np.testing.assert_allclose(found.unseen[name], found.unseen[EQUAL])


def test_a_shrinkage_is_one_of_those_tried_and_of_its_own_finder(problem):
    found = judge(problem(), SCALE)
    assert set(found.configs) == set(NAMES)
    for name, config in found.configs.items():
        assert config in configurations(SCALE)
        assert config.finder == name
    assert {config.shrinkage for config in configurations() if config.finder == "ga"} == {0, 0.25, 0.5, 0.75, 1}


def test_weights_are_shrunk_towards_equal_ones(problem):
    given = problem((1.0, 2.0, 3.0))
    found = judge(given, SCALE).found
    whole = given.weights(Config("ga", SCALE), found)
    np.testing.assert_array_equal(whole, found.weights["ga"])
    np.testing.assert_allclose(given.weights(Config("ga", SCALE, 0.75), found), 0.25 * whole + 0.75 / 3)
    for finder in (EQUAL, "platt", "isotonic"):
        np.testing.assert_allclose(given.weights(Config(finder, SCALE), found), 1 / 3)


def test_members_of_which_none_is_better_are_shrunk_more_than_those_of_which_one_is(problem):
    alike = [judge(problem((1.5,) * 4, 60, data=data), SCALE).configs["ga"].shrinkage for data in range(4)]
    apart = [judge(problem((0.7, 5, 5, 5), 60, data=data), SCALE).configs["ga"].shrinkage for data in range(4)]
    assert np.mean(alike) > np.mean(apart) + 0.1


def test_the_procedure_is_one_of_the_finders_in_every_fold_and_not_always_the_one_chosen_at_last(problem):
    others = 0
    for data in range(4):
        given = problem((2.0, 3.0, 10.0, 10.0), 80, data=data)
        found = judge(given, SCALE)
        for fold in given.numbers:
            inside = given.folds == fold
            taken = [name for name in NAMES if (found.unseen[name][inside] == found.unseen["procedure"][inside]).all()]
            assert taken
            others += found.chosen not in taken
    assert others


def test_where_choosing_is_luck_the_procedure_shows_it_and_the_best_row_does_not(problem):
    best, procedure = [], []
    for data in range(8):
        given = problem((10.0,) * 6, 60, data=data)
        unseen = judge(given, SCALE).unseen
        values = given.judge(np.stack([unseen[name] for name in (*NAMES, "procedure")]), given.folds).value
        best.append(values[:-1].max())
        procedure.append(values[-1])
    assert np.mean(best) > np.mean(procedure) + 0.03
    assert np.mean(procedure) == pytest.approx(0.5, abs=0.05)


def test_two_patients_leave_nothing_to_choose_by_within_a_fold():
    labels = np.array([[0, 1], [1, 0], [1, 1.0], [0, 0]])
    scores = np.random.default_rng(0).random((3, 4, 2))
    given = Problem({"max": scores}, labels, np.array([0, 0, 1, 1]), [0, 1], 0)
    found = judge(given, SCALE)
    np.testing.assert_array_equal(found.unseen["procedure"], found.unseen[EQUAL])
    assert all(np.isfinite(blend).all() for blend in found.unseen.values())


@pytest.mark.parametrize("patients", [2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_a_handful_of_patients_is_no_reason_to_leave_equal_weights(patients, seed):
    rng = np.random.default_rng(seed)
    labels = np.tile([[0, 1], [1, 0.0]], (patients, 1))
    scores = rng.random((3, 2 * patients, 2))
    given = Problem({"max": scores}, labels, np.arange(2 * patients) // 2, [0, 1], seed)
    assert judge(given, SCALE).chosen == EQUAL


# ---- scales, and how views are joined


def outliers(problem, studies=200, **options):
    """Members that are right but for a few studies, of which they are monstrously sure: their ranks alone help."""
    given = problem((1.0, 1.2, 1.4), studies, **options)
    rng = np.random.default_rng(5)
    for m in range(3):
        wild = rng.choice(studies, 6, replace=False)
        given.logits["max"][m, wild] = rng.choice([-600.0, 600.0], (6, 2))
    given.scores["max"][:] = 1 / (1 + np.exp(-given.logits["max"]))
    return given


def on_scales(given, found):
    """What equal weights are worth on each scale that was tried."""
    return given.judge(np.stack(list(found.tried.values())), given.folds)


def test_another_scale_is_taken_where_equal_weights_are_better_on_it_by_more_than_the_error(problem):
    given = outliers(problem)
    found = judge(given)
    values = on_scales(given, found)
    gains = values.value - values.value[0]
    better = [s for s in range(len(KINDS)) if gains[s] > ERRORS * values.error(s, given.patients, 0)]
    best = max(better, key=lambda s: gains[s])
    assert list(found.tried) == [("max", kind) for kind in KINDS]
    assert found.configs[EQUAL].scale == KINDS[best] != SCALE
    assert found.configs["ga"].scale in COMPARABLE[1:]


def test_the_first_scale_stays_in_doubt(problem):
    given = problem((1.0, 1.5))
    found = judge(given)
    assert {config.scale for name, config in found.configs.items() if name not in CALIBRATED} == {SCALE}
    assert SCALE == COMPARABLE[0] == "zlogit"
    values = on_scales(given, found)
    assert (values.value[1:] > values.value[0]).any()  # by less than the error


def test_weights_are_searched_on_a_scale_that_weighs_by_itself_only_where_it_is_asked_for(problem):
    given = problem((0.3, 4.0), 200)
    given.logits["max"][0] *= 5  # the good member is surer: averaged logits weigh it higher, without any search
    given.scores["max"][:] = 1 / (1 + np.exp(-given.logits["max"]))
    found = judge(given)
    assert found.configs[EQUAL].scale not in COMPARABLE
    assert found.configs["ga"].scale in COMPARABLE
    forced = judge(given, "logit").configs
    assert {config.scale for name, config in forced.items() if name not in CALIBRATED} == {"logit"}


def test_searched_weights_choose_their_scale_by_what_they_are_worth_themselves():
    # Skewed as probabilities, the good members stand out on standardised scores, which equal weights gain by; the
    # weights that are searched weigh them anyway, and do better on logits.
    rng = np.random.default_rng([7, 1, 250, 0])
    labels = (rng.random((250, 5)) < (0.34, 0.29, 0.14, 0.19, 0.29)).astype(float)
    strength = np.array([1.2] * 3 + [0.0] * 7)
    logits = strength[:, None, None] * labels + rng.standard_normal((10, 250, 5))
    given = Problem({"max": 1 / (1 + np.exp(1 - logits))}, labels, np.arange(250), range(5), 0)
    found = judge(given)
    equal = dict(zip(found.tried, on_scales(given, found).value, strict=True))
    assert equal["max", "zscore"] > equal["max", SCALE]
    assert found.configs["ga"].scale == SCALE


def test_another_way_to_join_views_is_taken_where_it_is_better_and_the_first_in_doubt(problem):
    given, other = problem((1.0, 1.5), 200), problem((1.0, 1.5), 200)
    for better, expected in ((0.3, "mean"), (1.0, "max")):
        rng = np.random.default_rng(3)
        logits = given.logits["max"] + (1 - better) * 4 * rng.normal(size=given.logits["max"].shape)
        worse = 1 / (1 + np.exp(-logits))
        both = {"max": worse, "mean": given.scores["max"]}
        joined = Problem(both, other.labels, other.patients, [0, 1], 0)
        found = judge(joined, SCALE)
        assert found.aggregation == expected
        assert list(found.tried) == [("max", SCALE), ("mean", SCALE)]


def test_where_there_is_nothing_to_choose_nothing_is_tried(problem):
    found = judge(problem(), "rank")
    assert (found.aggregation, found.configs[EQUAL].scale, found.tried) == ("max", "rank", {})


def test_a_calibrated_finder_is_blended_on_its_own_scale_whatever_the_others_are_on(problem):
    given = problem()
    by_rank, by_logit = (judge(given, kind).unseen for kind in ("rank", "zlogit"))
    for name in ("platt", "isotonic"):
        np.testing.assert_array_equal(by_rank[name], by_logit[name])
    assert (by_rank[EQUAL] != by_logit[EQUAL]).any()
    np.testing.assert_array_equal(judge(given, "platt").unseen[EQUAL], by_rank["platt"])


# ---- without each member


def test_what_a_member_adds_is_told_by_leaving_it_out_of_every_fold(problem):
    given = problem((0.5, 2.0, 10.0), 200)
    found = judge(given, SCALE)
    values = given.judge(found.ablation, given.folds).value
    assert found.ablation.shape == (4, 200, 2)
    assert np.argmax(values[0] - values[1:]) == 0
    assert values[0] - values[1] > 0.1


def test_leaving_a_member_out_of_equal_weights_is_the_mean_of_the_others(problem):
    given = problem((1.5, 1.6, 1.4), 60)
    found = judge(given, SCALE)
    assert found.chosen == EQUAL
    np.testing.assert_allclose(found.ablation[0], found.unseen[EQUAL])
    for fold in given.numbers:
        inside = given.folds == fold
        z, _ = given.rescaled("max", SCALE, given.learnt((fold,)))
        for m in range(3):
            np.testing.assert_allclose(found.ablation[1 + m][inside], np.delete(z, m, axis=0)[:, inside].mean(axis=0))


# ---- searches that were made before, and how they are shared out


def test_kept_searches_are_not_made_again_and_lead_to_the_same(problem, monkeypatch, notes):
    kept = {}
    first = judge(problem(), SCALE, kept)
    assert len(kept) == 1 + FOLDS + FOLDS * (FOLDS - 1) // 2
    made = []
    real = nested.find_weights
    monkeypatch.setattr(nested, "find_weights", lambda *call: made.append(call) or real(*call))
    for name in list(kept)[::3]:
        del kept[name]
    again = judge(problem(), SCALE, kept, notes)
    assert len(made) == 6
    assert notes.told == ["10 of 16 searches were made before; going on with the others"]
    for name in first.unseen:
        assert again.unseen[name].tobytes() == first.unseen[name].tobytes()
    assert again.chosen == first.chosen


def test_progress_hears_of_every_search(problem, notes):
    judge(problem(), SCALE, progress=notes)
    assert notes.tracked == [("searching weights", 16, "searches")]
    one = problem()
    scores = dict.fromkeys(("max", "mean"), one.scores["max"])
    judge(Problem(scores, one.labels, one.patients, one.scored, 0), SCALE, progress=notes)
    assert notes.tracked[1] == ("comparing ways to join views", 15, "folds")


def test_any_number_of_processors_finds_the_same(problem, monkeypatch):
    found = []
    for number in (1, 4):
        monkeypatch.setattr(nested, "processors", lambda number=number: number)
        found.append(judge(problem()))
    for name in found[0].unseen:
        assert found[0].unseen[name].tobytes() == found[1].unseen[name].tobytes()
    assert found[0].ablation.tobytes() == found[1].ablation.tobytes()


def test_what_has_not_begun_is_not_done_after_a_failure(monkeypatch):
    monkeypatch.setattr(nested, "processors", lambda: 1)
    done = []

    def work(item):
        done.append(item)
        if item == 1:
            raise ZeroDivisionError
        time.sleep(0.005)
        return item

    with pytest.raises(ZeroDivisionError):
        list(nested._parallel(work, range(200)))
    assert len(done) < 100
