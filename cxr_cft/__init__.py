"""Chest X-ray competitions: backbones, Category-wise Fine-Tuning, ensembles, and a bundle that predicts offline."""

from importlib.metadata import version

__version__ = version("cxr-cft")
