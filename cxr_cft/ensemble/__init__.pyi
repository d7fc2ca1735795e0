from .apply import blend_csvs as blend_csvs
from .blend import blend_scores as blend_scores
from .file import Ensemble as Ensemble
from .file import read_ensemble as read_ensemble
from .file import write_ensemble as write_ensemble
from .members import Member as Member
from .members import gather as gather
from .plot import draw_ensemble as draw_ensemble
from .search import search_ensemble as search_ensemble
from .weights import search_weights as search_weights

__all__ = [
    "Ensemble",
    "Member",
    "blend_csvs",
    "blend_scores",
    "draw_ensemble",
    "gather",
    "read_ensemble",
    "search_ensemble",
    "search_weights",
    "write_ensemble",
]
