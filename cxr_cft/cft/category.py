"""One category: its trained head, what the methods make of it on its known rows, and which of that is kept."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cxr_cft.cft.choice import Gain, Groups, best_column, cross_fitted_gain
from cxr_cft.cft.genetic import Memory, evolve
from cxr_cft.cft.gradient import descend
from cxr_cft.cft.options import Options
from cxr_cft.cft.rows import Rows
from cxr_cft.cft.standard import standardise
from cxr_cft.metrics import METRICS
from cxr_cft.progress import SILENT, Progress

Floats = NDArray[np.float64]

COUNTS = ("train_positives", "train_negatives", "valid_positives", "valid_negatives")


@dataclass(frozen=True, eq=False)
class Problem:
    """All categories' data, and how each of them is to be tuned."""

    weight: Floats
    """(C, D) of the trained head."""
    bias: Floats
    """(C,)."""
    names: tuple[str, ...]
    train: Rows
    valid: Rows
    groups: Groups
    """Of the validation rows."""
    methods: tuple[str, ...]
    metric: str
    options: Options
    seed: int
    device: str = "auto"
    """"cpu", a torch device's name, or "auto": the first GPU for a category whose features fit there."""

    @property
    def blocks(self) -> int:
        """How many blocks the jackknife leaves out."""
        return int(self.groups.blocks.max(initial=-1)) + 1


@dataclass(frozen=True, eq=False)
class Tuned:
    """A category's head after the choice, and its row of the report."""

    weight: Floats
    """(D,)."""
    bias: float
    row: dict[str, Any]
    gain: Gain


def tune_category(problem: Problem, c: int, progress: Progress = SILENT, memory: Memory | None = None) -> Tuned:
    """Tune category `c` by every method and keep the best head by validation, the original included.

    Depends on nothing but the known rows of this category, the options and the seed.
    """
    begin = time.perf_counter()
    counts = _counts("train", problem.train.labels[:, c]) | _counts("valid", problem.valid.labels[:, c])
    row: dict[str, Any] = {"category": problem.names[c], "method": "original", "reason": why_not(counts)} | counts
    original = problem.weight[c], float(problem.bias[c])
    untold = Gain(np.nan, np.full(problem.blocks, np.nan))
    if row["reason"]:
        return Tuned(*original, row | {"seconds": time.perf_counter() - begin}, untold)

    candidates = _candidates(problem, c, progress, memory)
    rng = np.random.default_rng([problem.seed, c, 1])
    known = problem.valid.known(c)
    labels = problem.valid.labels[known, c]
    groups = Groups(problem.groups.codes[known], problem.groups.blocks[known])
    metric = METRICS[problem.metric]
    values = metric(labels, candidates.scores)
    gain = cross_fitted_gain(metric, labels, candidates.scores, groups, problem.blocks, rng)
    low, high = gain.interval(problem.options.confidence)
    chosen = best_column(values)
    row |= {"before": values[0], "gain": gain.value, "gain_low": low, "gain_high": high}
    of = np.array(candidates.methods)
    row |= {method: values[of == method].max(initial=values[0]) for method in problem.methods}
    if not values[chosen] > values[0]:
        chosen, row["reason"] = 0, "no method was better on validation"
    elif problem.options.rule == "interval" and not gain.interval(problem.options.guard)[0] > 0:
        chosen, row["reason"] = 0, f"{candidates.methods[chosen]}'s gain on validation may be chance"
    row |= {"after": values[chosen], "method": candidates.methods[chosen]}
    row["seconds"] = time.perf_counter() - begin
    return Tuned(candidates.weights[chosen], float(candidates.biases[chosen]), row, gain)


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Heads to choose among, the original first: methods (K), weights (K, D), biases (K,), validation logits (N, K)."""

    methods: list[str]
    weights: Floats
    biases: Floats
    scores: NDArray[np.float32]


def _candidates(problem: Problem, c: int, progress: Progress, memory: Memory | None) -> _Candidates:
    train, valid = problem.train.known(c), problem.valid.known(c)
    device = _device(problem, len(train))
    features = problem.valid.of(c, valid, device)

    def logits(weights: Floats, biases: Floats) -> NDArray[np.float32]:
        # As they will be used: in float32.
        head = torch.from_numpy(weights.astype(np.float32)).to(device)
        found: NDArray[np.float32] = (features @ head.T).cpu().numpy() + biases.astype(np.float32)
        return found

    labels = torch.from_numpy(problem.train.labels[train, c].astype(np.float32)).to(device)
    weight, bias = problem.weight[c], float(problem.bias[c])
    posed = standardise(problem.train.of(c, train, device), labels, weight, bias)
    names, heads = ["original"], [(weight[None], np.array([bias]))]
    for method in progress.track(problem.methods, f"  {problem.names[c]}", len(problem.methods), "methods"):
        if method == "ga":
            rng = np.random.default_rng([problem.seed, c, 0])
            genes = evolve(problem.metric, posed, problem.options, rng, memory)
        else:
            genes = descend(method, posed, problem.options)
        names += [method] * len(genes)
        heads.append(posed.heads(genes))
    weights, biases = (np.concatenate(parts) for parts in zip(*heads, strict=True))
    return _Candidates(names, weights, biases, logits(weights, biases))


def _device(problem: Problem, rows: int) -> torch.device:
    """Where a category is tuned: on the GPU if its features fit there, with room for logits and a population."""
    if problem.device != "auto":
        return torch.device(problem.device)
    if torch.cuda.is_available():
        # What torch keeps for itself from the category before is free as well.
        free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        # Twice the features, and what fifty columns of logits need a few times over.
        needed = 4 * rows * (2 * problem.weight.shape[1] + 8 * problem.options.population)
        if needed < free:
            return torch.device("cuda")
    return torch.device("cpu")


def _counts(split: str, labels: Floats) -> dict[str, int]:
    return {f"{split}_positives": int((labels == 1).sum()), f"{split}_negatives": int((labels == 0).sum())}


def why_not(counts: dict[str, int]) -> str:
    """Why a category with these counts of known labels cannot be tuned, "" if it can."""
    reasons = []
    for split, where in (("train", "in training"), ("valid", "in validation")):
        lacking = [kind for kind in ("positives", "negatives") if not counts[f"{split}_{kind}"]]
        if lacking:
            reasons.append(f"no known {lacking[0] if len(lacking) == 1 else 'labels'} {where}")
    return ", ".join(reasons)
