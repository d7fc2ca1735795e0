"""What a search works on: members' scores, labels and folds, and the configurations that compete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cxr_cft.ensemble.blend import on_scale, scale_logit
from cxr_cft.ensemble.finders import Found, Rows, shares
from cxr_cft.ensemble.scales import CALIBRATED, COMPARABLE, PLAIN, Scale, edges_of, fit_scales
from cxr_cft.metrics.folded import FoldedAuroc, folded_auroc

Floats = NDArray[np.float64]
HeldOut: TypeAlias = tuple[int, ...]

FOLDS = 5  # of patients; a search on four fifths is near enough to one on all (assumed)

FEWEST_PATIENTS, FEWEST_CASES = 20, 5
"""To choose by: patients in all, and patients with and without a finding for that to have a say. Standard errors of
fewer are no measure (assumed). A finding with fewer is scored all the same."""

SHRINKAGE = (0.0, 0.25, 0.5, 0.75, 1.0)  # shares of equal weights that are tried (assumed)

EQUAL = "equal"
FAMILIES: dict[str, tuple[float, ...]] = {
    "ga": SHRINKAGE,
    "ga-category": SHRINKAGE,
    "greedy": (0.0,),
    "best": (0.0,),
    "platt": (0.0,),
    "isotonic": (0.0,),
}
"""What can replace equal weights, in the order in which it is asked, and how far each may be shrunk towards them."""


class Config(NamedTuple):
    """A finder of weights, the scale on which they average, and how far they are shrunk towards equal ones."""

    finder: str
    scale: str
    shrinkage: float = 0.0


def configurations(scale: str | None = None) -> list[Config]:
    """All that compete, each finder's first on the default scale; on `scale` alone where it is given.

    Weights are searched on the default scale, and may average on any of `COMPARABLE`, where a weight means the same.
    Equal weights may average on the others too: some of these give more to a member that is surer of itself.
    """
    return [
        Config(finder, kind, share)
        for finder, grid in {EQUAL: (0.0,), **FAMILIES}.items()
        for kind in _scales_of(finder, scale)
        for share in grid
    ]


def _scales_of(finder: str, scale: str | None) -> Sequence[str]:
    if finder in CALIBRATED:
        return (finder,)
    if scale:
        return (scale,)
    return tuple(PLAIN) if finder == EQUAL else COMPARABLE


class Problem:
    """Members' scores and all that the choice of their weights may look at."""

    def __init__(
        self, scores: Mapping[str, Floats], labels: Floats, patients: Rows, scored: Sequence[int], seed: int
    ) -> None:
        """Take `scores` by aggregation, each (M, S, C) with nan where a member lacks a category.

        `labels` (S, C) are 1, 0 and nan, `patients` (S,) numbers from 0, `scored` the categories whose mean AUROC
        counts.
        """
        self.scores, self.labels, self.patients = scores, labels, patients
        self.scored, self.seed = list(scored), seed
        given = next(iter(scores.values()))
        self.there = np.asarray(~np.isnan(given).any(axis=1))
        self.equal = shares(np.ones(self.there.shape), self.there)
        self.edges = edges_of(given)
        known = ~np.isnan(self.edges)[:, None]
        inset = np.nan_to_num(self.edges)[:, None]
        self.logits = {how: scale_logit(np.where(known, part, 0.5), inset) for how, part in scores.items()}
        self.telling = [c for c in self.scored if _cases(labels[:, c], patients) >= FEWEST_CASES]
        self.folds = _deal(labels[:, self.scored], patients, np.random.default_rng([seed, 0]))

    @property
    def can_choose(self) -> bool:
        """Whether there is enough to choose by; else equal weights are kept."""
        return bool(self.telling) and int(self.patients.max()) + 1 >= FEWEST_PATIENTS

    @property
    def numbers(self) -> range:
        """The folds' numbers."""
        return range(int(self.folds.max()) + 1)

    def learnt(self, held_out: HeldOut) -> Rows:
        """The studies of all folds but these."""
        return np.flatnonzero(~np.isin(self.folds, held_out))

    def rescaled(self, aggregation: str, kind: str, rows: Rows) -> tuple[Floats, list[list[Scale | None]]]:
        """All scores (M, S, C) on a scale that was measured on the studies `rows`, and that scale."""
        scores, logits = self.scores[aggregation], self.logits[aggregation]
        scales = fit_scales(kind, scores[:, rows], logits[:, rows], self.labels[rows], self.edges)
        z = np.full(scores.shape, np.nan)
        for m, row in enumerate(scales):
            for c, scale in enumerate(row):
                if scale is not None:
                    z[m, :, c] = on_scale((logits if scale["logit"] else scores)[m, :, c], scale)
        return z, scales

    def weights(self, config: Config, found: Found) -> Floats:
        """The weights (M, C) of a finder, shrunk."""
        if config.finder in (EQUAL, *CALIBRATED):
            return self.equal
        return (1 - config.shrinkage) * found.weights[config.finder] + config.shrinkage * self.equal

    def judge(self, scores: Floats, folds: Rows, *, to_choose: bool = False) -> FoldedAuroc:
        """The mean AUROC of K blends (K, S, C) within `folds`: over the scored categories, or those to choose by."""
        judged = self.telling if to_choose else self.scored
        return folded_auroc(self.labels[:, judged], scores[:, :, judged], folds)


def _cases(labels: Floats, patients: Rows) -> int:
    """The patients with a finding, or those without, whichever are fewer."""
    return min(len(np.unique(patients[labels == state])) for state in (1, 0))


def _deal(labels: Floats, patients: Rows, rng: np.random.Generator) -> Rows:
    """The fold of each study: patients are dealt in turn, the rarest findings first, so that all folds get some."""
    number = int(patients.max()) + 1
    positive = labels == 1
    counts = np.where(positive, positive.sum(axis=0), len(labels) + 1).min(axis=1, initial=len(labels) + 1)
    rarest = np.full(number, len(labels) + 1)
    np.minimum.at(rarest, patients, counts)
    order = np.lexsort((rng.permutation(number), rarest))
    fold = np.empty(number, dtype=np.intp)
    fold[order] = np.arange(number) % min(FOLDS, number)
    return fold[patients]
