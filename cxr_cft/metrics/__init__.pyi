from .delong import delong_interval as delong_interval
from .intervals import percentile_interval as percentile_interval
from .population import population_auroc as population_auroc
from .radiologists import OperatingPoint as OperatingPoint
from .radiologists import radiologist_points as radiologist_points
from .radiologists import radiologists_under_roc as radiologists_under_roc
from .ranking import METRICS as METRICS
from .ranking import Metric as Metric
from .ranking import auroc as auroc
from .ranking import average_precision as average_precision
from .ranking import per_category as per_category
from .resampling import Bootstrap as Bootstrap
from .resampling import bootstrap as bootstrap
from .resampling import bootstrap_auroc as bootstrap_auroc
from .resampling import resample_counts as resample_counts

__all__ = [
    "METRICS",
    "Bootstrap",
    "Metric",
    "OperatingPoint",
    "auroc",
    "average_precision",
    "bootstrap",
    "bootstrap_auroc",
    "delong_interval",
    "per_category",
    "percentile_interval",
    "population_auroc",
    "radiologist_points",
    "radiologists_under_roc",
    "resample_counts",
]
