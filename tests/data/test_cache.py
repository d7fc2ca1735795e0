"""Decoded images: what is read is what `read_image` makes, made once, never stale, never silently wrong."""

from __future__ import annotations

import dataclasses
import errno
import functools
import io
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_cft.artifacts import locked, read_json
from cxr_cft.data import cache, decode, loader
from cxr_cft.data.cache import CachedImages, cached_images
from cxr_cft.data.images import read_image
from cxr_cft.data.loader import OrderedBatches, Views, read_batches
from cxr_cft.data.table import Table, read_table
from cxr_cft.errors import CxrCftError, DataError

SIZE = 16


def make_table(root: Path, count: int) -> Table:
    """A data folder's train.csv with `count` small pictures of noise."""
    lines = ["Path,Edema"]
    for number in range(count):
        path = f"{root.name}/train/patient{number}/study1/view1_frontal.png"
        file = root.parent / path
        file.parent.mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
        lines.append(f"{path},1")
    (root / "train.csv").write_text("\n".join(lines) + "\n")
    return read_table(root / "train.csv", root, ["Edema"])


@pytest.fixture
def table(tmp_path) -> Table:
    return make_table(tmp_path / "root", 12)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "weights" / "images"


@pytest.fixture
def read(monkeypatch):
    """The image files that were decoded, in order, in chunks of 4."""
    files = []

    def counting(path, size):
        files.append(path)
        return read_image(path, size)

    monkeypatch.setattr(decode, "read_image", counting)
    monkeypatch.setattr(cache, "CHUNK", 4)
    return files


def contents(cached: CachedImages, table: Table):
    return np.stack([cached.read(row, path) for row, path in zip(cached.rows(table), table.paths, strict=True)])


def expected(table: Table, size=SIZE):
    return np.stack([read_image(table.file(row), size) for row in range(len(table))])


def outputs(folder: Path):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def the(folder: Path, ending: str) -> Path:
    """The one file with this ending, where an ending names its kind."""
    (found,) = (path for path in folder.iterdir() if path.name.partition(".")[2] == ending)
    return found


# ---- what is read


def test_what_is_read_is_what_read_image_makes(table, folder):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (30, 20, 3), dtype=np.uint8)).save(table.file(0))
    Image.fromarray(rng.integers(0, 3000, (30, 20), dtype=np.uint16)).save(table.file(1))
    Image.fromarray(rng.integers(0, 256, (200, 160), dtype=np.uint8)).save(table.file(2), format="JPEG")
    Image.fromarray(rng.integers(0, 256, (200, 160, 3), dtype=np.uint8)).save(table.file(3), format="JPEG")
    cached = cached_images(table, SIZE, folder)
    found = contents(cached, table)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected(table))


def test_the_file_is_an_array_that_numpy_reads_and_nothing_else_is_left(table, folder):
    cached_images(table, SIZE, folder)
    np.testing.assert_array_equal(np.load(the(folder, "npy")), expected(table))
    assert sorted(path.name.partition(".")[2] for path in folder.iterdir()) == ["crc.npy", "json", "npy"]


def test_an_image_that_is_read_may_be_changed_without_harm(table, folder):
    cached = cached_images(table, SIZE, folder)
    cached.read(0, table.paths[0])[:] = 0
    np.testing.assert_array_equal(contents(cached, table), expected(table))


def test_part_of_a_table_is_read_from_the_cache_of_the_whole(table, folder):
    cached = cached_images(table, SIZE, folder)
    part = table.take(np.arange(12) % 3 == 1)
    np.testing.assert_array_equal(contents(cached, part), expected(part))


def test_a_view_that_is_there_twice_is_read_for_both_rows(table, folder):
    doubled = dataclasses.replace(table, paths=(*table.paths[:11], table.paths[3]))
    np.testing.assert_array_equal(contents(cached_images(doubled, SIZE, folder), doubled), expected(doubled))


def test_a_view_that_was_not_cached_is_named(table, folder):
    cached = cached_images(table.take(np.arange(12) < 6), SIZE, folder)
    with pytest.raises(DataError, match=r"view root/train/patient6/study1/view1_frontal\.png is not among the cached"):
        cached.rows(table)


def test_the_same_paths_in_another_folder_are_other_images(table, folder, tmp_path):
    cached = cached_images(table, SIZE, folder)
    with pytest.raises(DataError, match=r"its images lie in .*elsewhere, those cached in"):
        cached.rows(dataclasses.replace(table, images=tmp_path / "elsewhere"))


# ---- in other processes, at the size of CheXpert


def test_another_process_gets_names_and_reads_the_same(table, folder):
    cached = cached_images(table, SIZE, folder)
    cached.read(0, table.paths[0])  # mapped here already
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(decode.CLEAN_START)) as pool:
        found = pool.submit(cached.read, 5, table.paths[5]).result()
    np.testing.assert_array_equal(found, read_image(table.file(5), SIZE))
    with pytest.raises(ValueError, match="in another process cached images are read by row"):
        pickle.loads(pickle.dumps(cached)).rows(table)


def test_223414_views_cost_little_memory(tmp_path):
    count = 223_414
    paths = tuple(f"CheXpert-v1.0/train/patient{row:05d}/study1/view1_frontal.jpg" for row in range(count))
    large = Table(tmp_path / "train.csv", paths, ("",) * count, (), np.empty((count, 0)), tmp_path, 1)
    (tmp_path / "a.json").touch()
    cached = CachedImages(tmp_path / "a.npy", tmp_path / "a.crc.npy", tmp_path / "a.json", large, 320)
    assert len(pickle.dumps(cached)) < 1000
    assert cached.rows(large).nbytes == 4 * count
    views = Views(large, 320, cache=cached)
    assert len(pickle.dumps(views)) - len(pickle.dumps(Views(large, 320))) < 4 * count + 1000


# ---- made once, and never those of other data


def test_a_second_call_decodes_nothing(table, folder, monkeypatch, notes):
    before = contents(cached_images(table, SIZE, folder), table)
    files = outputs(folder)

    def refused(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(decode, "read_image", refused)
    np.testing.assert_array_equal(contents(cached_images(table, SIZE, folder, notes), table), before)
    assert outputs(folder) == files
    assert notes.tracked == notes.told == []


def test_a_data_folder_that_moved_is_the_same_data(table, folder, tmp_path, read):
    cached_images(table, SIZE, folder)
    read.clear()
    (tmp_path / "root").rename(tmp_path / "moved")
    moved = read_table(tmp_path / "moved" / "train.csv", tmp_path / "moved", ["Edema"])
    np.testing.assert_array_equal(contents(cached_images(moved, SIZE, folder), moved), expected(moved))
    assert read == []


def replace_an_image(table):
    Image.new("L", (20, 24), 200).save(table.file(2))
    return table


def touch_an_image(table):
    os.utime(table.file(2), ns=(1, 1))
    return table


def drop_a_row(table):
    return table.take(np.arange(12) != 2)


@pytest.mark.parametrize(
    ("change", "told"), [(replace_an_image, "images"), (touch_an_image, "images"), (drop_a_row, "rows, images")]
)
def test_other_images_are_decoded_anew_and_the_old_ones_removed(table, folder, change, told, notes, read):
    cached_images(table, SIZE, folder)
    old = the(folder, "npy")
    read.clear()
    table = change(table)
    np.testing.assert_array_equal(contents(cached_images(table, SIZE, folder, notes), table), expected(table))
    assert len(read) == len(table)
    assert notes.told == [f"{old} is removed: changed since: {told}"]
    assert len(outputs(folder)) == 3
    assert not old.exists()


@pytest.mark.parametrize(
    ("name", "value"), [("preprocessing", lambda size: {"size": size, "fit": "crop"}), ("pillow", "0")]
)
def test_another_preprocessing_or_pillow_is_another_cache(table, folder, monkeypatch, read, name, value):
    cached_images(table, SIZE, folder)
    read.clear()
    monkeypatch.setattr(cache, name, value)
    cached_images(table, SIZE, folder)
    assert len(read) == 12
    assert len(outputs(folder)) == 3


def test_images_that_are_being_read_stay_until_nobody_reads_them(table, folder, notes):
    before = cached_images(table, SIZE, folder)
    old = the(folder, "npy")
    truth = expected(table)
    table = replace_an_image(table)
    cached_images(table, SIZE, folder, notes)
    assert notes.told == []
    np.testing.assert_array_equal(contents(before, table), truth)
    del before
    cached_images(touch_an_image(table), SIZE, folder)
    assert not old.exists()


def test_parts_of_a_csv_under_names_of_their_own_stay_beside_each_other(table, folder, read):
    part = drop_a_row(table)
    for _ in range(2):
        cached_images(table, SIZE, folder)
        cached_images(part, SIZE, folder, part="frontal")
    assert len(read) == len(table) + len(part)


def test_other_sizes_csvs_and_folders_stay(table, folder, tmp_path, read):
    other = make_table(tmp_path / "other", 3)
    shutil.copytree(tmp_path / "root", tmp_path / "copy", copy_function=shutil.copyfile)
    copied = dataclasses.replace(table, images=tmp_path / "copy")
    caches = ((table, SIZE), (table, 8), (other, SIZE), (copied, SIZE))
    for each, size in caches:
        cached_images(each, size, folder)
    assert len(outputs(folder)) == 3 * len(caches)
    read.clear()
    for again, size in caches:
        np.testing.assert_array_equal(contents(cached_images(again, size, folder), again), expected(again, size))
    assert read == []


def test_what_a_killed_build_of_older_images_left_is_removed(table, folder, monkeypatch):
    killed_after(5, monkeypatch, table, folder)
    assert sorted(path.name.partition(".")[2] for path in folder.iterdir()) == ["partial.jsonl", "partial.npy"]
    touch_an_image(table)
    cached_images(table, SIZE, folder)
    assert sorted(path.name.partition(".")[2] for path in folder.iterdir()) == ["crc.npy", "json", "npy"]


def test_what_another_process_is_building_of_older_images_stays(table, folder, monkeypatch):
    pytest.importorskip("fcntl")
    killed_after(5, monkeypatch, table, folder)
    touch_an_image(table)
    with locked(the(folder, "partial.jsonl"), "busy"):
        cached_images(table, SIZE, folder)
    assert the(folder, "partial.npy").exists()


# ---- never silently wrong


def damage(file: Path, offset: int):
    with file.open("r+b") as opened:
        opened.seek(offset, io.SEEK_END if offset < 0 else io.SEEK_SET)
        byte = opened.read(1)[0]
        opened.seek(-1, io.SEEK_CUR)
        opened.write(bytes([byte ^ 1]))


def test_a_byte_that_changed_on_disk_is_noticed_and_its_view_named(table, folder):
    cached = cached_images(table, SIZE, folder)
    file = the(folder, "npy")
    damage(file, -(SIZE**2) - 7)  # in the last image but one
    found = np.stack([cached.read(row, "") for row in range(10)])
    np.testing.assert_array_equal(found, expected(table)[:10])
    with pytest.raises(DataError) as told:
        cached.read(10, table.paths[10])
    assert str(told.value) == (
        f"{file}: the image of root/train/patient10/study1/view1_frontal.png is damaged; delete {file} and repeat "
        "the command, which decodes anew"
    )
    file.unlink()
    np.testing.assert_array_equal(contents(cached_images(table, SIZE, folder), table), expected(table))


def test_a_header_that_changed_on_disk_is_noticed(table, folder):
    cached = cached_images(table, SIZE, folder)
    file = the(folder, "npy")
    content = file.read_bytes()
    for wrong in (
        content.replace(b"|u1", b"|i1", 1),
        content.replace(b"(12, 16, 16)", b"(12, 8, 32) ", 1),
        b"x" + content[1:],
    ):
        file.write_bytes(wrong)
        again = pickle.loads(pickle.dumps(cached))
        with pytest.raises(DataError, match=r"; delete .*\.npy and repeat the command"):
            again.read(0, table.paths[0])


def test_a_file_that_is_gone_is_told_in_a_line(table, folder):
    cached = cached_images(table, SIZE, folder)
    the(folder, "npy").unlink()
    with pytest.raises(DataError, match=r"cannot be read: .*No such file"):
        cached.read(0, table.paths[0])


@pytest.mark.parametrize("ending", ["npy", "crc.npy", "json"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_cache_that_is_not_whole_is_made_again(table, folder, ending, how, read):
    cached_images(table, SIZE, folder)
    whole = outputs(folder)
    file = the(folder, ending)
    file.write_bytes(file.read_bytes()[:-3]) if how == "cut" else file.unlink()
    read.clear()
    np.testing.assert_array_equal(contents(cached_images(table, SIZE, folder), table), expected(table))
    assert outputs(folder) == whole
    assert len(read) == 12


# ---- interrupted


class Killed(BaseException):
    """What no handler expects."""


def killed_after(images, monkeypatch, table, folder):
    """Let a build in chunks of 4 be killed when it has decoded so many images."""
    done = 0

    def killing(path, size):
        nonlocal done
        if done == images:
            raise Killed
        done += 1
        return read_image(path, size)

    with monkeypatch.context() as patch:
        patch.setattr(decode, "read_image", killing)
        patch.setattr(cache, "CHUNK", 4)
        with pytest.raises(Killed):
            cached_images(table, SIZE, folder)


@pytest.mark.parametrize(("images", "kept"), [(0, 0), (3, 0), (4, 4), (11, 8)])
def test_a_killed_build_goes_on_after_what_is_on_disk(table, folder, monkeypatch, read, notes, images, kept):
    killed_after(images, monkeypatch, table, folder)
    np.testing.assert_array_equal(contents(cached_images(table, SIZE, folder, notes), table), expected(table))
    assert read == [table.file(row) for row in range(kept, 12)]
    assert notes.told == ([f"decoding train.csv: {kept} of 12 images are there already"] if kept else [])
    assert notes.tracked == [("decoding train.csv", 12 - kept, "images")]


def test_killed_before_any_step_on_the_disk_it_ends_with_the_same_bytes(
    table, folder, tmp_path, monkeypatch, read, killed_at
):
    cached_images(table, SIZE, tmp_path / "whole")
    whole, again = outputs(tmp_path / "whole"), []
    for step in range(1000):
        shutil.rmtree(folder, ignore_errors=True)
        with monkeypatch.context() as patch:
            if not killed_at(step, patch, lambda: cached_images(table, SIZE, folder)):
                break
        read.clear()
        cached_images(table, SIZE, folder)
        assert outputs(folder) == whole, step
        again.append(len(read))
    assert again == sorted(again, reverse=True)
    assert set(again) == {12, 8, 4, 0}


def test_a_row_that_was_damaged_in_between_is_decoded_again(table, folder, monkeypatch, read):
    killed_after(9, monkeypatch, table, folder)
    damage(the(folder, "partial.npy"), -(7 * SIZE**2) + 5)  # in row 5
    np.testing.assert_array_equal(contents(cached_images(table, SIZE, folder), table), expected(table))
    assert read == [table.file(row) for row in (5, 8, 9, 10, 11)]


def test_a_record_whose_last_line_is_cut_loses_that_line_alone(table, folder, monkeypatch, read):
    killed_after(9, monkeypatch, table, folder)
    record = the(folder, "partial.jsonl")
    record.write_bytes(record.read_bytes()[:-5])
    killed_after(5, monkeypatch, table, folder)
    read.clear()
    np.testing.assert_array_equal(contents(cached_images(table, SIZE, folder), table), expected(table))
    assert read == [table.file(row) for row in range(8, 12)]


@pytest.mark.parametrize("content", [b"", b"{}\n", b"[1]\n", b"\x00\x00", b"nonsense\n", b'{"key": 1}\n{"rows": 3}\n'])
def test_a_record_that_says_nothing_costs_the_images_anew(table, folder, monkeypatch, read, content):
    killed_after(9, monkeypatch, table, folder)
    the(folder, "partial.jsonl").write_bytes(content)
    np.testing.assert_array_equal(contents(cached_images(table, SIZE, folder), table), expected(table))
    assert len(read) == 12


KILLED = """
import os, signal, sys
from pathlib import Path
from cxr_cft.data import cache
from cxr_cft.data.table import read_table
from cxr_cft.progress import Silent
class Killing(Silent):
    def track(self, items, *_):
        for done, item in enumerate(items, 1):
            yield item
            if done == 5:
                os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":
    root, folder, processes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    cache.CHUNK, cache.processes_for = 4, lambda rows: processes
    cache.cached_images(read_table(root / "train.csv", root, ["Edema"]), 16, folder, Killing())
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_sigkill_leaves_a_build_that_goes_on_to_the_same_bytes(table, folder, tmp_path, read, processes):
    cached_images(table, SIZE, tmp_path / "whole")
    read.clear()
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    done = subprocess.run(
        [sys.executable, script, tmp_path / "root", folder, str(processes)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr  # and whoever held its pipes has ended, or run() would hang
    cached_images(table, SIZE, folder)
    assert 0 < len(read) <= 8
    assert outputs(folder) == outputs(tmp_path / "whole")


# ---- several processes


def test_several_processes_give_the_same_bytes_as_one(table, folder, tmp_path, monkeypatch):
    cached_images(table, SIZE, tmp_path / "whole")
    monkeypatch.setattr(cache, "CHUNK", 2)
    monkeypatch.setattr(cache, "processes_for", lambda _: 2)
    cached_images(table, SIZE, folder)
    assert outputs(folder) == outputs(tmp_path / "whole")


def test_few_images_are_decoded_by_the_process_itself():
    assert decode.processes_for(300) <= 1
    assert 1 <= decode.processes_for(10**6) <= os.cpu_count()


def test_what_decodes_needs_neither_torch_nor_pandas():
    code = "import sys, cxr_cft.data.decode; assert not {'torch', 'pandas', 'pydantic', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("processes", [1, 2])
def test_an_unreadable_image_is_named_and_what_is_done_is_kept(table, folder, monkeypatch, read, processes):
    monkeypatch.setattr(cache, "processes_for", lambda _: processes)
    file = table.file(9)
    content = file.read_bytes()
    changed = file.stat().st_mtime_ns
    file.write_bytes(content[:40] + bytes(len(content) - 40))
    os.utime(file, ns=(changed, changed))
    with pytest.raises(DataError) as told:
        cached_images(table, SIZE, folder)
    message = str(told.value)
    assert message.startswith(f"{table.source}: image {file} cannot be read: ")
    assert message.endswith("; `cxr-cft data inspect` finds all such")
    assert "\n" not in message
    file.write_bytes(content)
    os.utime(file, ns=(changed, changed))  # as if the disk had been to blame
    read.clear()
    monkeypatch.setattr(cache, "processes_for", lambda _: 1)
    np.testing.assert_array_equal(contents(cached_images(table, SIZE, folder), table), expected(table))
    assert read == [table.file(row) for row in range(8, 12)]


def test_an_image_that_is_missing_is_named_before_anything_is_decoded(table, folder, read):
    table.file(3).unlink()
    with pytest.raises(DataError, match=r"1 of 12 images are missing: root/train/patient3/study1/view1_frontal\.png"):
        cached_images(table, SIZE, folder)
    assert read == []


def test_a_process_that_dies_is_told_in_a_line(table, folder, monkeypatch):
    monkeypatch.setattr(cache, "processes_for", lambda _: 2)
    with monkeypatch.context() as patch:
        patch.setattr(decode, "_follow_parent", functools.partial(os._exit, 1))
        with pytest.raises(CxrCftError) as told:
            cached_images(table, SIZE, folder)
    assert str(told.value) == (
        f"{table.source}: a process that decoded its images has died (was memory short?); "
        "repeat the command, it goes on where it was"
    )
    np.testing.assert_array_equal(contents(cached_images(table, SIZE, folder), table), expected(table))


def test_two_builders_at_once_the_second_waits_and_decodes_nothing(table, folder, monkeypatch, read, notes):
    pytest.importorskip("fcntl")
    begun, waiting = threading.Event(), threading.Event()
    counting = decode.read_image

    def slow(path, size):
        begun.set()
        assert waiting.wait(10)
        return counting(path, size)

    monkeypatch.setattr(decode, "read_image", slow)
    first = threading.Thread(target=cached_images, args=(table, SIZE, folder))
    first.start()
    assert begun.wait(10)
    monkeypatch.setattr(notes, "note", lambda message: (notes.told.append(message), waiting.set()))
    found = cached_images(table, SIZE, folder, notes)
    first.join()
    np.testing.assert_array_equal(contents(found, table), expected(table))
    assert len(read) == 12
    (told,) = notes.told
    assert told == f"{the(folder, 'npy')} is being made by another process; waiting until that is done"
    assert len(outputs(folder)) == 3


# ---- disks


def test_a_disk_too_full_is_told_before_anything_is_decoded(table, folder, monkeypatch, read):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 3000))
    with pytest.raises(CxrCftError) as told:
        cached_images(table, 512, folder)
    file = the(folder, "partial.npy")
    assert str(told.value) == (
        f"{file.with_name(file.name.replace('.partial', ''))} could not be written: the disk is too full; the decoded "
        f"images of {table.source} need 3.1 MB more, 0.0 MB are free: make room, keep decoded images elsewhere "
        "(`--set data.cache=DIR`) or not at all (`--set data.cache=false`)"
    )
    assert read == []


def test_a_disk_that_fills_up_is_told_in_a_line_and_what_was_written_is_kept(table, folder, monkeypatch, read):
    class Small(io.FileIO):
        def write(self, content):
            if self.name.name.endswith(".partial.npy"):
                left = 7 * SIZE**2 - self.tell()
                if left <= 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                content = content[:left]
            return super().write(content)

    with monkeypatch.context() as patch:
        patch.setattr(io, "FileIO", Small)
        with pytest.raises(CxrCftError, match=r"No space left on device; the decoded images of .* need 0\.0 MB more, "):
            cached_images(table, SIZE, folder)
    read.clear()
    np.testing.assert_array_equal(contents(cached_images(table, SIZE, folder), table), expected(table))
    assert read == [table.file(row) for row in range(4, 12)]


def test_a_disk_that_refuses_is_told_with_the_way_out(table, folder, monkeypatch):
    def refused(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(
        CxrCftError, match=r"could not be written: Read-only file system; keep decoded images elsewhere"
    ):
        cached_images(table, SIZE, folder)


def test_a_finished_cache_is_read_where_nothing_can_be_written(table, folder, monkeypatch):
    before = contents(cached_images(table, SIZE, folder), table)

    def refused(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for owner, name in ((Path, "mkdir"), (Path, "unlink"), (Path, "replace"), (cache, "locked")):
        monkeypatch.setattr(owner, name, refused)
    np.testing.assert_array_equal(contents(cached_images(table, SIZE, folder), table), before)


def test_the_manifest_says_what_the_images_are_of(table, folder):
    cached_images(table, SIZE, folder)
    manifest = read_json(the(folder, "json"))
    assert manifest["source"] == str(table.source.resolve())
    assert manifest["folder"] == str(table.images.resolve())
    assert manifest["size"] == SIZE
    assert manifest["count"] == 12
    assert manifest["key"]["images"] == table.image_digest()


# ---- views


@pytest.mark.parametrize("workers", [0, 1])
def test_views_from_the_cache_are_those_that_are_decoded(table, folder, monkeypatch, workers):
    part = table.take(np.arange(12) > 4)
    views = Views(part, SIZE, cache=cached_images(table, SIZE, folder))
    monkeypatch.setattr(loader, "read_image", None)
    batches = list(read_batches(loader.loader(views, OrderedBatches(7, 3), workers)))
    np.testing.assert_array_equal(np.concatenate([images.numpy() for images, _ in batches])[:, 0], expected(part))
    assert [row for _, rows in batches for row in rows.tolist()] == list(range(7))


@pytest.mark.parametrize("workers", [0, 1])
def test_views_name_the_damaged_image_in_one_line(table, folder, workers):
    views = Views(table, SIZE, cache=cached_images(table, SIZE, folder))
    damage(the(folder, "npy"), -3)
    with pytest.raises(DataError, match=r"^\S+\.npy: the image of root/train/patient11/\S+ is damaged; delete [^\n]+$"):
        list(read_batches(loader.loader(views, OrderedBatches(12, 4), workers)))


def test_views_refuse_a_cache_of_another_size(table, folder):
    with pytest.raises(ValueError, match="the images were cached at 16 px, not at 32"):
        Views(table, 32, cache=cached_images(table, SIZE, folder))
