"""Chest X-ray competitions from labels to an offline submission: backbones, Category-wise Fine-Tuning, ensembles, bundles."""

from importlib.metadata import version

__version__ = version("cxr-cft")
