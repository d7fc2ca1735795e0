"""How CFT's time grows with rows, categories and features: seconds, and the exponents of the fitted power laws.

Made features with CheXpert's label rates; 234 validation rows; bce and asl and ga each on their own.
"""

import time

import numpy as np

from cxr_cft.cft import Options, fine_tune_heads
from tests.benchmarks.planted import planted
from tests.benchmarks.table import show

ROWS = (25_000, 50_000, 100_000, 200_000, 400_000)  # at 512 features, 4 categories
CATEGORIES = (14, 100, 700, 5_000)  # at 2,000 rows, 64 features
FEATURES = (256, 512, 1_024, 2_048)  # at 50,000 rows, 4 categories


def seconds(data, method):
    begin = time.perf_counter()
    fine_tune_heads(data.weight, data.bias, data.train, data.valid, methods=(method,), options=OPTIONS)
    return time.perf_counter() - begin


# As many generations each time, so that growth is that of a generation and not of luck.
OPTIONS = Options(generations=50, patience=50)


def main():
    rows = []
    for name, sizes, arguments in (
        ("rows", ROWS, {"features": 512, "categories": 4, "steps": 10}),
        ("categories", CATEGORIES, {"rows": 2_000, "features": 64, "steps": 10}),
        ("features", FEATURES, {"rows": 50_000, "categories": 4, "steps": 10}),
    ):
        taken = {method: [] for method in ("bce", "asl", "ga")}
        for size in sizes:
            data = planted(0, **arguments, **{name: size}, test=1_000)
            for method, found in taken.items():
                found.append(seconds(data, method))
        for method, found in taken.items():
            exponent = np.polyfit(np.log(sizes), np.log(found), 1)[0]
            told = ", ".join(f"{size:,}: {value:.2f}" for size, value in zip(sizes, found, strict=True))
            rows.append([name, method, told, f"{exponent:.2f}"])
            print(rows[-1], flush=True)
    show(["growing", "method", "seconds", "exponent"], rows)
