"""What a container needs is read from what is installed: exact versions, Python, glibc, and what is not known."""

from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import parse_tag

from cxr_cft.submission.needs import (
    UNKNOWN,
    Library,
    installed_libraries,
    of_wheels,
    oldest_glibc,
    python_versions,
    requirements,
)


def library(name="numpy", tags="", python="", named=(), needed_by=""):
    parsed = frozenset().union(*(parse_tag(tag) for tag in tags.split()))
    return Library(name, "1.0", needed_by, SpecifierSet(python), frozenset(named), parsed)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A function that installs a distribution before all others, by its metadata alone."""

    def installed(name, number, *lines, tags=()):
        folder = tmp_path / f"{name.replace('-', '_')}-{number}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {number}", *lines])
        )
        if tags:
            (folder / "WHEEL").write_text("\n".join(["Wheel-Version: 1.0", *(f"Tag: {tag}" for tag in tags)]))

    monkeypatch.syspath_prepend(tmp_path)
    return installed


def test_what_predict_imports_comes_first_in_the_installed_versions_and_installs_without_cuda():
    lines = requirements(installed_libraries()).splitlines()
    pins = [Requirement(line.partition("#")[0]) for line in lines]
    assert [pin.name for pin in pins][:3] == ["numpy", "pillow", "onnxruntime"]
    for pin in pins:
        gpu = "onnxruntime-gpu" if "onnxruntime-gpu" in lines[2] and pin.name == "onnxruntime" else pin.name
        try:
            assert str(pin.specifier) == f"=={version(gpu)}"
        except ModuleNotFoundError:
            assert str(pin.specifier) == f"=={version(pin.name)}"


def test_everything_that_is_needed_in_turn_is_there_once(installed):
    installed("numpy", "8.1+local.build", "Requires-Dist: first>=1; python_version >= '3'")
    installed("pillow", "8.2", 'Requires-Dist: nothing; extra == "docs"', "Requires-Dist: never; python_version < '3'")
    installed("onnxruntime-gpu", "8.3", "Requires-Dist: First", "Requires-Dist: numpy", "Requires-Dist: gone-by-now")
    installed("First", "8.4", "Requires-Dist: second[extra]")
    installed("second", "8.5", "Requires-Dist: first")
    for name in ("nothing", "never"):
        installed(name, "9")
    assert requirements(installed_libraries()).splitlines() == [
        "numpy==8.1",
        "pillow==8.2",
        "onnxruntime==8.3  # or onnxruntime-gpu==8.3 where there is a CUDA device",
        "first==8.4  # for numpy",
        "second==8.5  # for first",
    ]


def test_python_and_tags_are_those_of_the_metadata_and_empty_where_it_has_none(installed):
    installed(
        "numpy",
        "8.1",
        "Requires-Python: >=3.9",
        "Classifier: Programming Language :: Python :: 3",
        "Classifier: Programming Language :: Python :: 3.10",
        "Classifier: Programming Language :: Python :: 3.11",
        tags=("cp311-cp311-manylinux_2_27_x86_64", "cp311-cp311-manylinux_2_28_x86_64"),
    )
    installed("pillow", "8.2")
    numpy, pillow = installed_libraries()[:2]
    assert (str(numpy.python), numpy.named, numpy.glibc) == (">=3.9", {"3.10", "3.11"}, "2.27")
    assert (str(pillow.python), pillow.named, pillow.glibc) == ("", frozenset(), UNKNOWN)


@pytest.mark.parametrize(
    ("tags", "glibc"),
    [
        ("cp311-cp311-manylinux_2_28_x86_64", "2.28"),
        ("cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", "2.17"),
        ("cp311-cp311-manylinux2010_x86_64.manylinux_2_5_x86_64", "2.5"),
        ("cp310-abi3-manylinux2014_aarch64", "2.17"),
        ("py2-none-any py3-none-any", ""),
        ("cp311-cp311-linux_x86_64", UNKNOWN),
        ("cp311-cp311-macosx_11_0_arm64", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_a_wheel_fits_the_oldest_glibc_of_its_tags(tags, glibc):
    assert library(tags=tags).glibc == glibc


def test_the_newest_of_them_serves_all_and_who_does_not_say_is_named():
    old, new = library("old", "cp311-cp311-manylinux_2_9_x86_64"), library("new", "cp311-cp311-manylinux_2_28_x86_64")
    pure, silent = library("pure", "py3-none-any"), library("silent")
    assert oldest_glibc([old, new, pure]) == ("2.28", [])
    assert oldest_glibc([new, silent, old]) == ("2.28", ["silent"])
    assert oldest_glibc([silent, pure]) == (UNKNOWN, ["silent"])


def test_python_versions_are_those_that_all_compiled_libraries_name_and_all_allow():
    compiled = "cp311-cp311-manylinux_2_28_x86_64"
    one = library("one", compiled, ">=3.9", ["3.9", "3.10", "3.11", "3.12"])
    other = library("other", compiled, "", ["3.10", "3.11", "3.12", "3.13"])
    assert python_versions([one, other]) == ["3.10", "3.11", "3.12"]
    pure = library("pure", "py3-none-any", ">=3.10.2,<3.12", ["3.5"])
    assert python_versions([one, other, pure]) == ["3.10", "3.11"]
    assert python_versions([one, library("silent", compiled)]) == ["3.9", "3.10", "3.11", "3.12"]
    assert python_versions([pure, library("silent", compiled)]) == []


def test_wheels_speak_for_themselves(tmp_path):
    one, other = library("one-two", "cp311-cp311-linux_x86_64"), library("other")
    wheel = tmp_path / "One_Two-1.0-cp311-cp311-manylinux_2_34_x86_64.whl"
    assert [each.glibc for each in of_wheels([one, other], [wheel])] == ["2.34", UNKNOWN]
