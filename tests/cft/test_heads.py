"""Each category's head is tuned alone on its known labels, never falls on validation, and stays whole."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from cxr_cft.cft import FineTuned, Options, Summary, fine_tune_heads, gradient
from cxr_cft.cft.gradient import bce
from cxr_cft.cft.options import METHODS
from cxr_cft.progress import Silent

QUICK = Options(generations=20)
COLUMNS = ["category", "method", "before", "after", "gain", "gain_low", "gain_high", "bce", "asl", "ga"]
COUNTS = ["train_positives", "train_negatives", "valid_positives", "valid_negatives"]


def made(rows=(240, 160), categories=3, features=6, seed=0, unknown=0.4):
    """Heads that are half right, and (features, labels) of training and validation with unknown labels."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(categories, features))
    weight = (truth + 1.5 * rng.normal(size=truth.shape)).astype(np.float32)
    bias = rng.normal(size=categories).astype(np.float32)
    splits = []
    for number in rows:
        values = rng.normal(size=(number, features)).astype(np.float32)
        labels = (rng.random((number, categories)) < 1 / (1 + np.exp(-values @ truth.T))).astype(np.float64)
        labels[rng.random(labels.shape) < unknown] = np.nan
        splits.append((values, labels))
    return weight, bias, *splits


def tune(weight, bias, train, valid, **settings) -> FineTuned:
    return fine_tune_heads(weight, bias, train, valid, **({"options": QUICK, "device": "cpu"} | settings))


def same_bytes(one: FineTuned, other: FineTuned, rows=slice(None)) -> bool:
    return (
        one.weight[rows].tobytes() == other.weight[rows].tobytes()
        and one.bias[rows].tobytes() == other.bias[rows].tobytes()
        and one.report.drop(columns="seconds").iloc[rows].equals(other.report.drop(columns="seconds").iloc[rows])
    )


def validation_scores(weight, bias, valid):
    features, labels = valid
    logits = features @ weight.T + bias
    known = ~np.isnan(labels)
    return [roc_auc_score(labels[k, c], logits[k, c]) for c, k in enumerate(known.T)]


@pytest.fixture(scope="module")
def problem():
    return made()


@pytest.fixture(scope="module")
def result(problem):
    return tune(*problem)


# The contract


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_the_call_of_the_contract(problem, kind):
    weight, bias, (features, labels), (valid_features, valid_labels) = (
        problem if kind == "numpy" else as_torch(problem, torch.float32)
    )
    result = fine_tune_heads(
        weight,
        bias,
        train=(features, labels),
        valid=(valid_features, valid_labels),
        methods=("bce", "asl", "ga"),
        metric="auroc",
        seed=0,
    )
    assert (result.weight.shape, result.weight.dtype) == ((3, 6), np.float32)
    assert (result.bias.shape, result.bias.dtype) == ((3,), np.float32)
    assert isinstance(result.report, pd.DataFrame)
    assert len(result.report) == 3
    assert isinstance(result.summary, Summary)


def as_torch(problem, dtype):
    weight, bias, *splits = problem
    return (
        torch.nn.Parameter(torch.from_numpy(weight).to(dtype)),
        torch.nn.Parameter(torch.from_numpy(bias).to(dtype)),
        *((torch.from_numpy(values).to(dtype), torch.from_numpy(labels)) for values, labels in splits),
    )


def test_numpy_and_torch_give_the_same_bytes(problem, result):
    assert same_bytes(tune(*as_torch(problem, torch.float32)), result)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_tensors_are_their_exact_float32_values(problem, dtype):
    halves = as_torch(problem, dtype)
    exact = as_torch(problem, dtype)[:2], *((x.float().numpy(), y.numpy()) for x, y in halves[2:])
    weight, bias = (parameter.detach().float().numpy() for parameter in exact[0])
    assert same_bytes(tune(*halves, methods=("bce",)), tune(weight, bias, *exact[1:], methods=("bce",)))


def test_the_report_has_a_row_a_category_and_the_promised_columns(problem, result):
    assert list(result.report.columns) == [*COLUMNS, *COUNTS, "seconds", "reason"]
    assert list(result.report["category"]) == ["0", "1", "2"]
    assert set(result.report["method"]) <= {*METHODS, "original"}
    assert (result.report["seconds"] > 0).all()
    for column, (split, value) in zip(COUNTS, [(2, 1), (2, 0), (3, 1), (3, 0)], strict=True):
        assert list(result.report[column]) == list((problem[split][1] == value).sum(axis=0))


def test_the_reported_scores_are_those_of_the_heads_that_come_back(problem, result):
    weight, bias, _, valid = problem
    np.testing.assert_allclose(result.report["after"], validation_scores(result.weight, result.bias, valid))
    np.testing.assert_allclose(result.report["before"], validation_scores(weight, bias, valid))
    chosen = [row[row["method"]] for row in result.report.to_dict("records")]
    np.testing.assert_array_equal(result.report["after"], chosen)


def test_names_are_the_reports_and_progress_hears_of_each_category(problem):
    class Counting(Silent):
        def __init__(self):
            self.told = []

        def track(self, items, description, total, unit="steps"):
            self.told.append((description, total, unit))
            yield from items

    progress = Counting()
    names = ["Edema", "Fracture", "Other"]
    report = tune(*problem, methods=("bce",), names=names, progress=progress).report
    assert list(report["category"]) == names
    assert progress.told == [("fine-tuning", 3, "categories"), *((f"  {name}", 1, "methods") for name in names)]


# What is chosen


@pytest.mark.parametrize("metric", ["auroc", "average_precision"])
@pytest.mark.parametrize("seed", range(2))
def test_no_category_falls_on_validation(metric, seed):
    report = tune(*made(rows=(60, 40), categories=4, seed=seed), metric=metric).report
    assert (report["after"] >= report["before"]).all()
    best = report[list(METHODS)].max(axis=1)
    left = report["method"] == "original"
    assert (report["after"] == np.where(left, report["before"], best)).all()
    assert (best[left] <= report["before"][left]).all()
    assert (report["reason"][left] == "no method was better on validation").all()
    assert (report["reason"][~left] == "").all()


def test_average_precision_is_what_is_compared_where_it_is_asked_for(problem):
    result = tune(*problem, methods=("bce",), metric="average_precision")
    features, labels = problem[3]
    logits = features @ result.weight.T + result.bias
    for c, row in enumerate(result.report.to_dict("records")):
        known = ~np.isnan(labels[:, c])
        assert row["after"] == pytest.approx(average_precision_score(labels[known, c], logits[known, c]))


def test_a_head_that_nothing_beats_comes_back_bit_for_bit():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(100, 3)).astype(np.float32)
    labels = (features[:, :1] > 0).astype(np.float64)
    weight, bias = np.float32([[0.1, 0, 0]]), np.float32([0.7])
    result = tune(weight, bias, (features, labels), (features[:50], labels[:50]))
    assert result.report["before"].item() == 1.0
    assert result.report["method"].item() == "original"
    assert result.weight.tobytes() == weight.tobytes()
    assert result.bias.tobytes() == bias.tobytes()


def test_of_equal_methods_the_first_named_is_chosen(monkeypatch, problem):
    monkeypatch.setattr(gradient, "loss_of", lambda *_: bce)
    for methods in (("bce", "asl"), ("asl", "bce")):
        report = tune(*problem, methods=methods).report
        assert list(report.columns[7:9]) == list(methods)
        assert set(report["method"]) <= {methods[0], "original"}
        assert (report["method"] != "original").any()


def test_a_method_named_twice_is_tried_once(problem):
    twice, once = tune(*problem, methods=("bce", "bce")), tune(*problem, methods=("bce",))
    assert same_bytes(twice, once)


# What is known


def test_rows_whose_label_is_unknown_count_for_nothing(problem):
    weight, bias, (features, labels), (valid_features, valid_labels) = problem
    plain = tune(weight, bias, (features, labels), (valid_features, valid_labels))
    noise = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32) * 100
    padded = [
        (np.concatenate([values, noise]), np.concatenate([known, np.full((50, 3), np.nan)]))
        for values, known in ((features, labels), (valid_features, valid_labels))
    ]
    result = tune(weight, bias, *padded)
    assert result.weight.tobytes() == plain.weight.tobytes()
    assert result.bias.tobytes() == plain.bias.tobytes()
    bounds = ["gain_low", "gain_high"]  # which groups the jackknife leaves out together is drawn among all of them
    assert result.report.drop(columns=[*bounds, "seconds"]).equals(plain.report.drop(columns=[*bounds, "seconds"]))
    np.testing.assert_allclose(result.report[bounds], plain.report[bounds], atol=0.01)


@pytest.mark.parametrize(
    ("split", "value", "reason"),
    [
        (2, 1, "no known positives in training"),
        (2, 0, "no known negatives in training"),
        (3, 1, "no known positives in validation"),
        (3, 0, "no known negatives in validation"),
    ],
)
def test_a_category_without_one_class_is_left_exactly_as_it_was_with_the_reason(problem, result, split, value, reason):
    lacking = [*problem]
    features, labels = lacking[split]
    labels = labels.copy()
    labels[labels[:, 1] == value, 1] = np.nan
    lacking[split] = features, labels
    tuned = tune(*lacking)
    row = tuned.report.loc[1]
    assert (row["method"], row["reason"]) == ("original", reason)
    assert row[["before", "after", *METHODS]].isna().all()
    assert tuned.weight[1].tobytes() == problem[0][1].tobytes()
    assert tuned.bias[1] == problem[1][1]
    assert same_bytes(tuned, result, rows=[0, 2])


def test_all_reasons_are_told_when_nothing_is_known_at_all(problem):
    weight, bias, (features, labels), valid = problem
    result = tune(weight, bias, (features, np.full_like(labels, np.nan)), valid)
    assert set(result.report["reason"]) == {"no known labels in training"}
    assert result.weight.tobytes() == weight.tobytes()
    empty = tune(weight, bias, (features[:0], labels[:0]), (features[:0], labels[:0]))
    assert empty.bias.tobytes() == bias.tobytes()
    assert empty.report["reason"].str.endswith("no known labels in validation").all()


# Shapes


def test_features_of_each_category_that_are_equal_do_what_shared_ones_do(problem, result):
    weight, bias, *splits = problem
    repeated = [(np.repeat(values[:, None], 3, axis=1), labels) for values, labels in splits]
    assert same_bytes(tune(weight, bias, *repeated), result)


def test_features_of_each_category_are_each_categorys_own(problem):
    weight, bias, *splits = problem
    order = [1, 2, 0, 4, 5, 3]
    permuted = [(np.stack([x, x[:, order], x], axis=1), labels) for x, labels in splits]
    heads = weight.copy()
    heads[1] = weight[1, order]
    own = tune(heads, bias, *permuted, methods=("bce",))
    shared = tune(*problem, methods=("bce",))
    np.testing.assert_allclose(own.report["after"], shared.report["after"], atol=1e-3)
    np.testing.assert_allclose(own.weight[1], shared.weight[1][order], atol=0.02)
    assert own.weight[[0, 2]].tobytes() == shared.weight[[0, 2]].tobytes()


def test_memory_mapped_features_are_read_and_left_alone(problem, result, tmp_path):
    weight, bias, *splits = problem
    mapped = []
    for number, (values, labels) in enumerate(splits):
        np.save(tmp_path / f"{number}.npy", values)
        mapped.append((np.load(tmp_path / f"{number}.npy", mmap_mode="r"), labels))
    assert same_bytes(tune(weight, bias, *mapped), result)


def test_arguments_are_left_as_they_were(problem):
    copies = [array.copy() for array in (*problem[:2], *problem[2], *problem[3])]
    tune(*problem)
    for array, copy in zip((*problem[:2], *problem[2], *problem[3]), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


# Determinism


def test_the_same_seed_gives_the_same_bytes_and_only_the_search_and_the_folds_hear_of_it(problem, result):
    assert same_bytes(tune(*problem), result)
    assert tune(*problem, methods=("ga",), seed=1).weight.tobytes() != tune(*problem, methods=("ga",)).weight.tobytes()
    gradients = [tune(*problem, methods=("bce", "asl"), seed=seed) for seed in (0, 1)]
    assert gradients[0].weight.tobytes() == gradients[1].weight.tobytes()
    assert gradients[0].bias.tobytes() == gradients[1].bias.tobytes()
    scores = ["before", "after", "bce", "asl", "method"]
    assert gradients[0].report[scores].equals(gradients[1].report[scores])
    assert (gradients[0].report["gain"] != gradients[1].report["gain"]).any()  # the folds are drawn by the seed


def test_global_random_states_do_not_matter(problem, result):
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - that the legacy state is not used is what is tested
    state = torch.random.get_rng_state()
    assert same_bytes(tune(*problem), result)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_categorys_result_does_not_depend_on_the_others(problem, result):
    weight, bias, *splits = problem
    other_weight = weight.copy()
    other_weight[1:] *= -3
    others = []
    for values, labels in splits:
        labels = labels.copy()
        labels[:, 1] = 1 - labels[:, 1]
        labels[:, 2] = np.nan
        others.append((values, labels))
    assert same_bytes(tune(other_weight, bias, *others), result, rows=[0])
    alone = tune(weight[:1], bias[:1], *((values, labels[:, :1]) for values, labels in splits))
    assert same_bytes(alone, result, rows=[0])


# What it is for, and the faults of the published code


def planted(rows, seed):
    """The first feature says who is ill, the second who is looked at: labels are missing where it is low."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 6)).astype(np.float32)
    truth = (features[:, 0] + 0.6 * rng.normal(size=rows) > 0.8).astype(np.float64)
    known = rng.random(rows) < 1 / (1 + np.exp(-5 * features[:, 1]))
    return features, truth, np.where(known, truth, np.nan)


@pytest.mark.parametrize("method", METHODS)
def test_a_head_bent_by_blanks_assumed_negative_is_restored_on_patients_never_seen(method):
    features, _, known = planted(800, seed=0)
    assumed = np.nan_to_num(known)
    trained = LogisticRegression(C=np.inf).fit(features, assumed)
    valid_features, _, valid_known = planted(300, seed=1)
    test_features, truth, _ = planted(3000, seed=2)
    result = tune(
        trained.coef_,
        trained.intercept_,
        (features, known[:, None]),
        (valid_features, valid_known[:, None]),
        methods=(method,),
        options=Options(),
    )
    before = roc_auc_score(truth, trained.decision_function(test_features))
    after = roc_auc_score(truth, test_features @ result.weight[0] + result.bias[0])
    possible = roc_auc_score(truth, test_features[:, 0])
    assert before < possible - 0.05
    assert after > possible - 0.015
    assert result.report["method"].item() == method


def test_the_tuned_bias_comes_back_so_that_probabilities_are_right_and_not_ranks_alone():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, 2)).astype(np.float32)
    labels = (rng.random((2000, 1)) < 1 / (1 + np.exp(-features[:, :1] + 2))).astype(np.float64)
    weight, bias = np.float32([[0.2, 0.3]]), np.float32([3.0])
    result = tune(weight, bias, (features[:1500], labels[:1500]), (features[1500:], labels[1500:]), methods=("bce",))
    probabilities = 1 / (1 + np.exp(-(features @ result.weight[0] + result.bias[0])))
    assert probabilities.mean() == pytest.approx(labels.mean(), abs=0.02)
    assert result.bias[0] < 0


def test_the_searched_bias_comes_back_too(problem):
    weight, bias, (features, labels), valid = problem
    result = tune(weight, bias + 3, (features, labels), valid, methods=("ga",))
    tuned = np.flatnonzero(result.report["method"] == "ga")
    assert len(tuned)
    for c in tuned:
        known = ~np.isnan(labels[:, c])
        probabilities = 1 / (1 + np.exp(-(features[known] @ result.weight[c] + result.bias[c])))
        assert probabilities.mean() == pytest.approx(labels[known, c].mean(), abs=1e-3)


def test_a_perfect_ranking_at_high_logits_is_seen_as_perfect():
    # In float32 the sigmoid of every logit above 17 is 1.
    features = np.linspace(17, 22, 60, dtype=np.float32)[:, None]
    labels = (features > 19.5).astype(np.float64)
    result = tune(np.ones((1, 1)), np.zeros(1), (features, labels), (features[::2], labels[::2]))
    assert result.report["before"].item() == 1.0
    assert (result.weight.item(), result.bias.item()) == (1.0, 0.0)


@pytest.mark.parametrize("size", [20.0, 200.0])
@pytest.mark.parametrize("method", METHODS)
def test_heads_that_are_sure_of_mistakes_end_finite(problem, method, size):
    weight, bias, train, valid = problem
    sure = -weight * size / np.abs(train[0] @ weight.T).max()
    result = tune(sure, bias, train, valid, methods=(method,), options=Options())
    assert np.isfinite(result.weight).all()
    assert np.isfinite(result.bias).all()
    if method != "asl":  # clipped at p = 0.95, it no longer feels a negative that is so sure
        assert (result.report["after"] > result.report["before"] + 0.05).all()


@pytest.mark.parametrize("method", ["bce", "ga"])
def test_features_a_thousand_times_larger_and_weights_as_much_smaller_are_tuned_alike(problem, method):
    weight, bias, *splits = problem
    plain = tune(*problem, methods=(method,))
    larger = tune(weight / 1000, bias, *((values * 1000, labels) for values, labels in splits), methods=(method,))
    np.testing.assert_allclose(larger.report["after"], plain.report["after"], atol=0.01)
    assert list(larger.report["method"]) == list(plain.report["method"])
    logits = [splits[0][0] @ plain.weight.T, splits[0][0] * 1000 @ larger.weight.T]
    for c in range(3):
        assert np.corrcoef(logits[0][:, c], logits[1][:, c])[0, 1] > 0.99


def test_a_feature_that_never_varies_keeps_its_weight(problem):
    weight, bias, *splits = problem
    constant = [(np.concatenate([x, np.full((len(x), 1), 4, np.float32)], axis=1), y) for x, y in splits]
    wider = np.concatenate([weight, np.full((3, 1), 0.25, np.float32)], axis=1)
    result = tune(wider, bias, *constant)
    assert (result.weight[:, 6] == 0.25).all()
    assert (result.report["after"] > result.report["before"]).any()


# What is gained


def test_a_head_that_is_much_better_gains_what_rows_that_nobody_chose_by_say_it_gains():
    weight, bias, train, valid, (features, labels) = made(rows=(400, 800, 4000), unknown=0.2)
    result = tune(weight, bias, train, valid)
    before, after = (
        np.array(validation_scores(one.weight, one.bias, (features, labels)))
        for one in (FineTuned(weight, bias, result.report, result.summary), result)
    )
    true = after - before
    assert true.mean() > 0.03
    np.testing.assert_allclose(result.report["gain"], true, atol=0.04)
    assert result.summary.gain == pytest.approx(true.mean(), abs=0.02)
    assert 0 < result.summary.gain_low < result.summary.gain < result.summary.gain_high


def test_where_there_is_nothing_to_learn_validation_flatters_and_the_gain_does_not():
    apparent, gains, covered = [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        splits = [(rng.normal(size=(80, 8)).astype(np.float32), rng.integers(0, 2, (80, 4)) * 1.0) for _ in range(2)]
        result = tune(rng.normal(size=(4, 8)), np.zeros(4), *splits, methods=("bce",), seed=seed)
        apparent.append(result.summary.after - result.summary.before)
        gains.append(result.summary.gain)
        covered.append(result.summary.gain_low <= 0 <= result.summary.gain_high)
    assert np.mean(apparent) > 0.03
    assert abs(np.mean(gains)) < 0.02
    assert np.mean(covered) > 0.7


def test_the_summary_is_the_mean_over_the_categories_that_could_be_tried(problem):
    weight, bias, train, (features, labels) = problem
    labels = labels.copy()
    labels[:, 1] = np.nan
    result = tune(weight, bias, train, (features, labels))
    summary, report = result.summary, result.report.drop(index=1)
    assert (summary.tried, summary.tuned) == (2, (report["method"] != "original").sum())
    for name in ("before", "after", "gain"):
        assert getattr(summary, name) == pytest.approx(report[name].mean())
    # The mean of two is surer than the less sure of them, and less sure than if they were one after the other's middle.
    widths = report["gain_high"] - report["gain_low"]
    assert summary.gain_high - summary.gain_low < widths.max()
    assert summary.gain_low < summary.gain < summary.gain_high
    assert summary.confidence == 0.95
    assert summary.seconds == pytest.approx(result.report["seconds"].sum())


def test_the_summary_of_nothing_is_nothing(problem):
    weight, bias, (features, labels), valid = problem
    summary = tune(weight, bias, (features, np.full_like(labels, np.nan)), valid).summary
    assert (summary.tried, summary.tuned, summary.seconds > 0) == (0, 0, True)
    assert np.isnan([summary.before, summary.after, summary.gain, summary.gain_low, summary.gain_high]).all()


def test_intervals_are_of_the_confidence_that_is_asked_for(problem):
    wide, narrow = (tune(*problem, methods=("bce",), options=Options(confidence=c)) for c in (0.95, 0.5))
    assert (narrow.report["gain_low"] > wide.report["gain_low"]).all()
    assert (narrow.report["gain_high"] < wide.report["gain_high"]).all()
    assert narrow.report["gain"].equals(wide.report["gain"])
    assert narrow.summary.confidence == 0.5
    assert narrow.summary.gain_high < wide.summary.gain_high


@pytest.mark.parametrize("names", [np.repeat(["b", "a"], 80), np.arange(160) // 4, [f"p{n % 50}" for n in range(160)]])
def test_groups_of_any_names_change_the_estimate_and_no_head(problem, names):
    alone, grouped = (tune(*problem, methods=("bce",), groups=groups) for groups in (None, names))
    assert alone.weight.tobytes() == grouped.weight.tobytes()
    assert alone.bias.tobytes() == grouped.bias.tobytes()
    if len(set(names)) == 2:
        assert grouped.report["gain"].isna().all()
    else:
        assert (alone.report["gain"] != grouped.report["gain"]).all()


def test_every_row_is_its_own_group_by_default(problem, result):
    assert same_bytes(tune(*problem, groups=np.arange(160)), result)


def test_views_of_one_patient_are_no_more_evidence_than_the_patient():
    weight, bias, train, (features, labels) = made(rows=(200, 60), unknown=0.0)
    views = np.repeat(features, 5, axis=0), np.repeat(labels, 5, axis=0)
    plain = tune(weight, bias, train, (features, labels), methods=("bce",))
    grouped = tune(weight, bias, train, views, methods=("bce",), groups=np.repeat(np.arange(60), 5))
    mistaken = tune(weight, bias, train, views, methods=("bce",))
    columns = ["before", "after", "gain", "gain_low", "gain_high"]
    np.testing.assert_allclose(grouped.report[columns], plain.report[columns], atol=1e-6)
    widths = [one.summary.gain_high - one.summary.gain_low for one in (plain, mistaken)]
    assert widths[1] < 0.7 * widths[0]


def test_the_interval_rule_leaves_what_may_be_luck_and_says_so():
    rng = np.random.default_rng(0)
    splits = [(rng.normal(size=(60, 8)).astype(np.float32), rng.integers(0, 2, (60, 12)) * 1.0) for _ in range(2)]
    weight = rng.normal(size=(12, 8))
    better, careful = (
        tune(weight, np.zeros(12), *splits, methods=("bce",), options=Options(rule=rule, guard=0.9))
        for rule in ("better", "interval")
    )
    assert better.summary.tuned >= 9
    assert careful.summary.tuned <= 3
    left = (careful.report["method"] == "original") & (better.report["method"] == "bce")
    assert (careful.report["reason"][left] == "bce's gain on validation may be chance").all()
    assert (careful.report["after"][left] == careful.report["before"][left]).all()
    assert careful.weight[left].tobytes() == weight[left].astype(np.float32).tobytes()
    assert careful.report["gain"].equals(better.report["gain"])


def test_options_reach_the_methods(problem):
    plain = tune(*problem)
    for method, options in (
        ("asl", Options(gamma_negative=0.0, generations=20)),
        ("asl", Options(gamma_positive=2.0, generations=20)),
        ("asl", Options(clip=0.5, generations=20)),
        ("bce", Options(pulls=(30.0,), generations=20)),
        ("ga", Options(population=7, generations=20)),
        ("ga", Options(generations=1)),
        ("ga", Options(patience=1, generations=20)),
    ):
        other = tune(*problem, options=options).report
        assert (other[method] != plain.report[method]).any(), options
        for name in {"asl", "ga"} - {method}:
            if options.pulls == Options().pulls:
                assert other[name].equals(plain.report[name]), options


# Sizes


def test_one_category_and_two_hundred_of_them():
    one = tune(*made(categories=1))
    assert (one.weight.shape, one.summary.tried) == ((1, 6), 1)
    many = tune(*made(rows=(40, 30), categories=200, features=3), methods=("bce",), options=Options(pulls=(1.0, 0.1)))
    assert many.weight.shape == (200, 3)
    assert list(many.report["category"]) == [str(c) for c in range(200)]
    assert many.summary.tried > 190
    assert (many.report["after"] >= many.report["before"]).sum() == many.summary.tried


def test_no_category_is_no_work():
    features = np.zeros((5, 3), np.float32)
    result = tune(np.zeros((0, 3)), np.zeros(0), (features, np.zeros((5, 0))), (features, np.zeros((5, 0))))
    assert result.weight.shape == (0, 3)
    assert len(result.report) == 0
    assert result.summary.tried == 0


@pytest.mark.parametrize("rows", [(2, 2), (5, 4), (30, 30)])
@pytest.mark.parametrize("method", METHODS)
def test_fewer_rows_than_features_are_enough(method, rows):
    weight, bias, *splits = made(rows=rows, features=60, unknown=0.0)
    for _, labels in splits:
        labels[:2] = [[0] * 3, [1] * 3]
    result = tune(weight, bias, *splits, methods=(method,))
    assert np.isfinite(result.weight).all()
    assert np.isfinite(result.bias).all()
    assert (result.report["after"] >= result.report["before"]).all()
    assert result.report["before"].notna().all()


@pytest.mark.parametrize("method", METHODS)
def test_where_no_feature_varies_every_head_stays(method):
    weight, bias, *splits = made()
    constant = [(np.full_like(values, 3), labels) for values, labels in splits]
    rates = np.nanmean(splits[0][1], axis=0)
    for biases in (bias, np.log(rates / (1 - rates)) - 3 * weight.sum(axis=1)):  # the latter cannot be bettered at all
        result = tune(weight, biases, *constant, methods=(method,))
        assert (result.report["method"] == "original").all()
        assert result.weight.tobytes() == weight.tobytes()
        assert result.bias.tobytes() == biases.astype(np.float32).tobytes()
        assert (result.report[["before", "after", method]] == 0.5).all(axis=None)
        assert (result.report["gain"] == 0).all()


def test_no_category_is_no_work_with_features_of_each_categorys_own():
    features = np.zeros((5, 0, 3), np.float32)
    split = features, np.zeros((5, 0))
    assert len(tune(np.zeros((0, 3)), np.zeros(0), split, split).report) == 0


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int16, ">f4"])
def test_features_of_any_real_dtype_will_do(dtype):
    weight, bias, *splits = made()
    stored = [((values * 8).astype(dtype), labels) for values, labels in splits]
    exact = [(values.astype(np.float32), labels) for values, labels in stored]
    assert same_bytes(tune(weight, bias, *stored, methods=("bce",)), tune(weight, bias, *exact, methods=("bce",)))


def test_features_of_the_other_byte_order_give_the_same_bytes(problem, result):
    weight, bias, *splits = problem
    turned = [(values.astype(">f4"), labels.astype(">f8")) for values, labels in splits]
    assert same_bytes(tune(weight.astype(">f4"), bias.astype(">f4"), *turned), result)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_finds_what_the_processor_finds(method):
    arrays = made(rows=(2000, 1000))
    here, there = (tune(*arrays, methods=(method,), options=Options(), device=device) for device in ("cpu", "cuda"))
    columns = ["before", "after"]
    np.testing.assert_allclose(there.report[columns], here.report[columns], atol=5e-3)
    np.testing.assert_allclose(there.report["gain"], here.report["gain"], atol=0.01)
    logits = [arrays[3][0] @ one.weight.T for one in (here, there)]
    for c in range(3):
        assert np.corrcoef(logits[0][:, c], logits[1][:, c])[0, 1] > 0.98


# Mistakes


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "device must be auto, cpu or cuda, not gpu"),
        ("", "device must be auto, cpu or cuda, not "),
        ("mps", "device must be auto, cpu or cuda, not mps"),
        ("cuda", "device is cuda, but torch sees 0 GPUs"),
        ("cuda:1", "device is cuda:1, but torch sees 0 GPUs"),
    ],
)
def test_a_device_that_is_not_there_is_refused(problem, device, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match=message):
        tune(*problem, device=device)


def test_heads_of_no_feature_are_refused():
    split = np.zeros((5, 0)), np.zeros((5, 2))
    with pytest.raises(ValueError, match=r"weight must be \(C, D\).* their shapes are \(2, 0\) and \(2,\)"):
        tune(np.zeros((2, 0)), np.zeros(2), split, split)


def changed(problem, **parts):
    names = ("weight", "bias", "train_features", "train_labels", "valid_features", "valid_labels")
    flat = dict(zip(names, (*problem[:2], *problem[2], *problem[3]), strict=True)) | parts
    weight, bias, *rest = flat.values()
    return weight, bias, tuple(rest[:2]), tuple(rest[2:])


def with_one(array, value):
    array = array.copy()
    array.flat[7 % array.size] = value
    return array


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("bce", "sgd")}, "methods must be some of bce, asl, ga, not sgd"),
        ({"methods": ()}, "methods must be some of bce, asl, ga, not none"),
        ({"metric": "f1"}, "metric must be one of auroc, average_precision, not f1"),
        ({"names": ["one"]}, "there are 1 names for 3 categories"),
        ({"groups": np.arange(159)}, r"groups must be \(160,\), but their shape is \(159,\)"),
        ({"groups": np.zeros((160, 1))}, r"groups must be \(160,\), but their shape is \(160, 1\)"),
        ({"groups": "patient"}, r"groups must be \(160,\), but their shape is \(\)"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused(problem, options, message):
    with pytest.raises(ValueError, match=message):
        tune(*problem, **options)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("weight", lambda a: a[0], r"weight must be \(C, D\) and bias \(C,\), but their shapes are \(6,\) and \(3,\)"),
        ("bias", lambda a: a[:2], r"their shapes are \(3, 6\) and \(2,\)"),
        ("weight", lambda a: with_one(a, np.nan), "weight and bias must be finite"),
        ("bias", lambda a: with_one(a, np.inf), "weight and bias must be finite"),
        ("train_features", lambda a: a[:, :5], r"train features must be \(N, 6\) or \(N, 3, 6\).* is \(240, 5\)"),
        ("train_features", lambda a: a[:, None], r"train features must be .* their shape is \(240, 1, 6\)"),
        ("train_features", lambda a: with_one(a, np.inf), "train features must be finite"),
        ("valid_features", lambda a: with_one(a, np.nan), "valid features must be finite"),
        ("valid_features", lambda a: a[:9], r"valid labels must be \(9, 3\), but their shape is \(160, 3\)"),
        ("train_labels", lambda a: a[:, :2], r"train labels must be \(240, 3\), but their shape is \(240, 2\)"),
        ("train_labels", lambda a: with_one(a, -1), "train labels must be 1, 0 or nan for unknown"),
        ("valid_labels", lambda a: with_one(a, 0.5), "valid labels must be 1, 0 or nan for unknown"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_what_is_wrong(problem, part, change, message):
    names = ("weight", "bias", "train_features", "train_labels", "valid_features", "valid_labels")
    original = dict(zip(names, (*problem[:2], *problem[2], *problem[3]), strict=True))[part]
    with pytest.raises(ValueError, match=message):
        tune(*changed(problem, **{part: change(original)}))
