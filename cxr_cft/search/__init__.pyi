from .genetic import SearchResult as SearchResult
from .genetic import maximise as maximise
from .islands import maximise_islands as maximise_islands
from .state import SearchState as SearchState

__all__ = ["SearchResult", "SearchState", "maximise", "maximise_islands"]
