from .features import cached_features as cached_features
from .heads import FineTuned as FineTuned
from .heads import Summary as Summary
from .heads import fine_tune_heads as fine_tune_heads
from .options import Options as Options
from .tune import tune_run as tune_run
from .tune import tune_runs as tune_runs

__all__ = [
    "FineTuned",
    "Options",
    "Summary",
    "cached_features",
    "fine_tune_heads",
    "tune_run",
    "tune_runs",
]
