"""What can be set about fine-tuning a head, with the defaults and where they come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

METHODS = ("bce", "asl", "ga")
RULES = ("better", "interval")

PULLS = tuple(10 ** (2 - step / 2) for step in range(13))
"""Many correlated features move a head together: at 1 the ranks of 512 made features moved already (Spearman 0.81 to
0.95), and strengths above it chose the better head where labels were few (held-out AUROC 0.734 against 0.730) or the
trained head was good (measured). At 1e-4 nothing holds the head back on data of CheXpert's size (measured)."""


@dataclass(frozen=True)
class Options:
    """Settings of the methods and of the choice among them."""

    gamma_negative: float = 4.0
    """ASL's focus on negatives that are scored high; as published (Chong et al.'s code), like the next two."""
    gamma_positive: float = 0.0
    """ASL's focus on positives that are scored low."""
    clip: float = 0.05
    """The probability below which ASL forgives a negative."""
    pulls: Sequence[float] = PULLS
    """Strengths of the pull towards the trained head that are tried, above 0; validation chooses among them."""
    population: int = 50
    """Of the genetic algorithm; as published."""
    generations: int = 100
    """At most; in a space of 16 genes the fitness next to stood still by then (measured)."""
    patience: int = 20
    """Generations without a better fitness after which the genetic algorithm ends (assumed)."""
    rule: str = "better"
    """"better": the best on validation, if strictly better than the original (Chong et al.). "interval": that one, if
    the interval of the cross-fitted gain lies above 0."""
    guard: float = 0.5
    """The confidence of the interval that the rule asks for."""
    confidence: float = 0.95
    """Of the intervals that are reported."""

    def __post_init__(self) -> None:
        """Refuse what means nothing.

        Raises:
            ValueError: a number is out of its range, or there is no such rule.

        """
        if self.rule not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}, not {self.rule}")
        if not self.pulls or not all(0 < pull < math.inf for pull in self.pulls):
            raise ValueError("pulls must be one or more numbers above 0")
        if not all(0 <= gamma < math.inf for gamma in (self.gamma_negative, self.gamma_positive)):
            raise ValueError("gamma_negative and gamma_positive must be finite and not negative")
        if not 0 <= self.clip < 1:
            raise ValueError(f"clip must lie in [0, 1), but it is {self.clip:g}")
        if self.population < 2 or self.generations < 1 or self.patience < 1:
            raise ValueError("population must be at least 2, generations and patience at least 1")
        if not (0 < self.guard < 1 and 0 < self.confidence < 1):
            raise ValueError("guard and confidence must lie between 0 and 1")
