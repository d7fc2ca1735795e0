from .members import Member as Member
from .members import gather as gather
from .weights import search_weights as search_weights
from .blend import blend as blend
from .file import Ensemble as Ensemble
from .file import read_ensemble as read_ensemble

__all__ = [
    "Ensemble",
    "Member",
    "blend",
    "gather",
    "read_ensemble",
    "search_weights",
]
