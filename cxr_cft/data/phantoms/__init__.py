"""Made chest radiographs in CheXpert's layout, so that everything can be tried and tested without real patients."""

from __future__ import annotations

from cxr_cft.data.phantoms.dataset import Written, write_phantoms

__all__ = ["Written", "write_phantoms"]
