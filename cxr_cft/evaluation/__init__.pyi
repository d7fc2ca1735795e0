from .comparison import Comparison as Comparison
from .comparison import Difference as Difference
from .comparison import compare_arrays as compare_arrays
from .entries import Entries as Entries
from .entries import read_entries as read_entries
from .score import Score as Score
from .score import score_arrays as score_arrays
from .score import score_file as score_file

__all__ = [
    "Comparison",
    "Difference",
    "Entries",
    "Score",
    "compare_arrays",
    "read_entries",
    "score_arrays",
    "score_file",
]
