"""What ends a training but is no fault of the code, in one line each: cause, place, and the setting to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from cxr_cft.errors import CxrCftError, RunError
from cxr_cft.settings import TrainingSettings

GO_ON = "go on by --resume"

# How torch words what it has no class of exceptions for.
_CPU_FULL = ("DefaultCPUAllocator", "not enough memory")
_GPU_FULL = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
_DEAD_WORKER = "DataLoader worker (pid"


@contextmanager
def explained(place: Callable[[], str], settings: TrainingSettings) -> Iterator[None]:
    """Turn what memory, reading processes and the compiler are to blame for into a RunError; all else passes.

    `place` says where training is by then, as in "in epoch 2, batch 17".
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        what = "memory of the GPU" if isinstance(error, torch.OutOfMemoryError) else "memory"
        raise RunError(_out_of_memory(place(), settings, what)) from error
    except RuntimeError as error:
        text = str(error)
        if any(words in text for words in _CPU_FULL):
            raise RunError(_out_of_memory(place(), settings, "memory")) from error
        if any(words in text for words in _GPU_FULL):
            raise RunError(_out_of_memory(place(), settings, "memory of the GPU")) from error
        if _DEAD_WORKER in text:
            raise RunError(_dead_worker(place(), settings, text)) from error
        if settings.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise RunError(
                f"{place()} the network could not be compiled ({text.strip().splitlines()[0]}); "
                f"{GO_ON} and --set training.compile=false"
            ) from error
        raise
    except ValueError as error:
        if "more than 1 value per channel" in str(error):
            raise RunError(
                f"{place()} a part of a batch is a single view, too little for batch norm at this image size; "
                "train anew with another training.batch_size or a larger model.image_size"
            ) from error
        raise


@contextmanager
def advised() -> Iterator[None]:
    """Add to what the disk is to blame for that nothing is lost."""
    try:
        yield
    except CxrCftError as error:
        raise CxrCftError(f"{error}; make room and {GO_ON}: the last checkpoint is whole") from error


def _out_of_memory(place: str, settings: TrainingSettings, what: str) -> str:
    parts = 2 * settings.accumulate
    smaller = (
        f"halve what a pass takes, for the same result but for batch norm, by --set training.accumulate={parts}"
        if parts <= settings.batch_size
        else "take a smaller model.image_size or backbone"
    )
    return f"{place} the {what} did not suffice; {GO_ON} and {smaller}"


def _dead_worker(place: str, settings: TrainingSettings, text: str) -> str:
    if "shared memory" in text or "shm" in text:
        return (
            f"{place} the shared memory of the reading processes did not suffice (in a container: raise --shm-size); "
            f"{GO_ON}, if need be with --set training.workers=0"
        )
    fewer = settings.workers // 2
    return (
        f"{place} a process that reads images died, perhaps for want of memory ({text.strip().splitlines()[0]}); "
        f"{GO_ON}, if need be with --set training.workers={fewer}"
    )
