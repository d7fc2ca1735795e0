"""What is on disk is whole, or is what was there before; a run is complete and undamaged, or refused in one line."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cxr_cft import artifacts
from cxr_cft.artifacts import (
    complete_runs,
    find_runs,
    fingerprint,
    library_versions,
    locked,
    npy_header,
    open_run,
    read_json,
    replacing,
    write_array,
    write_csv,
    write_json,
    write_text,
    writing,
)
from cxr_cft.errors import CxrCftError, RunError


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# ---- atomic writes


def test_what_is_written_is_read_back_and_nothing_lies_beside_it(tmp_path):
    write_text(tmp_path / "a.txt", "Größe\n")
    write_json(tmp_path / "b.json", {"x": [1, None]})
    write_csv(tmp_path / "c.csv", ["Study", "A"], [["a,b", 0.1]])
    write_array(tmp_path / "d.npy", np.arange(3))
    assert (tmp_path / "a.txt").read_bytes() == "Größe\n".encode()
    assert read_json(tmp_path / "b.json") == {"x": [1, None]}
    assert (tmp_path / "c.csv").read_bytes() == b'Study,A\n"a,b",0.1\n'
    assert np.load(tmp_path / "d.npy").tolist() == [0, 1, 2]
    assert names(tmp_path) == ["a.txt", "b.json", "c.csv", "d.npy"]


def test_parent_folders_are_made(tmp_path):
    write_text(tmp_path / "deep" / "er" / "a.txt", "x")
    assert (tmp_path / "deep" / "er" / "a.txt").read_text() == "x"


def test_the_earlier_file_stands_until_the_block_ends(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with replacing(file) as beside:
        beside.write_text("new")
        assert file.read_text() == "old"
        assert beside.parent == tmp_path  # on another disk a rename would not be atomic
    assert file.read_text() == "new"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError, MemoryError])
def test_an_interrupted_write_leaves_the_earlier_file_and_nothing_else(tmp_path, interruption):
    file = tmp_path / "a.txt"
    file.write_text("old")

    def interrupted():
        with replacing(file) as beside:
            beside.write_text("ne")
            raise interruption

    with pytest.raises(interruption):
        interrupted()
    assert file.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_row_that_cannot_be_made_leaves_the_earlier_csv(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("old")

    def rows():
        yield ["s1", 0.5]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_csv(file, ["Study", "A"], rows())
    assert file.read_text() == "old"
    assert names(tmp_path) == ["a.csv"]


def test_json_has_no_nan_and_the_earlier_file_stays(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("{}")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(file, {"auroc": float("nan")})
    assert file.read_text() == "{}"


def test_what_a_killed_process_left_behind_is_no_obstacle(tmp_path):
    left = tmp_path / f".a.txt.{os.getpid()}.partial"
    left.mkdir()
    (left / "x").write_text("")
    write_text(tmp_path / "a.txt", "new")
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_replaces_an_earlier_folder_as_a_whole(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "stale").write_text("")
    with replacing(folder) as beside:
        beside.mkdir()
        (beside / "fresh").write_text("")
        assert names(folder) == ["stale"]
    assert names(folder) == ["fresh"]
    assert names(tmp_path) == ["bundle"]


def test_an_interrupted_folder_leaves_the_earlier_folder(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "stale").write_text("")

    def interrupted():
        with replacing(folder) as beside:
            beside.mkdir()
            (beside / "fresh").write_text("")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(folder) == ["stale"]
    assert names(tmp_path) == ["bundle"]


# ---- disks that do not let themselves be written to


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (errno.ENOSPC, "No space left on device"),
        (errno.EROFS, "Read-only file system"),
        (errno.EACCES, "Permission denied"),
    ],
)
def test_a_disk_that_takes_no_more_is_told_in_a_line_and_the_earlier_file_stays(tmp_path, monkeypatch, fault, reason):
    file = tmp_path / "a.txt"
    file.write_text("old")

    def half_written(path, *_, **__):
        path.write_bytes(b"ne")
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(Path, "write_text", half_written)
    with pytest.raises(CxrCftError, match=rf"^{re.escape(str(file))} could not be written: {reason}$"):
        write_text(file, "new")
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_a_disk_that_fills_up_at_the_last_moment_leaves_the_earlier_file(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    write_json(file, {"old": 1})

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CxrCftError, match=r"a\.json could not be written: No space left"):
        write_json(file, {"new": 1})
    assert read_json(file) == {"old": 1}
    assert names(tmp_path) == ["a.json"]


def test_where_not_even_removing_is_allowed_the_first_reason_is_told(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(CxrCftError, match=r"a\.txt could not be written: Read-only file system$"):
        write_text(tmp_path / "a.txt", "new")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("file/a.txt", "File exists"),
        ("file/b/a.txt", "Not a directory"),
        ("folder", "Is a directory"),
        ("n" * 300, "File name too long"),
    ],
)
def test_a_path_that_can_be_no_file_is_told_in_a_line(tmp_path, path, reason):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(CxrCftError, match=f"could not be written: {reason}$"):
        write_text(tmp_path / path, "new")
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file", "folder"]


def test_an_error_that_is_not_the_disks_fault_keeps_its_own_name(tmp_path):
    def asks_for_a_missing_file():
        with replacing(tmp_path / "a.txt"):
            (tmp_path / "missing").read_text()

    with pytest.raises(FileNotFoundError, match="missing"):
        asks_for_a_missing_file()


def test_what_a_block_writes_is_told_in_a_line_with_what_to_do(tmp_path):
    with pytest.raises(CxrCftError, match=r"^a\.npy could not be written: No space left on device; make room$"):  # noqa: SIM117
        with writing(Path("a.npy"), "; make room"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FileNotFoundError), writing(Path("a.npy")):
        (tmp_path / "missing").read_text()


# ---- one writer at a time

HOLDER = """
import sys
from pathlib import Path
from cxr_cft.artifacts import locked
with locked(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    sys.stdin.read()
    if sys.argv[2:]:
        Path(sys.argv[1]).unlink()
"""


@pytest.fixture
def hold():
    """Let another process hold a file, and remove it at its end if asked to; it ends with its standard input."""
    pytest.importorskip("fcntl")
    started = []

    def start(path, *arguments):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        holder = subprocess.Popen([sys.executable, "-c", HOLDER, path, *arguments], **pipes)
        started.append(holder)
        assert holder.stdout.readline() == b"held\n"
        return holder

    yield start
    for holder in started:
        with holder:  # closes its pipes, and waits
            holder.kill()


class Waiting:
    """Progress that lets the holder go on once it is told that somebody waits."""

    def __init__(self, holder):
        self.holder, self.told = holder, []

    def note(self, message):
        self.told.append(message)
        self.holder.stdin.close()


def test_a_locked_file_is_appended_to_and_can_be_locked_again(tmp_path):
    for content in (b"a", b"b"):
        with locked(tmp_path / "x", "busy") as file:
            file.write(content)
    assert (tmp_path / "x").read_bytes() == b"ab"


def test_a_file_that_another_process_holds_is_refused_until_it_dies(tmp_path, hold):
    holder = hold(tmp_path / "x")
    with pytest.raises(CxrCftError, match=r"^x is busy; wait$"), locked(tmp_path / "x", "x is busy; wait"):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path / "x", "busy"):
        pass


def test_who_waits_is_told_so_and_has_the_file_that_lies_there(tmp_path, hold):
    for removed in ((), ("removed",)):
        waiting = Waiting(hold(tmp_path / "x", *removed))
        with locked(tmp_path / "x", "x is busy", wait=True, progress=waiting) as file:
            file.write(b"a")
        assert waiting.told == ["x is busy"]
        assert (tmp_path / "x").read_bytes() == b"a"  # not in the file that was removed, and not behind what it held
        (tmp_path / "x").unlink()


def test_a_file_system_without_locks_lets_everybody_write(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path / "x", "busy"), locked(tmp_path / "x", "busy") as file:
        assert file.write(b"a") == 1


def test_a_lock_where_nothing_can_be_written_is_told_in_a_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(CxrCftError, match=r"x could not be written: Not a directory$"),
        locked(tmp_path / "file" / "x", ""),
    ):
        pass


# ---- reading


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"^there is no file .*a\.json$"),
        (b"", r"a\.json could not be read as JSON: Expecting value: line 1"),
        (b'{"a": 1,', r"a\.json could not be read as JSON: .*line 1 column"),
        (b"\xff\xfe", r"a\.json could not be read as JSON: .*utf-8"),
        (b"[1]", r"a\.json does not hold a JSON object$"),
    ],
)
def test_json_that_is_none_is_told_in_a_line(tmp_path, content, message):
    file = tmp_path / "a.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CxrCftError, match=message):
        read_json(file)


def test_a_folder_is_not_read_as_json(tmp_path):
    with pytest.raises(CxrCftError, match=r"could not be read as JSON: .*[Dd]irectory"):
        read_json(tmp_path)


def test_a_fingerprint_is_the_sha256_of_all_bytes(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"ab")
    second.write_bytes(b"c")
    # sha256 of "abc": the first example of FIPS 180-2.
    assert fingerprint(first, second) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_fingerprint_reads_past_its_first_block(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(bytes(3 << 20))
    before = fingerprint(file)
    file.write_bytes(bytes((3 << 20) - 1) + b"\1")
    assert fingerprint(file) != before


def test_a_header_and_the_rows_make_an_array(tmp_path):
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    (tmp_path / "a.npy").write_bytes(npy_header((3, 2), np.float32) + rows.tobytes())
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), rows)


def test_versions_are_told_of_what_is_installed_alone(monkeypatch):
    monkeypatch.setattr(artifacts, "LIBRARIES", ("numpy", "no-such-library"))
    assert library_versions() == {"numpy": np.__version__}


# ---- runs


def make_run(weights: Path, name: str, **info: object) -> Path:
    folder = weights / name
    folder.mkdir(parents=True)
    model = folder / "model.safetensors"
    model.write_bytes(name.encode())
    known = {"categories": ["Edema", "Fracture"], "files": {model.name: fingerprint(model)}}
    write_json(folder / "run.json", {**known, **info})
    return folder


def test_a_complete_run_opens_under_its_folders_name(tmp_path):
    run = open_run(make_run(tmp_path, "densenet121"))
    assert run.name == "densenet121"
    assert run.categories == ("Edema", "Fracture")
    assert run.predictions("test", tuned=False) == tmp_path / "densenet121" / "predictions" / "test.csv"
    assert run.predictions("test", tuned=True) == tmp_path / "densenet121" / "predictions" / "test.cft.csv"
    views = [run.predictions("test", tuned=tuned, views=True) for tuned in (False, True)]
    assert [path.name for path in views] == ["test.views.csv", "test.views.cft.csv"]


def test_a_missing_run_is_answered_with_the_closest_and_all_that_are_complete(tmp_path):
    make_run(tmp_path, "densenet121")
    make_run(tmp_path, "convnext_tiny")
    (tmp_path / "begun").mkdir()
    with pytest.raises(
        RunError,
        match=r"densnet121 \(did you mean 'densenet121'\?\); complete runs there: convnext_tiny, densenet121$",
    ):
        open_run(tmp_path / "densnet121")


def test_a_missing_run_beside_none_says_so(tmp_path):
    with pytest.raises(RunError, match=r"^there is no run .*densenet121; no run is complete there$"):
        open_run(tmp_path / "weights" / "densenet121")


def test_an_unfinished_run_says_how_to_finish_it(tmp_path):
    folder = make_run(tmp_path, "densenet121")
    (folder / "run.json").unlink()
    with pytest.raises(RunError, match=r"densenet121 is not complete \(no run\.json\); finish it with .*--resume"):
        open_run(folder)


def changed(model: Path) -> None:
    model.write_bytes(b"Densenet121")


@pytest.mark.parametrize("damage", [changed, Path.unlink, lambda model: os.truncate(model, 3)])
def test_damaged_weights_are_refused(tmp_path, damage):
    folder = make_run(tmp_path, "densenet121")
    damage(folder / "model.safetensors")
    with pytest.raises(RunError, match=r"model\.safetensors is damaged or not this run's .*train it again$"):
        open_run(folder)


def test_a_manifest_that_names_no_weights_fits_no_weights(tmp_path):
    folder = make_run(tmp_path, "densenet121", files={})
    with pytest.raises(RunError, match="damaged or not this run's"):
        open_run(folder)


def test_a_cut_manifest_is_told_in_a_line(tmp_path):
    folder = make_run(tmp_path, "densenet121")
    (folder / "run.json").write_text('{"categories": [')
    with pytest.raises(CxrCftError, match=r"run\.json could not be read as JSON"):
        open_run(folder)


def test_without_names_every_complete_run_is_found_by_name(tmp_path):
    for name in ("b", "a", "c"):
        make_run(tmp_path, name)
    (tmp_path / "begun").mkdir()
    (tmp_path / "README.md").write_text("")
    assert [run.name for run in find_runs([], tmp_path)] == ["a", "b", "c"]


def test_runs_are_named_or_given_as_paths_and_keep_the_given_order(tmp_path):
    make_run(tmp_path / "weights", "a")
    make_run(tmp_path / "weights", "b")
    elsewhere = make_run(tmp_path / "elsewhere", "c")
    found = find_runs(["b", str(elsewhere), "a"], tmp_path / "weights")
    assert [run.name for run in found] == ["b", "c", "a"]


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_where_no_run_is_the_way_to_one_is_told(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=rf"^no complete run under .*{folder}; train one first, e\.g\. `cxr-cft train "):
        find_runs([], tmp_path / folder)
    assert complete_runs(tmp_path / folder) == []


@pytest.mark.parametrize("chosen", [[], ["a"]])
def test_finding_checks_the_weights(tmp_path, chosen):
    changed(make_run(tmp_path, "a") / "model.safetensors")
    with pytest.raises(RunError, match="damaged"):
        find_runs(chosen, tmp_path)


def tune(folder: Path) -> Path:
    heads = folder / "heads.safetensors"
    heads.write_bytes(b"heads")
    report = {"model": fingerprint(folder / "model.safetensors"), "heads": fingerprint(heads)}
    write_json(folder / "cft.json", report)
    return folder


def test_a_run_is_tuned_once_its_heads_are_there(tmp_path):
    folder = make_run(tmp_path, "a")
    assert open_run(folder).tuned() is None
    tune(folder)
    assert open_run(folder).tuned() == json.loads((folder / "cft.json").read_text())


def test_heads_of_older_weights_count_as_none(tmp_path):
    folder = tune(make_run(tmp_path, "a"))
    changed(folder / "model.safetensors")
    write_json(
        folder / "run.json",
        {"categories": [], "files": {"model.safetensors": fingerprint(folder / "model.safetensors")}},
    )
    assert open_run(folder).tuned() is None


@pytest.mark.parametrize("damage", [Path.unlink, changed])
def test_damaged_heads_are_refused_with_the_way_out(tmp_path, damage):
    folder = tune(make_run(tmp_path, "a"))
    damage(folder / "heads.safetensors")
    with pytest.raises(
        RunError, match=r"heads\.safetensors is missing or not what cft\.json says it is; run `cxr-cft cft .*a` again$"
    ):
        open_run(folder).tuned()
