"""Batches: the same bytes whoever reads them, each row once an epoch, an unreadable image told in one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cxr_cft.data.images import read_image
from cxr_cft.data.loader import OrderedBatches, Views, loader, read_batches
from cxr_cft.data.table import read_table
from cxr_cft.errors import DataError
from cxr_cft.settings import AugmentSettings
from cxr_cft.training.batches import StepBatches


@pytest.fixture
def train(films):
    return read_table(films / "train.csv", films, ["Edema"])


def epoch_of(views, batches, workers=0):
    return [(images.numpy().tobytes(), rows.tolist()) for images, rows in read_batches(loader(views, batches, workers))]


# ---- samplers


@pytest.mark.parametrize(("rows", "sizes"), [(6, [3, 3]), (7, [3, 3, 1]), (2, [2]), (0, [])])
def test_every_row_comes_once_and_the_last_batch_may_be_smaller(rows, sizes):
    batches = OrderedBatches(rows, 3)
    drawn = list(batches)
    assert [len(batch) for batch in drawn] == sizes
    assert len(batches) == len(sizes)
    assert sorted(row for batch in drawn for row, _ in batch) == list(range(rows))


def test_ordered_batches_follow_the_table():
    assert [row for batch in OrderedBatches(7, 3) for row, _ in batch] == list(range(7))


# ---- views


def test_a_view_is_its_image_as_the_bundle_will_read_it(train):
    image, row = Views(train, 32)[2, 0]
    assert image.dtype == torch.uint8
    assert image.shape == (1, 32, 32)
    assert row.item() == 2
    np.testing.assert_array_equal(image[0], read_image(train.file(2), 32))


def test_without_augmentation_the_seed_changes_nothing_and_with_it_alone_decides(train):
    plain, augmented = Views(train, 32), Views(train, 32, AugmentSettings())
    assert torch.equal(plain[1, 5][0], plain[1, 6][0])
    assert torch.equal(augmented[1, 5][0], augmented[1, 5][0])
    assert not torch.equal(augmented[1, 5][0], augmented[1, 6][0])


# ---- batches


def test_batches_hold_their_rows_images(train):
    for images, rows in read_batches(loader(Views(train, 32), StepBatches(4, 3, seed=1), workers=0)):
        for image, row in zip(images, rows.tolist(), strict=True):
            np.testing.assert_array_equal(image[0], read_image(train.file(row), 32))


def test_a_worker_reads_the_very_bytes_that_the_process_itself_reads(train):
    views = Views(train, 32, AugmentSettings())
    alone, helped = StepBatches(4, 3, seed=0), StepBatches(4, 3, seed=0)
    by_worker = loader(views, helped, workers=1)
    epochs = []
    for epoch in range(2):  # the worker stays from one epoch to the next
        alone.epoch = helped.epoch = epoch
        epochs.append(epoch_of(views, alone))
        assert [(images.numpy().tobytes(), rows.tolist()) for images, rows in read_batches(by_worker)] == epochs[-1]
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_told_in_one_line_with_its_file(train, workers):
    file = train.file(1)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError) as told:
        epoch_of(Views(train, 32), OrderedBatches(4, 2), workers)
    message = str(told.value)
    assert message.startswith(f"{train.source}: image {file} cannot be read: ")
    assert "\n" not in message
    assert "Traceback" not in message


def test_a_missing_image_is_told_likewise(train):
    train.file(3).unlink()
    with pytest.raises(
        DataError, match=r"train\.csv: image .*patient2/study1/view1_frontal\.jpg cannot be read: .*No such file"
    ):
        epoch_of(Views(train, 32), OrderedBatches(4, 2))


def test_a_fault_of_our_own_keeps_its_traceback(train):
    class Faulty(Views):
        def __getitem__(self, index):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        epoch_of(Faulty(train, 32), OrderedBatches(4, 2))
