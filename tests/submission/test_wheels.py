"""Of a folder of wheels those are taken with which pip installs offline; what is missing is named with its cure."""

import json
import subprocess
import sys
import zipfile

import pytest
from packaging.specifiers import SpecifierSet

from cxr_cft.artifacts import fingerprint
from cxr_cft.errors import SubmissionError
from cxr_cft.submission.bundle import package
from cxr_cft.submission.needs import Library, installed_libraries
from cxr_cft.submission.wheels import find_wheels

pytest.importorskip("pip", reason="without pip no wheels can be checked")


def make_wheel(folder, name, version, *requires, tag="py3-none-any"):
    """The smallest wheel that pip plans with."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    metadata = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {line}" for line in requires)]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", "whole = True")
        file.writestr(f"{info}/METADATA", "\n".join(["Metadata-Version: 2.1", *metadata]))
        file.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        file.writestr(f"{info}/RECORD", "")
    return path


def asked(*names):
    return [Library(name, "1.0", "", SpecifierSet(), frozenset(), frozenset()) for name in names]


def names_of(wheels):
    return [path.name for path in wheels]


def test_one_wheel_for_each_library_and_for_what_pip_finds_it_to_need(tmp_path):
    folder = tmp_path / "the wheels"
    for name, version in (("one", "1.0"), ("one", "2.0"), ("unasked", "1.0"), ("needed", "3.0")):
        make_wheel(folder, name, version, *(["needed"] if name == "one" else []))
    make_wheel(folder, "other", "1.0")
    make_wheel(folder, "other", "1.0", tag="cp27-cp27m-win32")
    found = find_wheels(folder, asked("one", "other"))
    assert names_of(found) == ["needed-3.0-py3-none-any.whl", "one-1.0-py3-none-any.whl", "other-1.0-py3-none-any.whl"]
    assert all(path.parent == folder for path in found)


def test_what_is_installed_here_or_lies_in_the_users_other_folders_does_not_count(tmp_path, monkeypatch):
    elsewhere = make_wheel(tmp_path / "elsewhere", "one", "1.0").parent
    monkeypatch.setenv("PIP_FIND_LINKS", str(elsewhere))
    (tmp_path / "pip.conf").write_text(f"[global]\nfind-links = {elsewhere}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    make_wheel(tmp_path / "wheels", "other", "1.0", "packaging")
    with pytest.raises(SubmissionError, match=r"wheels holds no wheel of one==1\.0 for Python 3\.\d+ on this system"):
        find_wheels(tmp_path / "wheels", asked("one", "other"))
    with pytest.raises(SubmissionError, match="holds no wheel of packaging for Python"):
        find_wheels(tmp_path / "wheels", asked("other"))


@pytest.mark.parametrize("made", ["nothing", "another platform's", "a source archive"])
def test_what_is_missing_is_named_with_the_command_that_fetches_it(tmp_path, made):
    folder = tmp_path / "it's here"
    folder.mkdir()
    if made == "another platform's":
        make_wheel(folder, "one", "1.0", tag="cp27-cp27m-win32")
    elif made == "a source archive":
        (folder / "one-1.0.tar.gz").write_bytes(b"")
    with pytest.raises(SubmissionError) as caught:
        find_wheels(folder, asked("one", "other"))
    told = str(caught.value)
    assert "\n" not in told
    assert "holds no wheel of one==1.0 for Python" in told
    quoted = str(folder).replace("'", "'\"'\"'")
    assert told.endswith(f"`python -m pip download --only-binary :all: -d '{quoted}' one==1.0 other==1.0`")


def test_a_folder_that_is_not_there_is_said_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(
        SubmissionError, match=r"there is no folder .*/gone with wheels; make it with `python -m pip down"
    ):
        find_wheels(tmp_path / "gone", asked("one"))


def test_libraries_that_do_not_go_together_are_told_in_pips_words(tmp_path):
    make_wheel(tmp_path / "wheels", "one", "1.0", "other>=2")
    make_wheel(tmp_path / "wheels", "other", "1.0")
    make_wheel(tmp_path / "wheels", "other", "2.0")
    with pytest.raises(SubmissionError, match=r"^pip cannot install from the wheels in .*/wheels: ERROR: .*$"):
        find_wheels(tmp_path / "wheels", asked("one", "other"))


def test_a_damaged_wheel_is_named(tmp_path):
    wheel = make_wheel(tmp_path / "wheels", "one", "1.0")
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        SubmissionError, match=r"^pip cannot install from the wheels in .*one-1\.0-py3-none-any\.whl.*$"
    ):
        find_wheels(tmp_path / "wheels", asked("one"))
    wheel.write_bytes(whole.replace(b"whole = True", b"whole = 0000"))
    with pytest.raises(SubmissionError, match=r"one-1\.0-py3-none-any\.whl is damaged \(one\.py\); fetch it again"):
        find_wheels(tmp_path / "wheels", asked("one"))


def test_without_pip_there_is_a_line_that_says_how_to_get_it(tmp_path, monkeypatch):
    make_wheel(tmp_path / "wheels", "one", "1.0")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(
        SubmissionError, match=r"cannot be checked, for want of pip; run `.*/bare/bin/python -m ensurepip`"
    ):
        find_wheels(tmp_path / "wheels", asked("one"))


@pytest.mark.usefixtures("no_models")
def test_a_bundle_has_them_in_its_manifest_and_its_zip_and_its_readme_says_so(ensemble, tmp_path):
    libraries = installed_libraries()
    for each in libraries:
        make_wheel(tmp_path / "wheels", each.name, each.version, tag="py3-none-manylinux_2_5_x86_64.any")
    make_wheel(tmp_path / "wheels", "unasked", "1.0")
    made = package(ensemble, "made", tmp_path, wheels=tmp_path / "wheels")
    packed = sorted((made.folder / "wheels").iterdir())
    assert [path.name.split("-")[:2] for path in packed] == sorted([each.name, each.version] for each in libraries)
    manifest = json.loads((made.folder / "manifest.json").read_text())["sha256"]
    own = {name: found for name, found in manifest.items() if name.startswith("wheels/")}
    assert own == {f"wheels/{path.name}": fingerprint(tmp_path / "wheels" / path.name) for path in packed}
    with zipfile.ZipFile(made.archive) as file:
        for path in packed:
            assert file.read(f"made/wheels/{path.name}") == path.read_bytes()
    page = (made.folder / "README.md").read_text()
    assert "\npip install --no-index --find-links wheels -r requirements.txt\n" in page
    assert "--no-index --find-links src/wheels -r src/requirements.txt" in page
    assert "- glibc 2.5 or later." in page
    again = package(ensemble, "made", tmp_path / "again", wheels=tmp_path / "wheels")
    assert again.archive.read_bytes() == made.archive.read_bytes()
    without = package(ensemble, "made", tmp_path)
    assert not (without.folder / "wheels").exists()
    assert "src/wheels" not in (without.folder / "README.md").read_text()


def test_wheels_that_do_not_suffice_are_found_before_any_model_is_exported(ensemble, tmp_path, monkeypatch):
    def export(*_, **__):
        raise AssertionError("a model was exported")

    monkeypatch.setattr("cxr_cft.submission.bundle.export_onnx", export)
    (tmp_path / "wheels").mkdir()
    with pytest.raises(SubmissionError, match="holds no wheel of numpy=="):
        package(ensemble, "made", tmp_path / "out", wheels=tmp_path / "wheels")
    assert not (tmp_path / "out").exists()
