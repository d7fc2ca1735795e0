from .score import Score as Score
from .score import StudyLabels as StudyLabels
from .score import read_labels as read_labels
from .score import score_arrays as score_arrays
from .score import score_file as score_file

__all__ = ["Score", "StudyLabels", "read_labels", "score_arrays", "score_file"]
