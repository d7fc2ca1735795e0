from .score import Score as Score
from .score import score_arrays as score_arrays
from .score import score_file as score_file

__all__ = ["Score", "score_arrays", "score_file"]
