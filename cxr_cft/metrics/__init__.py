"""Scores of a ranking and what they are worth: AUROC, average precision, intervals, radiologists' points."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
