"""Category-wise Fine-Tuning: each category's logistic regression tuned alone on its known labels, or left as it was.

Chong et al., "Category-Wise Fine-Tuning" (arXiv 2401.16991). Nothing here knows of images, networks or CheXpert: it
serves any model whose logits are affine in its features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from cxr_cft.cft.category import COUNTS, Problem, Tuned, tune_category
from cxr_cft.cft.choice import Groups, mean_gain
from cxr_cft.cft.options import METHODS, Options
from cxr_cft.cft.rows import ArrayOrTensor, as_floats, checked_rows
from cxr_cft.metrics import METRICS
from cxr_cft.progress import SILENT, Progress

_DEFAULTS = Options()


@dataclass(frozen=True)
class Summary:
    """All categories together, those that could be tried: means over them."""

    metric: str
    """What all scores are."""
    tried: int
    """Categories with known positives and negatives in training and in validation."""
    tuned: int
    """Those of them that got another head."""
    before: float
    """The metric on validation, of the original heads."""
    after: float
    """Of the chosen ones: optimistic, since validation chose them."""
    gain: float
    """Cross-fitted: what always taking the best head gains on rows that did not choose it."""
    estimated: int
    """Over so many categories, those whose own gain could be estimated."""
    gain_low: float
    gain_high: float
    confidence: float
    """Of the interval."""
    seconds: float


@dataclass(frozen=True, eq=False)
class FineTuned:
    """Tuned heads: `weight` (C, D) and `bias` (C,) float32, `report`, a row a category, and `summary` of all.

    The report's columns: category, method ("original" where it stays), before and after (the metric on the validation
    rows; those chose the method, so `after` is optimistic), gain, gain_low and gain_high (the cross-fitted estimate of
    what the choice gains on rows that did not choose, and its interval; of the choice of the best, whatever the rule
    then kept), one column a method with its best validation score, positives and negatives known in training and
    validation, seconds, and reason (why a category was left, or "").
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    report: pd.DataFrame
    summary: Summary


def fine_tune_heads(
    weight: ArrayOrTensor,
    bias: ArrayOrTensor,
    train: tuple[ArrayOrTensor, ArrayOrTensor],
    valid: tuple[ArrayOrTensor, ArrayOrTensor],
    methods: Sequence[str] = METHODS,
    metric: str = "auroc",
    seed: int = 0,
    *,
    options: Options = _DEFAULTS,
    names: Sequence[str] | None = None,
    groups: ArrayLike | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
) -> FineTuned:
    """Tune each category's (w_c, b_c) from its trained values on the rows whose label is known.

    Args:
        weight: (C, D) of the trained head; numpy or torch, as all arrays here.
        bias: (C,) of the trained head.
        train: features, (N, D) shared by the categories or (N, C, D), and labels (N, C): 1, 0, nan for unknown.
            Features of any real dtype, memory-mapped ones too: one category's known rows are read at a time.
        valid: the same for the rows that choose; they must not be training rows.
        methods: any of "bce", "asl" (gradient) and "ga" (genetic algorithm on the metric itself).
        metric: "auroc" or "average_precision", maximised by the search and compared on validation.
        seed: of the genetic algorithm; a category's result does not depend on the others'.
        options: of the methods and of the choice among them.
        names: of the categories, for the report; their numbers by default.
        groups: (N,) of the validation rows, names or numbers: rows of one group (a patient) are taken together when
            the gain is estimated. Every row is its own group by default.
        device: "cpu", "cuda", or "auto": the GPU, where there is one and a category's features fit there.
        progress: told of each category and method.

    Returns:
        Per category the best of the original and the methods by validation; the original stays unless another is
        strictly better (and by more than chance, if the options say so). A category without a known positive or
        negative in training or validation stays as it was.

    Raises:
        ValueError: an unknown method, metric or device, shapes that do not fit, labels other than 1, 0 and nan, or
            features, weights or biases that are not finite.

    """
    problem = pose(
        weight, bias, train, valid, methods, metric, seed, options=options, names=names, groups=groups, device=device
    )
    categories = progress.track(range(len(problem.names)), "fine-tuning", len(problem.names), "categories")
    return assemble(problem, (tune_category(problem, c, progress) for c in categories))


def pose(
    weight: ArrayOrTensor,
    bias: ArrayOrTensor,
    train: tuple[ArrayOrTensor, ArrayOrTensor],
    valid: tuple[ArrayOrTensor, ArrayOrTensor],
    methods: Sequence[str] = METHODS,
    metric: str = "auroc",
    seed: int = 0,
    *,
    options: Options = _DEFAULTS,
    names: Sequence[str] | None = None,
    groups: ArrayLike | None = None,
    device: str = "auto",
) -> Problem:
    """Check what `fine_tune_heads` is given, for whoever tunes the categories elsewhere; arguments are its own."""
    start, biases = as_floats(weight), as_floats(bias)
    if start.ndim != 2 or not start.shape[1] or biases.shape != start.shape[:1]:
        raise ValueError(f"weight must be (C, D) and bias (C,), but their shapes are {start.shape} and {biases.shape}")
    if not (np.isfinite(start).all() and np.isfinite(biases).all()):
        raise ValueError("weight and bias must be finite")
    training, validation = checked_rows("train", train, start.shape), checked_rows("valid", valid, start.shape)
    categories = tuple(str(c) for c in range(len(start))) if names is None else tuple(names)
    _check_choices(methods, metric, categories, len(start))
    _check_device(device)
    grouping = np.arange(len(validation.labels)) if groups is None else np.asarray(groups)
    if grouping.shape != (len(validation.labels),):
        raise ValueError(f"groups must be ({len(validation.labels)},), but their shape is {grouping.shape}")
    return Problem(
        start,
        biases,
        categories,
        training,
        validation,
        Groups.of(grouping, seed),
        tuple(dict.fromkeys(methods)),
        metric,
        options,
        seed,
        device,
    )


def assemble(problem: Problem, tuned: Iterable[Tuned]) -> FineTuned:
    """Put the categories' results, in their order, together."""
    heads = list(tuned)
    weight, bias = problem.weight.astype(np.float32), problem.bias.astype(np.float32)
    for c, head in enumerate(heads):
        weight[c], bias[c] = head.weight, head.bias
    gains = ["gain", "gain_low", "gain_high"]
    columns = ["category", "method", "before", "after", *gains, *problem.methods, *COUNTS, "seconds", "reason"]
    report = pd.DataFrame([head.row for head in heads]).reindex(columns=columns)
    return FineTuned(weight, bias, report, _summary(problem, heads, report))


def _summary(problem: Problem, heads: list[Tuned], report: pd.DataFrame) -> Summary:
    gain = mean_gain([head.gain for head in heads])
    low, high = gain.interval(problem.options.confidence)
    return Summary(
        metric=problem.metric,
        tried=int(report["before"].notna().sum()),
        tuned=int((report["method"] != "original").sum()),
        before=float(report["before"].mean()),
        after=float(report["after"].mean()),
        gain=gain.value,
        estimated=int(report["gain"].notna().sum()),
        gain_low=low,
        gain_high=high,
        confidence=problem.options.confidence,
        seconds=float(report["seconds"].sum()),
    )


def _check_device(device: str) -> None:
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not number.isdigit()):
        raise ValueError(f"device must be auto, cpu or cuda, not {device}")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ValueError(f"device is {device}, but torch sees {torch.cuda.device_count()} GPUs")


def _check_choices(methods: Sequence[str], metric: str, names: Sequence[str], categories: int) -> None:
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        raise ValueError(f"methods must be some of {', '.join(METHODS)}, not {', '.join(unknown) or 'none'}")
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, not {metric}")
    if len(names) != categories:
        raise ValueError(f"there are {len(names)} names for {categories} categories")
