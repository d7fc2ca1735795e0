"""Which rule should keep a tuned head? Held-out AUROC by rule and by methods, with 234 validation rows that choose.

14 categories of CheXpert's label rates on made features, at most 25,000 known labels each: heads bent by blanks assumed
negative, where there is much to gain, and heads that were tuned already with 10,000 fully labelled rows to choose,
where there is next to nothing. Three seeds, ten draws of the validation rows each.
"""

import numpy as np

from cxr_cft.cft import category, fine_tune_heads
from cxr_cft.cft.choice import Groups, best_column, cross_fitted_gain
from cxr_cft.cft.heads import pose
from cxr_cft.metrics import auroc
from cxr_cft.progress import SILENT
from tests.benchmarks.planted import planted
from tests.benchmarks.table import show, spread

SEEDS, DRAWS, VALID, KNOWN = range(3), 10, 234, 25_000
METHODS = {"bce": ("bce",), "asl": ("asl",), "ga": ("ga",), "bce, ga": ("bce", "ga"), "all": ("bce", "asl", "ga")}
RULES = {"better": None, "interval, 50 %": 0.5, "interval, 80 %": 0.8, "interval, 95 %": 0.95}


def judge(data, seed):
    """{(methods, rule): held-out gains}, and how often the cross-fitted interval held the gain of what was chosen."""
    gains, covered, told = {}, [], []
    features, labels = data.test
    half = len(labels) // 2
    rng = np.random.default_rng(seed)
    for c in range(len(data.names)):
        known = np.flatnonzero(~np.isnan(data.train[1][:, c]))[:KNOWN]
        if not 0 < np.nansum(data.train[1][known, c]) < len(known):
            continue
        own = np.full((len(data.train[1]), 1), np.nan)
        own[known, 0] = data.train[1][known, c]
        # The test rows stand for a pool of validation rows: the first half lends the draws, the second one reports.
        problem = pose(
            data.weight[[c]],
            data.bias[[c]],
            (data.train[0], own),
            (features, labels[:, [c]]),
            seed=seed,
        )
        candidates = category._candidates(problem, 0, SILENT, None)
        held_out = auroc(labels[half:, c], candidates.scores[half:])
        for _ in range(DRAWS):
            drawn = rng.choice(half, VALID, replace=False)
            truth = labels[drawn, c].astype(float)
            if not 1 < truth.sum() < VALID - 1:
                continue
            groups = Groups.of(np.arange(VALID), seed)
            for name, methods in METHODS.items():
                columns = np.flatnonzero(np.isin(candidates.methods, ("original", *methods)))
                scores = candidates.scores[np.ix_(drawn, columns)]
                values = auroc(truth, scores)
                chosen = best_column(values)
                gain = held_out[columns[chosen]] - held_out[0]
                fitted = cross_fitted_gain(auroc, truth, scores, groups, VALID, rng)
                for rule, confidence in RULES.items():
                    kept = confidence is None or fitted.interval(confidence)[0] > 0
                    gains.setdefault((name, rule), []).append(gain if kept else 0.0)
                if name == "all":
                    low, high = fitted.interval(0.95)
                    covered.append(low <= gain <= high)
                    told.append((values[chosen] - values[0], fitted.value, gain))
    return gains, covered, told


def tuned(data, seed):
    """The same problem with heads that leave little to gain."""
    labels = data.train[1].copy()
    for column in labels.T:
        column[np.flatnonzero(~np.isnan(column))[KNOWN:]] = np.nan
    half = len(data.test[1]) // 2
    pool = data.test[0][:half], data.test[1][:half]
    result = fine_tune_heads(data.weight, data.bias, (data.train[0], labels), pool, methods=("bce",), seed=seed)
    data.weight, data.bias = result.weight, result.bias
    return data


def main():
    found = {}
    for seed in SEEDS:
        data = planted(seed)
        for heads in ("bent", "tuned"):
            data = data if heads == "bent" else tuned(data, seed)
            gains, covered, told = judge(data, seed)
            for key, values in gains.items():
                mean, lost = np.mean(values), np.mean(np.array(values) < -0.001)
                found.setdefault((heads, *key), []).append((mean, lost))
            optimistic, fitted, real = np.mean(told, axis=0)
            print(
                f"seed {seed}, {heads} heads, all methods: gain on validation {optimistic:+.4f}, cross-fitted "
                f"{fitted:+.4f}, held-out {real:+.4f}; the 95 % interval held it in {np.mean(covered):.0%} of "
                f"{len(covered)}",
                flush=True,
            )
    print()
    rows = []
    for name in METHODS:
        for rule in RULES:
            cells = []
            for heads in ("bent", "tuned"):
                means, losses = zip(*found[heads, name, rule], strict=True)
                cells += [spread(means, 4), f"{np.median(losses):.0%}"]
            rows.append([name, rule, *cells])
    show(["methods", "rule", "bent heads: gain", "lost > 0.001", "tuned heads: gain", "lost > 0.001"], rows)
