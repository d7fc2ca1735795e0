"""A bundle is refused before anything of it is run, with one line that names the file and says what to do."""

import json
import os
import re

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from cxr_cft.errors import SubmissionError
from cxr_cft.submission.rehearsal.inspection import inspect_bundle


def change(name, edit):
    """An edit of the JSON file `name` of a folder."""

    def changed(folder):
        content = json.loads((folder / name).read_text())
        edit(content)
        (folder / name).write_text(json.dumps(content))

    return changed


def test_a_bundle_as_packaged_is_handed_on(bundle):
    specification, names = inspect_bundle(bundle.folder)
    assert specification == json.loads((bundle.folder / "submission.json").read_text())
    assert set(names) == {path.relative_to(bundle.folder).as_posix() for path in bundle.folder.rglob("*.*")}


def test_bytecode_that_python_would_run_instead_is_refused(faulty):
    copy = faulty()
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "odds.cpython-311.pyc").write_bytes(b"")
    with pytest.raises(SubmissionError, match=r"__pycache__/odds.cpython-311.pyc.* is not in manifest.json"):
        inspect_bundle(copy)


def append(name):
    def appended(folder):
        with (folder / name).open("ab") as file:
            file.write(b"\n")

    return appended


def linked(name):
    def linked(folder):
        (folder / name).rename(folder.parent / name)
        (folder / name).symlink_to(folder.parent / name)

    return linked


TAMPERED = {
    "a changed script": (append("odds.py"), r"odds\.py is not the file that was packaged; unpack the bundle again"),
    "a changed model": (append("models/tuned.onnx"), r"tuned\.onnx is not the file that was packaged"),
    "a missing file": (lambda folder: (folder / "images.py").unlink(), r"images\.py is missing; unpack"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), r"manifest\.json is missing; unpack"),
    "a manifest that is cut": (
        lambda folder: (folder / "manifest.json").write_text('{"sha256": {'),
        r"manifest\.json is damaged .*; unpack",
    ),
    "a manifest without sums": (
        lambda folder: (folder / "manifest.json").write_text("{}"),
        r"manifest\.json is damaged \(it has no 'sha256'\); unpack",
    ),
    "a sum that is none": (
        change("manifest.json", lambda content: content["sha256"].update({"odds.py": 7})),
        r"manifest\.json is damaged \(odds\.py: .*\); unpack",
    ),
    "a library's name": (
        lambda folder: (folder / "numpy.py").write_text("raise SystemExit"),
        r"numpy\.py is not in manifest\.json; take it away, or package it again",
    ),
    "a package's name": (
        lambda folder: (folder / "PIL").mkdir() or (folder / "PIL" / "__init__.py").write_text(""),
        r"PIL/__init__\.py is not in manifest\.json",
    ),
    "a link to a file": (linked("odds.py"), r"odds\.py is a link, which may leave the folder"),
    "a link to a folder": (linked("models"), r"models is a link, which may leave the folder"),
    "a link for what Python keeps": (
        lambda folder: (folder / "__pycache__").symlink_to(folder.parent),
        r"__pycache__ is a link, which may leave the folder",
    ),
    "a pipe": (lambda folder: os.mkfifo(folder / "odds"), r"odds is no file; take it away"),
    "a name above the folder": (
        change("manifest.json", lambda content: content["sha256"].update({"../odds.py": "0" * 64})),
        r"manifest\.json names \.\./odds\.py, which leaves the folder; package it again",
    ),
    "an absolute name": (
        change("manifest.json", lambda content: content["sha256"].update({"/etc/passwd": "0" * 64})),
        r"manifest\.json names /etc/passwd, which leaves the folder",
    ),
    "a name of Windows": (
        change("manifest.json", lambda content: content["sha256"].update({"C:odds.py": "0" * 64})),
        r"manifest\.json names C:odds\.py, which leaves the folder",
    ),
}


@pytest.mark.parametrize(("edit", "message"), TAMPERED.values(), ids=TAMPERED)
def test_what_was_tampered_with_is_refused(faulty, edit, message):
    copy = faulty(edit, vouch=False)
    with pytest.raises(SubmissionError, match=message) as refused:
        inspect_bundle(copy)
    assert "\n" not in str(refused.value)
    assert str(copy) in str(refused.value)


def member(**fields):
    return change("submission.json", lambda content: content["members"][0].update(fields))


LACKING = {
    "no output": (change("submission.json", lambda content: content.pop("output")), "output: Field required"),
    "no members": (change("submission.json", lambda content: content.update(members=[])), "members: "),
    "no prior of a category": (
        change("submission.json", lambda content: content["prior"].pop("Edema")),
        "prior lacks Edema",
    ),
    "a prior that is none": (
        change("submission.json", lambda content: content["prior"].update(Edema=1.5)),
        r"prior\.Edema: ",
    ),
    "no scale of the output": (
        change("submission.json", lambda content: content["output_scale"].pop("Edema")),
        "output_scale lacks Edema",
    ),
    "an unknown aggregation": (
        change("submission.json", lambda content: content.update(aggregation="median")),
        "aggregation: ",
    ),
    "a column that is none": (member(first=-1), r"members\.0\.first: "),
    "a weight that is none": (member(weights={"Edema": -1.0}), r"members\.0\.weights\.Edema: "),
    "no JSON": (lambda folder: (folder / "submission.json").write_text("{"), "could not be read as JSON"),
    "a model above the folder": (member(model="../model.onnx"), r"the model \.\./model\.onnx of .* leaves the folder"),
    "a model from anywhere": (member(model="/tmp/model.onnx"), r"the model /tmp/model\.onnx of .* leaves the folder"),
    "a model that is not there": (
        member(model="models/none.onnx"),
        r"models/none\.onnx of .* is not in manifest\.json",
    ),
}


@pytest.mark.parametrize(("edit", "message"), LACKING.values(), ids=LACKING)
def test_a_specification_that_the_script_cannot_use_is_refused(faulty, edit, message):
    copy = faulty(edit)
    with pytest.raises(SubmissionError, match=message) as refused:
        inspect_bundle(copy)
    assert "\n" not in str(refused.value)
    assert f"{copy / 'submission.json'}" in str(refused.value)
    assert str(refused.value).endswith("package it again with `cxr-cft package-submission`")


def external(location, name="stray"):
    """A tensor that says that its values lie in another file."""
    tensor = numpy_helper.from_array(np.zeros(4, dtype=np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


def as_initializer(model, tensor):
    model.graph.initializer.append(tensor)


def as_attribute(model, tensor):
    model.graph.node.append(helper.make_node("Constant", [], ["stray"], value=tensor))


def as_sparse(model, tensor):
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(tensor)


def in_a_branch(model, tensor):
    branch = helper.make_graph([helper.make_node("Constant", [], ["inner"], value=tensor)], "branch", [], [])
    nested = helper.make_graph([helper.make_node("If", ["c"], ["o"], then_branch=branch)], "nested", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["o"], else_branch=nested))


def in_a_function(model, tensor):
    nodes = [helper.make_node("Constant", [], ["y"], value=tensor)]
    model.functions.append(helper.make_function("own", "F", [], ["y"], nodes, [helper.make_opsetid("", 18)]))


@pytest.mark.parametrize("place", [as_initializer, as_attribute, as_sparse, in_a_branch, in_a_function])
@pytest.mark.parametrize("location", ["../../secrets", "/etc/passwd", "beside.bin", ""])
def test_a_model_that_keeps_data_elsewhere_is_refused(faulty, place, location):
    def edit(folder):
        path = folder / "models" / "tuned.onnx"
        model = onnx.load(path)
        place(model, external(location))
        onnx.save(model, path)
        if location == "beside.bin":
            (folder / "beside.bin").write_bytes(bytes(16))  # of the bundle, but not where the model looks

    copy = faulty(edit)
    with pytest.raises(
        SubmissionError,
        match=rf"tuned\.onnx keeps stray in {re.escape(location or 'no file')}, which is not the bundle's own; package",
    ):
        inspect_bundle(copy)


def test_a_models_data_beside_it_in_the_manifest_are_the_bundles_own(faulty):
    def edit(folder):
        path = folder / "models" / "tuned.onnx"
        model = onnx.load(path)
        as_initializer(model, external("beside.bin"))
        onnx.save(model, path)
        (folder / "models" / "beside.bin").write_bytes(bytes(16))

    assert "models/beside.bin" in inspect_bundle(faulty(edit))[1]


def test_a_model_that_is_none_is_refused(faulty):
    copy = faulty(lambda folder: (folder / "models" / "tuned.onnx").write_bytes(b"\xff" * 100))
    with pytest.raises(SubmissionError, match=r"tuned\.onnx is no ONNX model"):
        inspect_bundle(copy)


def test_a_folder_that_is_no_bundle_is_told_from_a_damaged_one(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(SubmissionError, match=r"is no bundle: it has no predict\.py; make one with `cxr-cft packa"):
            inspect_bundle(folder)
