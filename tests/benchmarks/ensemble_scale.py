"""Which scale to average on: equal weights' mean AUROC on unseen studies, for members that write in different ways.

Ten members of the same worth with correlated errors. Scales are measured on 100, 250 or 1,000 studies; what is shown is
of 10,000 others: the median of 20 draws, and the least and the greatest difference from the default.
"""

import numpy as np

from cxr_cft.ensemble.blend import to_scale, weighted
from cxr_cft.ensemble.scales import SCALES
from cxr_cft.metrics import auroc, per_category
from tests.benchmarks.made_members import RATES, problem
from tests.benchmarks.table import show

DRAWS, UNSEEN = 20, 10_000
DEFAULT = "zlogit"
SIZES = (100, 250, 1000)


def probability(z):
    return 1 / (1 + np.exp(-z))


def written(z, way):
    """One member's logits in another tool's hand."""
    if way == "sure":
        return probability(4 * z)  # a network trained too long
    if way == "two decimals":
        return np.round(probability(z - 1), 2)
    if way == "sure, two decimals":
        return np.round(probability(4 * z - 2), 2)  # a third of them 0.00 or 1.00
    if way == "shifted":
        return probability(z - 4)  # blanks assumed negative
    if way == "logits":
        return 0.7 * z + 1.0
    return probability(z - 1)


MIXES = {
    "alike": ["alike"] * 10,
    "some shifted, some sure": ["alike"] * 4 + ["shifted"] * 3 + ["sure"] * 3,
    "two decimals": ["two decimals"] * 10,
    "sure, two decimals": ["sure, two decimals"] * 10,
    "some sure, two decimals": ["alike"] * 5 + ["sure, two decimals"] * 5,
    "of every hand": ["alike", "sure", "two decimals", "shifted", "logits"] * 2,
}


def scores(ways, studies, rng):
    labels = (rng.random((studies, 5)) < RATES).astype(np.float64)
    shared = rng.standard_normal((studies, 5))
    each = [1.4 * labels + 0.7 * shared + 0.7 * rng.standard_normal((studies, 5)) for _ in ways]
    return labels, np.stack([written(z, way) for z, way in zip(each, ways, strict=True)])


def main():
    rows = []
    for mix, ways in MIXES.items():
        for size in SIZES:
            found = {kind: [] for kind in SCALES}
            for draw in range(DRAWS):
                rng = np.random.default_rng([draw, size, list(MIXES).index(mix)])
                labels, seen = scores(ways, size, rng)
                truth, unseen = scores(ways, UNSEEN, rng)
                known = problem(seen, labels, draw)
                for kind in SCALES:
                    _, scale = known.rescaled("max", kind, np.arange(size))
                    blend = weighted(to_scale(unseen, scale), np.ones((len(ways), 5)))
                    found[kind].append(per_category(auroc, truth, blend).mean())
            default = np.array(found[DEFAULT])
            cells = []
            for kind, values in found.items():
                apart = np.array(values) - default
                middle = f"{np.median(values):.4f}"
                cells.append(middle if kind == DEFAULT else f"{middle} ({apart.min():+.4f} to {apart.max():+.4f})")
            rows.append([mix, size, *cells])
    show(["members", "studies", *SCALES], rows)
