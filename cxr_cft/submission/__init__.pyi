from .bundle import Bundle as Bundle
from .bundle import package as package
from .export import export_onnx as export_onnx
from .verify import Rehearsal as Rehearsal
from .verify import check_output as check_output
from .verify import rehearse as rehearse

__all__ = ["Bundle", "Rehearsal", "check_output", "export_onnx", "package", "rehearse"]
