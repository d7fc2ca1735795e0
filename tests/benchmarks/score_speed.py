"""How fast predictions are scored and compared: the whole command at a large size, beside a loop of scikit-learn.

Made data: 25,000 studies of 16,000 patients, 14 categories of which 2 % to 40 % are positive and a tenth of the labels
unknown. The command reads the CSVs, scores every file with both intervals, average precision included, and compares
every pair. The obvious way draws one resample after the other and calls `roc_auc_score` for each model and category; it
is timed on two resamples of AUROC alone, and 1,000 are that times 500.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from cxr_cft.data.labels import CATEGORIES
from cxr_cft.data.predictions import write_predictions
from cxr_cft.evaluation import read_entries
from cxr_cft.evaluation.sampled import RESAMPLES, patients_of
from cxr_cft.metrics import delong
from tests.benchmarks.table import show, spread

REPEATS = 3
MODELS, STUDIES, PATIENTS = 10, 25_000, 16_000
TIMED = 2  # resamples of the obvious way


def write_files(folder):
    """Labels and ten models' probabilities; returns the models' CSVs and that of the labels."""
    rng = np.random.default_rng(0)
    patients = np.sort(np.concatenate([np.arange(PATIENTS), rng.integers(PATIENTS, size=STUDIES - PATIENTS)]))
    studies = [f"made/test/patient{patient:05d}/study{n}" for n, patient in enumerate(patients)]
    labels = (rng.random((STUDIES, 14)) < np.linspace(0.02, 0.4, 14)).astype(float)
    shared = rng.standard_normal(labels.shape)
    files = [folder / f"model{m}.csv" for m in range(MODELS)]
    for m, file in enumerate(files):
        logits = (1 + 0.05 * m) * labels + shared + 0.5 * rng.standard_normal(labels.shape) - 2
        write_predictions(file, studies, CATEGORIES, 1 / (1 + np.exp(-logits)))
    known = rng.random(labels.shape) < 0.9
    rows = [
        ",".join([study, *(f"{label:g}" if given else "" for label, given in zip(*row, strict=True))])
        for study, *row in zip(studies, labels, known, strict=True)
    ]
    truth = folder / "labels.csv"
    truth.write_text("\n".join([",".join(["Study", *CATEGORIES]), *rows]) + "\n")
    return files, truth


def command(files, truth):
    """Wall seconds, processor seconds and peak GiB of `cxr-cft score`."""
    begin = time.perf_counter()
    words = [sys.executable, "-m", "cxr_cft", "score", *map(str, files), str(truth), "--categories", "all"]
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    assert status == 0
    return time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def obvious(entries, patients):
    """Seconds of a thousand resamples by scikit-learn, from a few."""
    labels, rng = entries.truth.labels, np.random.default_rng(0)
    order = np.argsort(patients, kind="stable")
    rows_of = np.split(order, np.cumsum(np.bincount(patients))[:-1])
    begin = time.perf_counter()
    for _ in range(TIMED):
        rows = np.concatenate([rows_of[patient] for patient in rng.integers(len(rows_of), size=len(rows_of))])
        for scores in entries.scores:
            for c in range(labels.shape[1]):
                known = rows[~np.isnan(labels[rows, c])]
                roc_auc_score(labels[known, c], scores[known, c])
    return (time.perf_counter() - begin) * RESAMPLES / TIMED


def pairs_by_delong(entries, patients):
    """Seconds of DeLong's covariance of all models, category by category."""
    begin = time.perf_counter()
    for c in range(len(entries.truth.categories)):
        delong(entries.truth.labels[:, c], entries.scores[:, :, c].T, patients)
    return time.perf_counter() - begin


def main():
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        files, truth = write_files(Path(folder))
        entries = read_entries(files, truth, "all")
        patients = patients_of(entries.truth)
        every = [command(files, truth) for _ in range(REPEATS)]
        one = [command(files[:1], truth) for _ in range(REPEATS)]
        slow = [obvious(entries, patients) for _ in range(REPEATS)]
        normal = [pairs_by_delong(entries, patients) for _ in range(REPEATS)]
    rows = [
        [
            f"`cxr-cft score`, {len(given)} file{'s' * (len(given) > 1)}",
            *(spread(column, 1) for column in zip(*times, strict=True)),
        ]
        for given, times in ((files, every), (files[:1], one))
    ]
    rows.append(
        [f"{RESAMPLES:,} resamples by `roc_auc_score`, {MODELS} models (extrapolated)", spread(slow, 0), "", ""]
    )
    rows.append([f"DeLong's covariance alone, {MODELS} models", spread(normal, 1), "", ""])
    show([f"{STUDIES:,} studies, 14 categories", "seconds", "processor seconds", "GiB at most"], rows)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\nload of the machine over 1, 5 and 15 minutes: {load}")
