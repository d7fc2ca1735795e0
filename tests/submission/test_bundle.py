"""A bundle holds what predict.py needs, the same bytes each time; what cannot be packed is refused."""

import json
import shutil
import zipfile

import pytest

from cxr_cft.artifacts import fingerprint
from cxr_cft.data.labels import CATEGORIES, COMPETITION
from cxr_cft.errors import RunError, SubmissionError
from cxr_cft.submission.bundle import package


def test_the_folder_is_as_the_contract_says(bundle, ensemble):
    names = {path.relative_to(bundle.folder).as_posix() for path in bundle.folder.rglob("*") if path.is_file()}
    assert names >= {"predict.py", "submission.json", "manifest.json", "requirements.txt", "MODEL_CARD.md"}
    assert {name for name in names if name.startswith("models/")} == {"models/tuned.onnx", "models/trained.onnx"}
    submission = json.loads((bundle.folder / "submission.json").read_text())
    assert submission["output"] == list(COMPETITION)
    assert submission["aggregation"] == "max"
    assert [member["weight"] for member in submission["members"]] == [0.25, 0.75]
    assert submission["prior"] == ensemble.prior
    manifest = json.loads((bundle.folder / "manifest.json").read_text())["sha256"]
    assert manifest == {name: fingerprint(bundle.folder / name) for name in names - {"manifest.json"}}


def test_nothing_in_it_imports_the_package_or_torch(bundle):
    for path in bundle.folder.glob("*.py"):
        text = path.read_text()
        assert "import cxr_cft" not in text
        assert "from cxr_cft" not in text
        assert "torch" not in text.replace("onnx", "")


def test_no_path_of_this_machine_is_in_it(bundle, weights, data):
    for path in bundle.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(weights).encode() not in content
            assert str(data).encode() not in content


def test_the_zip_holds_the_folder_and_the_same_input_gives_the_same_bytes(bundle, ensemble, tmp_path):
    again = package(ensemble, "made", tmp_path)
    assert again.archive.read_bytes() == bundle.archive.read_bytes()
    with zipfile.ZipFile(bundle.archive) as file:
        assert file.testzip() is None
        names = {name.removeprefix("made/") for name in file.namelist()}
    assert names == {path.relative_to(bundle.folder).as_posix() for path in bundle.folder.rglob("*") if path.is_file()}


def test_requirements_are_exact_versions_of_three_libraries(bundle):
    lines = (bundle.folder / "requirements.txt").read_text().splitlines()
    assert [line.split("==")[0] for line in lines] == ["numpy", "pillow", "onnxruntime"]


def test_a_member_without_weight_is_left_out(ensemble, tmp_path):
    members = tuple(m.model_copy(update={"weight": w}) for m, w in zip(ensemble.members, (0.0, 1.0), strict=True))
    made = package(ensemble.model_copy(update={"members": members}), "one", tmp_path)
    assert [path.name for path in (made.folder / "models").iterdir()] == [f"{ensemble.members[1].name}.onnx"]


def test_a_foreign_csv_has_no_model_to_pack(ensemble, tmp_path):
    members = (ensemble.members[0].model_copy(update={"kind": "csv", "name": "theirs"}), ensemble.members[1])
    with pytest.raises(SubmissionError, match="theirs came from a CSV, which holds no model to pack"):
        package(ensemble.model_copy(update={"members": members}), "foreign", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_that_changed_since_the_search_is_refused(ensemble, tmp_path):
    members = (ensemble.members[0].model_copy(update={"fingerprint": "0" * 64}), ensemble.members[1])
    with pytest.raises(SubmissionError, match=r"has changed since the ensemble; run `cxr-cft ensemble` again"):
        package(ensemble.model_copy(update={"members": members}), "changed", tmp_path)


def test_heads_that_are_gone_are_named(ensemble, weights, tmp_path):
    moved = shutil.copytree(weights, tmp_path / "moved")
    (moved / "tuned" / "heads.safetensors").unlink()
    gone = tuple(m.model_copy(update={"source": f"/nowhere/{m.name}"}) for m in ensemble.members)
    with pytest.raises(RunError, match=r"heads.safetensors is missing or not what cft.json says"):
        package(ensemble.model_copy(update={"members": gone}), "found", tmp_path, near=moved)


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden"])
def test_a_name_that_is_no_folders_is_refused(ensemble, tmp_path, name):
    with pytest.raises(RunError, match="is no name for a folder"):
        package(ensemble, name, tmp_path)


def test_a_folder_that_is_no_bundle_is_never_replaced(ensemble, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").touch()
    with pytest.raises(SubmissionError, match=r"mine is there already and is no bundle; give another --name or --out"):
        package(ensemble, "mine", tmp_path)
    assert (tmp_path / "mine" / "precious").exists()


def test_runs_and_data_that_moved_since_the_search_are_found(ensemble, weights, data, tmp_path):
    moved = shutil.copytree(weights, tmp_path / "moved")
    gone = tuple(m.model_copy(update={"source": f"/nowhere/{m.name}"}) for m in ensemble.members)
    found = package(ensemble.model_copy(update={"members": gone}), "found", tmp_path, near=moved, root=data)
    assert (found.folder / "predict.py").is_file()
    with pytest.raises(RunError, match="there is no run /nowhere"):
        package(ensemble.model_copy(update={"members": gone}), "gone", tmp_path)


def test_a_failure_on_the_way_leaves_no_bundle_and_keeps_the_earlier_one(ensemble, tmp_path, monkeypatch):
    made = package(ensemble, "kept", tmp_path)
    before = (made.folder / "manifest.json").read_bytes()

    def fail(*_):
        raise SubmissionError("the second export failed")

    monkeypatch.setattr("cxr_cft.submission.bundle.model_card", fail)
    with pytest.raises(SubmissionError, match="the second export failed"):
        package(ensemble, "kept", tmp_path)
    assert (made.folder / "manifest.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "kept.zip"]


def test_a_bundle_that_the_competition_would_reject_says_so(ensemble, tmp_path):
    class Notes:
        def __init__(self):
            self.said = []

        def track(self, items, *_):
            yield from items

        def note(self, message):
            self.said.append(message)

    notes = Notes()
    kept = tuple(category for category in CATEGORIES if category != "Edema")
    members = tuple(m.model_copy(update={"scale": {c: m.scale[c] for c in kept}}) for m in ensemble.members)
    made = package(ensemble.model_copy(update={"categories": kept, "members": members}), "less", tmp_path, notes)
    assert notes.said == ["the CheXpert competition would reject this bundle: it does not predict Edema"]
    assert json.loads((made.folder / "submission.json").read_text())["output"] == list(kept)
