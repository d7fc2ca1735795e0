"""A cached feature is the one a fresh pass would give, and nobody waits for a second pass without a reason."""

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cxr_cft.artifacts import fingerprint, open_run, read_json
from cxr_cft.cft import cached_features, features
from cxr_cft.data import loader
from cxr_cft.data.images import read_image
from cxr_cft.data.splits import read_splits
from cxr_cft.data.table import Table
from cxr_cft.errors import CxrCftError, DataError
from cxr_cft.settings import Recipe
from cxr_cft.training import into_file
from cxr_cft.training.inference import default_device, over_table
from cxr_cft.training.model import load_model


class Killed(BaseException):
    """What no handler expects."""


@pytest.fixture
def read(monkeypatch):
    """The image files that were read, in order."""
    files = []

    def counting(path, size):
        files.append(path)
        return read_image(path, size)

    monkeypatch.setattr(loader, "read_image", counting)
    return files


@pytest.fixture
def in_small_batches(run, monkeypatch, with_settings):
    """The run with batches of 4 views, each of them on disk before the next is made."""
    monkeypatch.setattr(into_file, "FLUSH_SECONDS", 0)
    return with_settings(run, "training", batch_size=2)


def fresh(run, table: Table):
    device = default_device()
    recipe = Recipe.model_validate(run.info["recipe"])
    return over_table(load_model(run).to(device).features, table, recipe, device, "")


def outputs(run):
    return {path.name: path.read_bytes() for path in (run.path / "features").iterdir()}


def uninterrupted(run, splits, folder):
    """What one pass of another copy of the run leaves."""
    other = open_run(shutil.copytree(run.path, folder / run.name, ignore=shutil.ignore_patterns("features")))
    cached_features(other, splits)
    return outputs(other)


def killed_after(batches, monkeypatch):
    """Let a pass be killed when it has made so many batches."""
    each_batch = into_file.each_batch

    def killing(*arguments):
        for done, batch in enumerate(each_batch(*arguments)):
            if done == batches:
                raise Killed
            yield batch

    monkeypatch.setattr(into_file, "each_batch", killing)


# ---- what they are


def test_features_are_those_of_a_fresh_pass_in_evaluation_mode(run, splits):
    found = cached_features(run, splits)
    assert list(found) == ["train", "valid", "test"]
    for split, table in splits.items():
        np.testing.assert_array_equal(found[split], fresh(run, table))
        assert found[split].dtype == np.float32
        assert len(found[split]) == len(table)


def test_the_head_of_features_is_the_model(run, splits):
    model = load_model(run)
    recipe = Recipe.model_validate(run.info["recipe"])
    logits = over_table(model, splits["valid"], recipe, default_device(), "")
    head = model.head
    ours = cached_features(run, splits)["valid"] @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    np.testing.assert_allclose(ours, logits, atol=1e-5)


def test_lateral_views_are_passed_over_like_frontal_ones(run, own_data, change_split):
    def every_other_lateral(rows):
        return [[row[0], "Lateral" if k % 2 else "Frontal", *row[2:]] for k, row in enumerate(rows)]

    change_split(own_data, "valid", every_other_lateral)
    table = read_splits(own_data, run.categories)["valid"]
    assert Counter(table.views) == {"Frontal": 6, "Lateral": 6}
    np.testing.assert_array_equal(cached_features(run, {"valid": table})["valid"], fresh(run, table))


def test_test_time_augmentation_is_the_mean_over_the_image_and_four_shifts_of_it(run, splits, with_settings):
    table = splits["valid"]
    plain = load_model(run)
    images = np.stack([read_image(table.file(row), 32) for row in range(len(table))])
    padded = np.pad(images, ((0, 0), (3, 3), (3, 3)), mode="edge")
    shifted = [padded[:, y : y + 32, x : x + 32] for y, x in ((3, 3), (3, 6), (3, 0), (6, 3), (0, 3))]
    with torch.inference_mode():
        expected = np.mean([plain.features(torch.from_numpy(view[:, None].copy())).numpy() for view in shifted], axis=0)
    found = cached_features(with_settings(run, "model", tta=3), splits)["valid"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - fresh(run, table)).max() > 1e-3


def test_features_cannot_be_written_to_through_the_cache(run, splits):
    with pytest.raises(ValueError, match="read-only"):
        cached_features(run, splits)["valid"][0, 0] = 0


# ---- reused when the key agrees, rebuilt when it does not


def test_a_second_reading_makes_no_pass_and_is_memory_mapped(run, splits, passes, notes):
    first = cached_features(run, splits)
    assert passes == ["train", "valid", "test"]
    second = cached_features(run, splits, notes)
    assert len(passes) == 3
    assert not notes.told
    for split in splits:
        assert isinstance(second[split], np.memmap)
        np.testing.assert_array_equal(second[split], first[split])


def test_a_data_folder_that_was_moved_is_the_same(run, splits, own_data, passes):
    cached_features(run, splits)
    moved = read_splits(own_data, run.categories)
    assert moved["train"].images != splits["train"].images
    cached_features(run, moved)
    assert len(passes) == 3


def test_other_weights_make_every_pass_anew(run, splits, passes, retrain):
    old = np.array(cached_features(run, splits)["valid"])
    retrained = retrain(run)
    new = cached_features(retrained, splits)["valid"]
    assert passes == ["train", "valid", "test"] * 2
    np.testing.assert_array_equal(new, fresh(retrained, splits["valid"]))
    assert old.shape == new.shape


def test_a_changed_csv_makes_its_own_pass_anew(run, own_data, passes, change_split):
    cached_features(run, read_splits(own_data, run.categories))
    change_split(own_data, "valid", lambda rows: rows[::-1])
    changed = read_splits(own_data, run.categories)
    found = cached_features(run, changed)
    assert passes[3:] == ["valid"]
    np.testing.assert_array_equal(found["valid"], fresh(run, changed["valid"]))


def test_as_many_but_other_rows_of_the_same_csv_make_a_pass_anew(run, splits, passes):
    train = splits["train"]
    rows = np.arange(len(train))
    for left_out in (rows >= 2, rows < len(rows) - 2):  # as patients of another split are
        part = train.take(left_out)
        found = cached_features(run, {"train": part})
        np.testing.assert_array_equal(found["train"], fresh(run, part))
    assert len(passes) == 2


def test_an_image_replaced_under_its_path_makes_its_splits_pass_anew(run, own_data, passes, notes):
    splits = read_splits(own_data, run.categories)
    before = np.array(cached_features(run, splits)["valid"])
    invert(splits["valid"].file(5))
    after = cached_features(run, splits, notes)["valid"]
    assert passes[3:] == ["valid"]
    assert notes.told == ["features of valid are computed anew: changed since: images"]
    np.testing.assert_array_equal(after, fresh(run, splits["valid"]))
    assert list(np.flatnonzero((before != after).any(axis=1))) == [5]


def invert(file: Path):
    """Put another image in the place of this one."""
    with Image.open(file) as image:
        pixels = 255 - np.asarray(image)
    Image.fromarray(pixels).save(file)


@pytest.mark.parametrize(("longer", "later"), [(1, 0), (0, 1_000_000)], ids=["size", "a millisecond later"])
def test_an_images_size_and_its_time_are_looked_at_each(run, own_data, passes, longer, later):
    splits = read_splits(own_data, run.categories)
    cached_features(run, splits)
    file = splits["test"].file(2)
    before = file.stat()
    file.write_bytes(file.read_bytes() + bytes(longer))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + later))
    cached_features(run, splits)
    assert passes[3:] == ["test"]


@pytest.mark.parametrize(
    ("section", "values", "part"),
    [("model", {"tta": 2}, "architecture"), ("cft", {"features": "float16"}, "features")],
)
def test_another_setting_that_decides_the_numbers_makes_a_pass_anew(
    run, splits, passes, notes, section, values, part, with_settings
):
    cached_features(run, splits)
    changed = with_settings(run, section, **values)
    cached_features(changed, splits, notes)
    assert passes == ["train", "valid", "test"] * 2
    assert f"features of train are computed anew: changed since: {part}" in notes.told


def test_another_preprocessing_or_library_makes_a_pass_anew(run, splits, passes, monkeypatch):
    cached_features(run, splits)
    monkeypatch.setattr(features, "version", lambda name: f"{name} 99")
    cached_features(run, splits)
    assert len(passes) == 6


def test_the_key_names_the_weights_and_the_preprocessing(run, splits):
    cached_features(run, splits)
    stored = read_json(run.path / "features" / "valid.json")
    assert stored["key"]["model"] == run.info["files"]["model.safetensors"]
    assert stored["key"]["preprocessing"] == run.info["preprocessing"]
    assert stored["sha256"] == fingerprint(run.path / "features" / "valid.npy")


# ---- never silently wrong


def flip(path: Path, at: int):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "valid.npy", -1),
        lambda folder: flip(folder / "valid.npy", 30),
        lambda folder: os.truncate(folder / "valid.npy", 1000),
        lambda folder: os.truncate(folder / "valid.npy", 0),
        lambda folder: shutil.copy(folder / "train.npy", folder / "valid.npy"),
        lambda folder: (folder / "valid.json").write_text("{"),
        lambda folder: (folder / "valid.json").write_text('{"model": "as an earlier version wrote it"}'),
        lambda folder: shutil.copy(folder / "train.json", folder / "valid.json"),
        lambda folder: (folder / "valid.json").write_text(
            (folder / "valid.json").read_text().replace("[\n    12", "[9")
        ),
    ],
    ids=["value", "header", "cut", "empty", "swapped", "key cut", "key of old", "key swapped", "shape"],
)
def test_a_damaged_or_swapped_array_or_key_is_rebuilt_with_a_note(run, splits, passes, notes, damage):
    cached_features(run, splits)
    damage(run.path / "features")
    found = cached_features(run, splits, notes)
    assert passes[3:] == ["valid"]
    assert len(notes.told) == 1
    assert notes.told[0].startswith("features of valid are computed anew: ")
    np.testing.assert_array_equal(found["valid"], fresh(run, splits["valid"]))


@pytest.mark.parametrize("name", ["valid.npy", "valid.json"])
def test_half_a_cache_is_none(run, splits, passes, name):
    cached_features(run, splits)
    (run.path / "features" / name).unlink()
    cached_features(run, splits)
    assert passes[3:] == ["valid"]


def test_a_disk_that_does_not_keep_what_it_was_given_is_told_of(run, splits, monkeypatch):
    whole_pass = features.pass_into_file

    def forgetful(*arguments):
        digest = whole_pass(*arguments)
        flip(run.path / "features" / "valid.partial.npy", -1)
        return digest

    monkeypatch.setattr(features, "pass_into_file", forgetful)
    with pytest.raises(CxrCftError, match=r"valid\.npy does not hold what was just written to it; check the disk"):
        cached_features(run, {"valid": splits["valid"]})


def test_a_missing_image_is_named_before_any_pass(run, own_data, passes):
    splits = read_splits(own_data, run.categories)
    splits["valid"].file(3).unlink()
    with pytest.raises(DataError, match=r"1 of 12 images are missing: Tiny/valid/patient00030/study1/view1_frontal"):
        cached_features(run, splits)
    assert not passes


# ---- resumed after a kill


@pytest.mark.parametrize("batches", [0, 1, 3, 6])
def test_a_killed_pass_goes_on_behind_its_last_batch_to_the_same_bytes(
    in_small_batches, splits, tmp_path, monkeypatch, read, notes, batches
):
    run, train = in_small_batches, {"train": splits["train"]}
    expected = uninterrupted(run, train, tmp_path)
    with monkeypatch.context() as patch:
        killed_after(batches, patch)
        with pytest.raises(Killed):
            cached_features(run, train)
    read.clear()
    found = cached_features(run, train, notes)
    assert read == [train["train"].file(row) for row in range(4 * batches, 26)]
    assert notes.told == ([f"features of train: going on after view {4 * batches} of 26"] if batches else [])
    assert outputs(run) == expected
    np.testing.assert_array_equal(found["train"], fresh(run, train["train"]))


def test_what_was_not_yet_surely_on_disk_is_computed_again(in_small_batches, splits, tmp_path, monkeypatch, read):
    run, train = in_small_batches, {"train": splits["train"]}
    expected = uninterrupted(run, train, tmp_path)
    monkeypatch.setattr(into_file, "FLUSH_SECONDS", 3600)
    with monkeypatch.context() as patch:
        killed_after(4, patch)
        with pytest.raises(Killed):
            cached_features(run, train)
    read.clear()
    cached_features(run, train)
    assert len(read) == 26
    assert outputs(run) == expected


def test_sigkill_leaves_a_pass_that_goes_on_to_the_same_bytes(in_small_batches, splits, data_folder, tmp_path, read):
    run, train = in_small_batches, {"train": splits["train"]}
    expected = uninterrupted(run, train, tmp_path)
    code = f"""
import os, signal
from pathlib import Path
from cxr_cft.artifacts import open_run
from cxr_cft.cft import cached_features
from cxr_cft.data.splits import read_splits
from cxr_cft.training import into_file
each_batch = into_file.each_batch
def killing(*arguments):
    for done, batch in enumerate(each_batch(*arguments)):
        if done == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch
into_file.each_batch, into_file.FLUSH_SECONDS = killing, 0
run = open_run(Path({str(run.path)!r}))
cached_features(run, {{"train": read_splits(Path({str(data_folder)!r}), run.categories)["train"]}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    read.clear()
    cached_features(run, train)
    assert len(read) == 6
    assert outputs(run) == expected


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_killed_before_any_step_on_the_disk_it_ends_with_the_same_bytes(
    in_small_batches, splits, tmp_path, monkeypatch, read, dtype, with_settings, made_features, killed_at
):
    run, valid = with_settings(in_small_batches, "cft", features=dtype), {"valid": splits["valid"]}
    made_features(run)
    expected = uninterrupted(run, valid, tmp_path)
    again = []
    for step in range(1000):
        shutil.rmtree(run.path / "features", ignore_errors=True)
        with monkeypatch.context() as patch:
            if not killed_at(step, patch, lambda: cached_features(run, valid)):
                break
        read.clear()
        cached_features(run, valid)
        again.append(len(read))
        assert outputs(run) == expected, step
    # 12 views in batches of 4: the further a pass had come, the less of it is made again.
    assert again == sorted(again, reverse=True)
    assert set(again) == {12, 8, 4, 0}


def test_killed_while_the_old_key_still_lies_there_it_does_not_vouch_for_the_new_array(
    run, splits, monkeypatch, killed_at
):
    cached_features(run, splits)
    other = {"train": splits["train"].take(np.arange(26) < 13)}
    for step in range(1000):
        with monkeypatch.context() as patch:
            killed = killed_at(step, patch, lambda: cached_features(run, other))
        np.testing.assert_array_equal(cached_features(run, splits)["train"], fresh(run, splits["train"]))
        if not killed:
            break
    assert step > 5


def test_killed_while_it_replaces_an_older_array_a_whole_pass_is_not_made_again(
    run, splits, monkeypatch, read, killed_at
):
    other = {"train": splits["train"].take(np.arange(26) < 13)}
    again = []
    for step in range(1000):
        cached_features(run, {"train": splits["train"]})
        with monkeypatch.context() as patch:
            if not killed_at(step, patch, lambda: cached_features(run, other)):
                break
        read.clear()
        cached_features(run, other)
        again.append(len(read))
    assert again == sorted(again, reverse=True)
    assert set(again) == {13, 0}


@pytest.mark.parametrize("change", ["image", "weights", "tta", "batch", "rows on disk", "record"])
def test_an_unfinished_pass_of_anything_else_is_thrown_away(
    in_small_batches, own_data, monkeypatch, read, retrain, change, with_settings
):
    run = in_small_batches
    train = {"train": read_splits(own_data, run.categories)["train"]}
    with monkeypatch.context() as patch:
        killed_after(3, patch)
        with pytest.raises(Killed):
            cached_features(run, train)
    if change == "image":
        invert(train["train"].file(1))
    elif change == "weights":
        run = retrain(run)
    elif change == "tta":
        run = with_settings(run, "model", tta=1)
    elif change == "batch":
        run = with_settings(run, "training", batch_size=3)
    elif change == "rows on disk":
        flip(run.path / "features" / "train.partial.npy", 200)
    else:
        (run.path / "features" / "train.partial.json").write_text("{")
    read.clear()
    found = cached_features(run, train)
    assert len(read) == 26
    np.testing.assert_array_equal(found["train"], fresh(run, train["train"]))


def test_another_process_that_writes_the_same_file_is_waited_for_by_the_user(run, splits):
    fcntl = pytest.importorskip("fcntl")
    (run.path / "features").mkdir()
    with (run.path / "features" / "valid.partial.npy").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(CxrCftError, match=r"valid\.partial\.npy is being written by another process; wait until"):
            cached_features(run, {"valid": splits["valid"]})
    cached_features(run, {"valid": splits["valid"]})


# ---- a full disk, a small memory


def test_a_full_disk_is_told_in_a_line_and_what_was_written_is_kept(
    in_small_batches, splits, tmp_path, monkeypatch, read
):
    run, train = in_small_batches, {"train": splits["train"]}
    expected = uninterrupted(run, train, tmp_path)
    room = len(expected["train.npy"]) * 3 // 5  # within the fourth of seven batches

    class Small(io.FileIO):
        def write(self, content):
            left = room - self.seek(0, io.SEEK_END)
            if not left:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(content[:left])

    with monkeypatch.context() as patch:
        patch.setattr(into_file.io, "FileIO", Small)
        with pytest.raises(CxrCftError) as told:
            cached_features(run, train)
    assert str(told.value) == (
        f"{run.path / 'features' / 'train.partial.npy'} could not be written: No space left on device; "
        "make room and repeat the command, it goes on where it was"
    )
    read.clear()
    cached_features(run, train)
    assert len(read) == 26 - 12
    assert outputs(run) == expected


def test_a_disk_too_full_for_the_16_bit_copy_costs_no_second_pass(
    run, splits, monkeypatch, read, with_settings, made_features
):
    run, valid = with_settings(run, "cft", features="float16"), {"valid": splits["valid"]}
    made_features(run)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(features, "npy_header", full)
        with pytest.raises(CxrCftError, match=r"valid\.float16\.npy could not be written: No space left on device"):
            cached_features(run, valid)
    read.clear()
    assert cached_features(run, valid)["valid"].dtype == np.float16
    assert not read


def test_a_pass_never_holds_more_than_a_batch_or_two(in_small_batches, splits, monkeypatch):
    alive, most = weakref.WeakValueDictionary(), 0
    each_batch = into_file.each_batch

    def watching(*arguments):
        nonlocal most
        for done, batch in enumerate(each_batch(*arguments)):
            alive[done] = batch
            most = max(most, len(alive))
            yield batch

    monkeypatch.setattr(into_file, "each_batch", watching)
    cached_features(in_small_batches, {"train": splits["train"]})
    assert 1 <= most <= 2


def test_measuring_and_writing_16_bits_never_holds_the_whole_array(tmp_path, splits, monkeypatch):
    monkeypatch.setattr(features, "ROWS", 2)
    source = tmp_path / "wide.npy"
    whole = np.lib.format.open_memmap(source, mode="w+", dtype=np.float32, shape=(26, 20_000))
    whole[:] = np.random.default_rng(0).normal(size=whole.shape)
    head = torch.nn.Linear(20_000, 4)
    tracemalloc.start()
    try:
        features._measure_16_bits(source, head, splits["train"])
        features._halve(source, tmp_path / "halved.npy")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    weight_in_double = 20_000 * 4 * 8
    assert peak - weight_in_double < whole.nbytes / 2
    np.testing.assert_array_equal(np.load(tmp_path / "halved.npy"), whole.astype(np.float16))
