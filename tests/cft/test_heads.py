"""Each category's head is tuned alone on its known labels, never falls on validation, and stays whole."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from cxr_cft.cft import FineTuned, fine_tune_heads
from cxr_cft.cft.gradient import LOSSES, bce
from cxr_cft.cft.heads import METHODS
from cxr_cft.progress import Silent

COLUMNS = ["category", "method", "before", "after", "bce", "asl", "ga"]
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


def tune(weight, bias, train, valid, **options) -> FineTuned:
    return fine_tune_heads(weight, bias, train, valid, **options)


def same_bytes(one: FineTuned, other: FineTuned, rows=slice(None)) -> bool:
    return (
        one.weight[rows].tobytes() == other.weight[rows].tobytes()
        and one.bias[rows].tobytes() == other.bias[rows].tobytes()
        and one.report.drop(columns="seconds").iloc[rows].equals(other.report.drop(columns="seconds").iloc[rows])
    )


def validation_scores(result, valid):
    features, labels = valid
    logits = features @ result.weight.T + result.bias
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
    np.testing.assert_allclose(result.report["after"], validation_scores(result, valid))
    np.testing.assert_allclose(result.report["before"], validation_scores(FineTuned(weight, bias, None), valid))
    chosen = [row[row["method"]] for row in result.report.to_dict("records")]
    np.testing.assert_array_equal(result.report["after"], chosen)


def test_names_are_the_reports_and_progress_hears_of_each_category(problem):
    class Counting(Silent):
        def track(self, items, description, total, unit="steps"):
            self.told = description, total, unit
            yield from items

    progress = Counting()
    names = ["Edema", "Fracture", "Other"]
    report = tune(*problem, methods=("bce",), names=names, progress=progress).report
    assert list(report["category"]) == names
    assert progress.told == ("fine-tuning", 3, "categories")


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
    monkeypatch.setitem(LOSSES, "asl", bce)
    for methods in (("bce", "asl"), ("asl", "bce")):
        report = tune(*problem, methods=methods).report
        assert list(report.columns[4:6]) == list(methods)
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
    assert same_bytes(tune(weight, bias, *padded), plain)


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


def test_the_same_seed_gives_the_same_bytes_and_only_the_search_hears_of_it(problem, result):
    assert same_bytes(tune(*problem), result)
    assert not same_bytes(tune(*problem, methods=("ga",), seed=1), tune(*problem, methods=("ga",)))
    assert same_bytes(tune(*problem, methods=("bce",), seed=1), tune(*problem, methods=("bce",)))


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
    result = tune(*problem, methods=("ga",))
    tuned = result.report["method"] == "ga"
    assert tuned.any()
    assert (result.bias != problem[1])[tuned].all()


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
    result = tune(sure, bias, train, valid, methods=(method,))
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


# Mistakes


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
