from .genetic import SearchResult as SearchResult
from .genetic import maximise as maximise
from .state import SearchState as SearchState

__all__ = ["SearchResult", "SearchState", "maximise"]
