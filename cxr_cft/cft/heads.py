"""Category-wise Fine-Tuning: each category's logistic regression tuned alone on its known labels, or left as it was.

Chong et al., "Category-Wise Fine-Tuning" (arXiv 2401.16991). Nothing here knows of images, networks or CheXpert: it
serves any model whose logits are affine in its features.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_cft.cft.genetic import search_head
from cxr_cft.cft.gradient import LOSSES, solution_path
from cxr_cft.cft.standard import standardise
from cxr_cft.metrics import METRICS, Metric
from cxr_cft.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import Tensor

ArrayOrTensor: TypeAlias = "NDArray[Any] | Tensor"

METHODS = (*LOSSES, "ga")


@dataclass(frozen=True, eq=False)
class FineTuned:
    """Tuned heads: `weight` (C, D) and `bias` (C,) float32, and `report`, a row a category.

    The report's columns: category, method ("original" where nothing was better), before and after (the metric on the
    validation rows; those chose the method, so `after` is optimistic), one column a method with its validation score,
    positives and negatives known in training and validation, seconds, and reason (why a category was left, or "").
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    report: pd.DataFrame


Head: TypeAlias = tuple[NDArray[np.float64], float]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Features (N, D) or (N, C, D), and labels (N, C) with nan for unknown."""

    features: NDArray[Any]
    labels: NDArray[np.float64]

    def known(self, c: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The features (n, D) and labels (n,) of the rows whose label of category c is known."""
        rows = ~np.isnan(self.labels[:, c])
        features = self.features[rows] if self.features.ndim == 2 else self.features[rows, c]
        return features.astype(np.float32, copy=False), self.labels[rows, c]


def fine_tune_heads(
    weight: ArrayOrTensor,
    bias: ArrayOrTensor,
    train: tuple[ArrayOrTensor, ArrayOrTensor],
    valid: tuple[ArrayOrTensor, ArrayOrTensor],
    methods: Sequence[str] = METHODS,
    metric: str = "auroc",
    seed: int = 0,
    *,
    names: Sequence[str] | None = None,
    progress: Progress = SILENT,
) -> FineTuned:
    """Tune each category's (w_c, b_c) from its trained values on the rows whose label is known.

    Args:
        weight: (C, D) of the trained head; numpy or torch, as all arrays here.
        bias: (C,) of the trained head.
        train: features, (N, D) shared by the categories or (N, C, D), and labels (N, C): 1, 0, nan for unknown.
        valid: the same for the rows that choose; they must not be training rows.
        methods: any of "bce", "asl" (gradient) and "ga" (genetic algorithm on the metric itself).
        metric: "auroc" or "average_precision", maximised by the search and compared on validation.
        seed: of the genetic algorithm; a category's result does not depend on the others'.
        names: of the categories, for the report; their numbers by default.
        progress: told of each category.

    Returns:
        Per category the best of the original and the methods by validation; the original stays unless another is
        strictly better. A category without a known positive or negative in training or validation stays as it was.

    Raises:
        ValueError: an unknown method or metric, shapes that do not fit, labels other than 1, 0 and nan, or features,
            weights or biases that are not finite.

    """
    start, biases = _array(weight).astype(np.float64), _array(bias).astype(np.float64)
    if start.ndim != 2 or biases.shape != start.shape[:1]:
        raise ValueError(f"weight must be (C, D) and bias (C,), but their shapes are {start.shape} and {biases.shape}")
    if not (np.isfinite(start).all() and np.isfinite(biases).all()):
        raise ValueError("weight and bias must be finite")
    training, validation = _rows("train", train, start.shape), _rows("valid", valid, start.shape)
    categories = [str(c) for c in range(len(start))] if names is None else list(names)
    _check_choices(methods, metric, categories, len(start))
    methods = tuple(dict.fromkeys(methods))

    tuned, tuned_biases = start.copy(), biases.copy()
    report = []
    for c in progress.track(range(len(start)), "fine-tuning", len(start), "categories"):
        begin = time.perf_counter()
        counts = _counts("train", training.labels[:, c]) | _counts("valid", validation.labels[:, c])
        row: dict[str, Any] = {"category": categories[c], "method": "original", "reason": _why_not(counts)} | counts
        if not row["reason"]:
            tuning = _Tuning((start[c], float(biases[c])), training.known(c), validation.known(c), METRICS[metric])
            rng = np.random.default_rng([seed, c])
            chosen = tuning.choose({method: tuning.best_of(method, rng) for method in methods}, row)
            tuned[c], tuned_biases[c] = chosen
        report.append(row | {"seconds": time.perf_counter() - begin})
    columns = ["category", "method", "before", "after", *methods, *COUNTS, "seconds", "reason"]
    return FineTuned(
        tuned.astype(np.float32), tuned_biases.astype(np.float32), pd.DataFrame(report).reindex(columns=columns)
    )


class _Tuning:
    """One category: its trained head, its known rows, and what the methods make of them."""

    def __init__(
        self,
        head: Head,
        train: tuple[NDArray[np.float32], NDArray[np.float64]],
        valid: tuple[NDArray[np.float32], NDArray[np.float64]],
        metric: Metric,
    ):
        self.original = head
        self.problem = standardise(train[0], *head)
        self.labels = train[1]
        self.valid = valid
        self.metric = metric

    def score(self, head: Head) -> float:
        """The metric on validation, of the head as float32: as it will be used."""
        features, labels = self.valid
        return float(self.metric(labels, features @ head[0].astype(np.float32) + np.float32(head[1])))

    def best_of(self, method: str, rng: np.random.Generator) -> Head:
        """The head of one method that does best on validation."""
        if method in LOSSES:
            heads = [self.problem.head(genes) for genes in solution_path(LOSSES[method], self.problem, self.labels)]
            return max(heads, key=self.score)
        monitor = lambda genes: self.score(self.problem.head(genes))  # noqa: E731
        return self.problem.head(search_head(self.metric, self.problem, self.labels, monitor, rng))

    def choose(self, candidates: dict[str, Head], row: dict[str, Any]) -> Head:
        """The best of the original and the candidates; `row` is told the scores. Equals leave the original."""
        row["before"] = self.score(self.original)
        scores = {method: self.score(head) for method, head in candidates.items()}
        row.update(scores)
        best = max(scores, key=lambda method: scores[method])
        if not scores[best] > row["before"]:
            row["after"], row["reason"] = row["before"], "no method was better on validation"
            return self.original
        row["after"], row["method"] = scores[best], best
        return candidates[best]


COUNTS = ("train_positives", "train_negatives", "valid_positives", "valid_negatives")


def _counts(split: str, labels: NDArray[np.float64]) -> dict[str, int]:
    return {f"{split}_positives": int((labels == 1).sum()), f"{split}_negatives": int((labels == 0).sum())}


def _why_not(counts: dict[str, int]) -> str:
    reasons = []
    for split, where in (("train", "in training"), ("valid", "in validation")):
        lacking = [kind for kind in ("positives", "negatives") if not counts[f"{split}_{kind}"]]
        if lacking:
            reasons.append(f"no known {lacking[0] if len(lacking) == 1 else 'labels'} {where}")
    return ", ".join(reasons)


def _array(values: ArrayOrTensor) -> NDArray[Any]:
    if isinstance(values, np.ndarray):
        return values
    tensor = getattr(values, "detach", None)
    return np.asarray(values) if tensor is None else tensor().cpu().float().numpy()


def _rows(name: str, rows: tuple[ArrayOrTensor, ArrayOrTensor], shape: tuple[int, ...]) -> _Rows:
    features, labels = _array(rows[0]), _array(rows[1]).astype(np.float64)
    categories, dimension = shape
    if features.ndim not in (2, 3) or features.shape[1:] not in ((dimension,), (categories, dimension)):
        wanted = f"(N, {dimension}) or (N, {categories}, {dimension})"
        raise ValueError(f"{name} features must be {wanted}, but their shape is {features.shape}")
    if labels.shape != (len(features), categories):
        raise ValueError(f"{name} labels must be ({len(features)}, {categories}), but their shape is {labels.shape}")
    if not (np.isnan(labels) | (labels == 0) | (labels == 1)).all():
        raise ValueError(f"{name} labels must be 1, 0 or nan for unknown")
    if not np.isfinite(features).all():
        raise ValueError(f"{name} features must be finite")
    return _Rows(features, labels)


def _check_choices(methods: Sequence[str], metric: str, names: Sequence[str], categories: int) -> None:
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        raise ValueError(f"methods must be some of {', '.join(METHODS)}, not {', '.join(unknown) or 'none'}")
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, not {metric}")
    if len(names) != categories:
        raise ValueError(f"there are {len(names)} names for {categories} categories")
