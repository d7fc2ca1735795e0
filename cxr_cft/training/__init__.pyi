from .model import Classifier as Classifier
from .model import build_model as build_model
from .model import load_model as load_model
from .train import train_run as train_run

__all__ = [
    "Classifier",
    "build_model",
    "load_model",
    "train_run",
]
