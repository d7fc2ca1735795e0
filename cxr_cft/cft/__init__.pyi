from .features import cached_features as cached_features
from .heads import FineTuned as FineTuned
from .heads import fine_tune_heads as fine_tune_heads
from .tune import tune_run as tune_run

__all__ = [
    "FineTuned",
    "cached_features",
    "fine_tune_heads",
    "tune_run",
]
