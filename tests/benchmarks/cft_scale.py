"""CFT of 14 categories at CheXpert's size: seconds, memory, and what it is worth on rows that chose nothing.

223,414 × 1,024 made features with CheXpert's label rates, 234 validation rows with every label, 20,000 others report.
bce, asl and ga for every category; memory is the process's peak above what the features and labels take. Three seeds.
"""

import time
from pathlib import Path

import numpy as np

from cxr_cft.cft import fine_tune_heads
from cxr_cft.cft.options import METHODS
from cxr_cft.metrics import auroc, per_category
from tests.benchmarks.planted import planted
from tests.benchmarks.table import show, spread

SEEDS = range(3)


def main():
    seconds, memory, rows = [], [], {}
    for seed in SEEDS:
        data = planted(seed)
        before = _resident()
        begin = time.perf_counter()
        result = fine_tune_heads(
            data.weight, data.bias, data.train, data.valid, methods=METHODS, seed=seed, names=data.names
        )
        seconds.append(time.perf_counter() - begin)
        memory.append(_peak() - before)
        features, labels = data.test
        old = per_category(auroc, labels, features @ data.weight.T + data.bias)
        new = per_category(auroc, labels, features @ result.weight.T + result.bias)
        for c, row in enumerate(result.report.to_dict("records")):
            found = rows.setdefault(row["category"], {"known": [], "positives": [], "before": [], "after": []})
            found["known"].append(f"{row['train_positives']}/{row['train_negatives']}")
            found["positives"].append(row["valid_positives"])
            found["before"].append(old[c])
            found["after"].append(new[c])
            found.setdefault("methods", []).append(row["method"])
            found.setdefault("seconds", []).append(row["seconds"])
        told = result.summary
        print(
            f"seed {seed}: {seconds[-1]:.0f} s, {memory[-1]:.2f} GiB above the features; mean AUROC on validation "
            f"{told.before:.4f} → {told.after:.4f}, cross-fitted gain {told.gain:+.4f} ({told.gain_low:+.4f} to "
            f"{told.gain_high:+.4f}), held-out gain {np.mean(new - old):+.4f}",
            flush=True,
        )
        del data, features, result
    print()
    columns = ["category", "known +/−, seed 0", "positives of 234", "method", "held-out before", "after", "gain", "s"]
    show(
        columns,
        [
            [
                name,
                found["known"][0],
                f"{min(found['positives'])} to {max(found['positives'])}",
                ", ".join(found["methods"]),
                spread(found["before"], 4),
                spread(found["after"], 4),
                spread(np.subtract(found["after"], found["before"]), 4),
                spread(found["seconds"], 1),
            ]
            for name, found in rows.items()
        ],
    )
    print(f"\nall categories and methods: {spread(seconds, 0)} s, {spread(memory)} GiB above the features")


def _resident():
    """GiB that the process holds now; the peak is counted anew from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak():
    return _status("VmHWM")


def _status(name):
    """In GiB, from Linux's own account."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 2**20 for line in lines if line.startswith(name))
