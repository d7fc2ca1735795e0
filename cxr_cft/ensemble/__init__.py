"""Weights over runs and foreign prediction CSVs, searched on validation studies and judged out of fold."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
