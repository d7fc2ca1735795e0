from .genetic import Generation as Generation
from .genetic import SearchResult as SearchResult
from .genetic import maximise as maximise

__all__ = ["Generation", "SearchResult", "maximise"]
