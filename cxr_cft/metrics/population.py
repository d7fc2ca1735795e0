"""AUROC of thousands of blends of the same rows, for a search.

What is reported comes from `cxr_cft.metrics.ranking`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Singles = NDArray[np.float32]
Floats = NDArray[np.float64]

_SIGNLESS = np.int32(0x7FFFFFFF)
BLOCK_CELLS = 2**17  # scores sorted at a time; half and twice as many take as long (measured)


def population_auroc(scores: Singles, positive: Flags) -> Floats:
    """AUROC (K,) of K score rows (K, N) of float32 over one set of labels (N,), true for positive.

    A float's bits, read as an integer, are in the order of its value, so that the last one can carry the label: one
    sort of integers, without indices, and the positives' ranks can be summed. Ties count half, and scores that differ
    in that last bit alone (one part in eight million) count as ties. Otherwise it is exact, in a fifth of the time of
    `auroc` (40 blends of 200 to 1,000 rows, measured).

    Raises ValueError if the shapes do not fit, or one of the classes is missing: it would be asked for in vain for
    thousands of times. Scores have to be finite, which is not checked.
    """
    if scores.ndim != 2 or scores.dtype != np.float32 or positive.shape != scores.shape[1:]:
        raise ValueError(
            f"scores must be (K, N) of float32 and labels (N,), but they are {scores.shape} of {scores.dtype} and "
            f"{positive.shape}"
        )
    positives = int(np.count_nonzero(positive))
    pairs = positives * (len(positive) - positives)
    if not pairs:
        raise ValueError("there must be a positive and a negative")
    ranks = np.arange(len(positive), dtype=np.float64 if len(positive) > 2**11 else np.float32)
    label = positive.astype(np.int32)
    won = np.empty(len(scores))
    step = max(1, BLOCK_CELLS // len(positive))
    for start in range(0, len(scores), step):
        won[start : start + step] = _rank_sums(scores[start : start + step], label, ranks)
    return (won - positives * (positives - 1) / 2) / pairs


def _rank_sums(scores: Singles, label: NDArray[np.int32], ranks: NDArray[np.floating]) -> Floats:
    """The sum (K,) of the positives' ranks, counted from 0."""
    bits = (scores + np.float32(0)).view(np.int32)  # adding 0 makes one zero of the two
    keys = bits >> 31
    keys &= _SIGNLESS
    keys ^= bits  # negative numbers have their greatest magnitude first now
    keys &= np.int32(-2)
    keys |= label
    keys.sort(axis=1)
    sums = np.asarray((keys & 1).astype(ranks.dtype) @ ranks, dtype=np.float64)
    # The last bit puts positives above the negatives that they tie with. Where there are any, they are put below them
    # as well, and the mean counts the ties half.
    tied = ((keys[:, 1:] ^ keys[:, :-1]) == 1).any(axis=1)
    if tied.any():
        turned = keys[tied] ^ 1
        turned.sort(axis=1)
        sums[tied] += ((turned & 1) ^ 1).astype(ranks.dtype) @ ranks
        sums[tied] /= 2
    return sums
