"""What memory, reading processes and the compiler are to blame for is told in a line; all else keeps its traceback."""

import pytest
import torch

from cxr_cft.errors import RunError
from cxr_cft.settings import TrainingSettings
from cxr_cft.training.faults import explained

HALVE = (
    "did not suffice; go on by --resume and halve what a pass takes, for the same result but for batch norm, "
    "by --set training.accumulate="
)


def told(error, **settings):
    """What becomes of an error."""
    with (
        pytest.raises(Exception) as raised,  # noqa: PT011
        explained(lambda: "in epoch 2, batch 17,", TrainingSettings(**settings)),
    ):
        raise error
    return raised.value


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "memory of the GPU"),
        (MemoryError(), "memory"),
        (RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried 3 bytes"), "memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 3 bytes."), "memory"),
        (RuntimeError("CUDA error: out of memory"), "memory of the GPU"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "memory of the GPU"),
    ],
)
def test_out_of_memory_names_the_place_and_the_setting_to_change(error, what):
    found = told(error, accumulate=2)
    assert type(found) is RunError
    assert str(found) == f"in epoch 2, batch 17, the {what} {HALVE}4"
    assert found.__cause__ is error


def test_where_a_batch_cannot_be_cut_further_something_smaller_is_advised():
    assert str(told(MemoryError(), batch_size=8, accumulate=4)).endswith("training.accumulate=8")
    assert str(told(MemoryError(), batch_size=8, accumulate=5)) == (
        "in epoch 2, batch 17, the memory did not suffice; go on by --resume and take a smaller model.image_size or "
        "backbone"
    )


def test_a_dead_reading_process_names_fewer_of_them():
    found = told(RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. \nmore"), workers=4)
    assert str(found) == (
        "in epoch 2, batch 17, a process that reads images died, perhaps for want of memory (DataLoader worker "
        "(pid 12) is killed by signal: Killed. ); go on by --resume, if need be with --set training.workers=2"
    )


def test_too_little_shared_memory_names_the_containers_option():
    text = (
        "DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that dataloader's workers are out "
        "of shared memory. Please try to raise your shared memory limit."
    )
    assert "(in a container: raise --shm-size); go on by --resume" in str(told(RuntimeError(text)))


def test_a_network_that_cannot_be_compiled_is_trained_without():
    Failed = type("BackendCompilerFailed", (RuntimeError,), {"__module__": "torch._dynamo.exc"})  # noqa: N806
    error = Failed("backend failed:\nmany lines")
    found = told(error, compile=True)
    assert str(found) == (
        "in epoch 2, batch 17, the network could not be compiled (backend failed:); go on by --resume and --set "
        "training.compile=false"
    )
    assert told(error) is error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback: ours"),
        ValueError("ours"),
        KeyboardInterrupt(),
        RunError("told already"),
    ],
    ids=repr,
)
def test_all_else_passes_as_it_is(error):
    with pytest.raises(type(error)) as raised, explained(lambda: "here", TrainingSettings(compile=True)):
        raise error
    assert raised.value is error


def test_a_part_too_small_for_batch_norm_names_the_settings():
    found = told(ValueError("Expected more than 1 value per channel when training, got input size [1, 8, 1, 1]"))
    assert str(found).startswith("in epoch 2, batch 17, a part of a batch is a single view, too little for batch norm")


def test_where_nothing_happens_nothing_is_said():
    asked = []
    with explained(lambda: asked.append("where") or "here", TrainingSettings()):
        done = True
    assert done
    assert asked == []
