"""The demo with three seeds: mean AUROC of the five competition categories on studies that chose nothing.

Each seed draws its own phantoms, trains, tunes and searches anew; the interval of one run says what its studies allow,
the spread of the three what luck does.
"""

import contextlib
import io
import tempfile
from pathlib import Path

from cxr_cft.cli.demo import RECIPES
from cxr_cft.cli.main import run
from cxr_cft.data.truth import read_labels
from cxr_cft.ensemble import blend_csvs, read_ensemble
from cxr_cft.ensemble.file import CANDIDATES
from cxr_cft.evaluation.score import score_file
from tests.benchmarks.table import show, spread

SEEDS = (1, 2, 3)
HEADS = ("", ".cft")  # as trained, and tuned


def main():
    scores, positives, studies, recommended = {}, [], [], []
    with tempfile.TemporaryDirectory() as name:
        for seed in SEEDS:
            folder = Path(name) / str(seed)
            given = ["demo", "--seed", seed, "--weights", folder / "weights", "--submissions", folder / "submissions"]
            with contextlib.redirect_stdout(io.StringIO()):
                failed = run([str(word) for word in given])
            if failed:
                raise SystemExit("the demo failed")
            weights = folder / "weights"
            truth = read_labels(weights / "phantoms" / "test.csv")
            studies.append(len(truth.studies))
            positives += list(score_file(weights / "test-ga.csv", truth).positives.values())
            for recipe in RECIPES:
                for stage, file in (("trained", "test.csv"), ("after CFT", "test.cft.csv")):
                    path = weights / recipe / "predictions" / file
                    scores.setdefault(f"{recipe}, {stage}", []).append(score_file(path, truth).mean_auroc)
            found = read_ensemble(weights / "ensemble.json")
            files = [
                str(weights / recipe / "predictions" / f"test.views{head}.csv") for recipe in RECIPES for head in HEADS
            ]
            for use, title in (*CANDIDATES.items(), ("chosen", "as recommended")):
                blend_csvs(found.using(use), files, weights / "blend.csv")
                worth = score_file(weights / "blend.csv", truth).mean_auroc
                scores.setdefault(f"ensemble of six, {title}", []).append(worth)
            recommended.append(found.recommended)
    print(f"recommended: {', '.join(recommended)}")
    print(f"{min(studies)} to {max(studies)} studies, {min(positives)} to {max(positives)} positives a category")
    show(
        ["", *(f"seed {seed}" for seed in SEEDS), "median (range)"],
        [[name, *(f"{value:.4f}" for value in values), spread(values, 4)] for name, values in scores.items()],
    )
