"""From a recipe and a data folder to a run: a timm backbone with an affine head."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
