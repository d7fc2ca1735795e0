from .images import read_image as read_image
from .inspect import inspect_folder as inspect_folder
from .labels import CATEGORIES as CATEGORIES
from .labels import COMPETITION as COMPETITION
from .labels import known_labels as known_labels
from .labels import training_targets as training_targets
from .phantoms import write_phantoms as write_phantoms
from .predictions import Predictions as Predictions
from .predictions import Rows as Rows
from .predictions import read_predictions as read_predictions
from .predictions import read_rows as read_rows
from .predictions import write_predictions as write_predictions
from .splits import read_splits as read_splits
from .splits import shared_patients as shared_patients
from .table import Table as Table
from .table import read_table as read_table
from .truth import StudyLabels as StudyLabels
from .truth import read_labels as read_labels

__all__ = [
    "CATEGORIES",
    "COMPETITION",
    "Predictions",
    "Rows",
    "StudyLabels",
    "Table",
    "inspect_folder",
    "known_labels",
    "read_image",
    "read_labels",
    "read_predictions",
    "read_rows",
    "read_splits",
    "read_table",
    "shared_patients",
    "training_targets",
    "write_phantoms",
    "write_predictions",
]
