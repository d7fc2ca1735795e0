from .genetic import SearchResult as SearchResult
from .genetic import maximise as maximise
from .state import Generation as Generation
from .state import SearchState as SearchState

__all__ = ["Generation", "SearchResult", "SearchState", "maximise"]
