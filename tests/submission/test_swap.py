"""A bundle's folder and its zip are both the former ones or both the new ones, whatever happens on the way."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from cxr_cft.errors import CxrCftError
from cxr_cft.submission.swap import replacing_bundle

KILLED = """
import os, signal, sys
from pathlib import Path
from cxr_cft.submission.swap import replacing_bundle

left, failing = int(sys.argv[2]), sys.argv[3] == "True"
replace = Path.replace

def rename(path, target):
    if failing and target.suffix == ".zip" and path.read_text() == "new":  # the last one of all, and undone
        raise PermissionError(13, "Permission denied")
    return replace(path, target)

def hook(event, arguments):
    global left
    if event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

Path.replace = rename
sys.addaudithook(hook)
with replacing_bundle(Path(sys.argv[1])) as (folder, archive):
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "one").write_text("new")
    archive.write_text("new")
"""


def write(folder, archive, generation):
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "one").write_text(generation)
    archive.write_text(generation)


def found(folder):
    """Which generation the folder and the zip are of; None for one that is not there."""
    archive = folder.with_name(f"{folder.name}.zip")
    assert not folder.exists() or [path.name for path in folder.rglob("*")] == ["models", "one"]
    return tuple(path.read_text() if path.exists() else None for path in (folder / "models" / "one", archive))


@pytest.fixture
def former(tmp_path):
    with replacing_bundle(tmp_path / "v1.2") as places:
        write(*places, "former")
    return tmp_path / "v1.2"


@contextmanager
def raising(error):
    with pytest.raises(type(error)):
        yield error


def test_both_take_the_places_of_the_former_ones_and_nothing_else_is_left(former):
    assert found(former) == ("former", "former")
    with replacing_bundle(former) as places:
        write(*places, "new")
        assert found(former) == ("former", "former")
    assert found(former) == ("new", "new")
    assert sorted(path.name for path in former.parent.iterdir()) == ["v1.2", "v1.2.zip"]


def test_an_error_while_they_are_written_leaves_the_former_ones(former):
    with raising(KeyboardInterrupt()) as error, replacing_bundle(former) as places:
        write(*places, "new")
        raise error
    assert found(former) == ("former", "former")
    assert sorted(path.name for path in former.parent.iterdir()) == ["v1.2", "v1.2.zip"]


@pytest.mark.parametrize("first", [False, True])
def test_a_rename_that_fails_is_undone_with_those_before_it(former, tmp_path, monkeypatch, first):
    folder = tmp_path / "other" if first else former
    before = found(folder)
    replace = Path.replace
    for step in range(2 if first else 4):
        left = [step]

        def failing_once(path, target, left=left):
            left[0] -= 1
            if left[0] == -1:
                raise PermissionError(13, "Permission denied")
            return replace(path, target)

        monkeypatch.setattr(Path, "replace", failing_once)
        with (
            pytest.raises(CxrCftError, match="could not be written: Permission denied"),
            replacing_bundle(folder) as to,
        ):
            write(*to, "new")
        assert left[0] < 0
        monkeypatch.setattr(Path, "replace", replace)
        assert found(folder) == before
        assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("failing", [False, True])
def test_killed_anywhere_they_never_disagree_and_the_next_packaging_finds_them_whole(tmp_path, failing):
    states, done = set(), None
    for step in range(100):
        folder = tmp_path / str(step) / "made"
        with replacing_bundle(folder) as places:
            write(*places, "former")
        command = [sys.executable, "-c", KILLED, str(folder), str(step), str(failing)]
        done = subprocess.run(command, capture_output=True, text=True)
        seen = found(folder)
        assert {"former", "new"} - set(seen), seen
        states.add(seen)
        with raising(ValueError()) as error, replacing_bundle(folder) as places:
            write(*places, "newest")
            raise error
        assert found(folder) in {("former", "former"), ("new", "new")}
        assert sorted(path.name for path in folder.parent.iterdir()) == ["made", "made.zip"]
        if done.returncode != -9:
            break
    assert done.returncode == int(failing), done.stderr
    assert ("Permission denied" in done.stderr) == failing
    assert seen == (("former", "former") if failing else ("new", "new"))
    assert states >= {("former", "former"), ("former", None), (None, None), ("new", None)}


def test_two_at_once_are_told(former):
    with replacing_bundle(former) as places:
        busy = r"v1\.2 is being packaged by another process; wait until that is done"
        with pytest.raises(CxrCftError, match=busy), replacing_bundle(former):
            pass
        write(*places, "new")
    assert found(former) == ("new", "new")
