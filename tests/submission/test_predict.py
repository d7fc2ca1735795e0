"""predict.py answers for every study, alone and offline, whatever the images are like; what it cannot do it says."""

import os
import shutil
import stat
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr_cft.data.labels import COMPETITION
from cxr_cft.submission import predict, runtime
from cxr_cft.submission.bundle import CARRIED
from cxr_cft.submission.telling import Failure

BLOCKED = ("accelerate", "albumentations", "cv2", "cxr_cft", "pandas", "pydantic", "scipy", "sklearn", "timm", "torch")


@pytest.fixture
def elsewhere(bundle, data, tmp_path):
    """A writable copy of the bundle, the data's folder as working directory of a run of its script."""
    copy = shutil.copytree(bundle.folder, tmp_path / "bundle")

    def run(source, *options, output=tmp_path / "out" / "out.csv", cwd=data.parent, **environment):
        # What a server without our libraries would see: importing any of them fails.
        blocker = tmp_path / "blocker"
        blocker.mkdir(exist_ok=True)
        (blocker / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({BLOCKED!r}))\n")
        done = subprocess.run(
            [sys.executable, str(copy / "predict.py"), str(source), str(output), *options],
            cwd=cwd,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(blocker), **environment},
            capture_output=True,
            text=True,
        )
        return done, output

    run.bundle = copy
    return run


def test_it_predicts_without_torch_or_the_package_what_the_package_predicts(elsewhere, ensemble, package_answer, data):
    done, output = elsewhere(data / "test.csv")
    assert done.returncode == 0, done.stderr
    assert "2 models on CPU" in done.stderr
    found = pd.read_csv(output)
    assert list(found.columns) == ["Study", *COMPETITION]
    studies, expected = package_answer(ensemble, data / "test.csv")
    assert list(found["Study"]) == studies
    columns = [ensemble.categories.index(category) for category in COMPETITION]
    np.testing.assert_allclose(found[list(COMPETITION)].to_numpy(), expected[:, columns], rtol=0, atol=1e-5)


def test_running_it_twice_gives_the_same_bytes(elsewhere, data, tmp_path):
    first = elsewhere(data / "valid.csv", output=tmp_path / "1.csv")[1].read_bytes()
    second = elsewhere(data / "valid.csv", "--batch-size", "16", output=tmp_path / "2.csv")[1].read_bytes()
    assert first == second


def test_study_is_the_given_path_without_its_file_character_for_character(elsewhere, data, tmp_path):
    given = pd.read_csv(data / "test.csv")["Path"]
    awkward = f"./{data.name}/../{given[0]}"
    pd.DataFrame({"Path": [given[1], awkward, f" {given[2]} "]}).to_csv(tmp_path / "in.csv", index=False)
    done, output = elsewhere(tmp_path / "in.csv")
    assert "0 of 3 views unreadable" in done.stderr
    expected = list(dict.fromkeys(path.rpartition("/")[0] for path in (given[1], awkward, f" {given[2]}")))
    assert list(pd.read_csv(output)["Study"]) == expected


def test_a_csv_as_spreadsheets_write_it_is_read(elsewhere, data, tmp_path):
    given = list(pd.read_csv(data / "test.csv")["Path"][:3])
    lines = ["Sex,Path", f'Male,"{given[0]}"', "", f"Female,{given[1]}", ",", f"Male,{given[0]}", f"Male,{given[2]}"]
    (tmp_path / "in.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    done, output = elsewhere(tmp_path / "in.csv")
    assert done.returncode == 0, done.stderr
    assert list(pd.read_csv(output)["Study"]) == list(dict.fromkeys(path.rpartition("/")[0] for path in given))


@pytest.mark.parametrize("spoil", ["missing", "empty", "cut", "text", "folder"])
def test_a_view_that_cannot_be_read_is_left_out_and_a_study_without_any_gets_the_prior(
    elsewhere, ensemble, data, tmp_path, spoil
):
    copy = shutil.copytree(data, tmp_path / "data" / data.name)
    paths = pd.read_csv(copy / "test.csv")["Path"]
    studies = paths.str.rpartition("/")[0]
    twice = studies[studies.duplicated()].iloc[0]
    once = studies[~studies.duplicated(keep=False)].iloc[0]
    spoilt = [copy.parent / paths[studies == study].iloc[0] for study in (twice, once)]
    for file in spoilt:
        content = file.read_bytes()
        file.unlink()
        if spoil == "folder":
            file.mkdir()
        elif spoil != "missing":
            file.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "text": b"Path\n1\n"}[spoil])
    done, output = elsewhere(copy / "test.csv", cwd=copy.parent)
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(output).set_index("Study")
    assert len(found) == studies.nunique()
    assert np.isfinite(found.to_numpy()).all()
    for category in COMPETITION:
        assert found.loc[once, category] == pytest.approx(ensemble.candidate.prior[category], abs=1e-12)
        assert found.loc[twice, category] != found.loc[once, category]
    assert all(f"left out {file.relative_to(copy.parent).as_posix()}" in done.stderr for file in spoilt)
    assert f"no readable view of {once}" in done.stderr
    assert "(2 of" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Image\na.png\n", "has no column Path; its columns are Image"),
        ("Path\n", "has no rows"),
        ("Path\n\n \n", "has no rows"),
    ],
)
def test_an_input_that_cannot_be_answered_is_one_line_and_no_output(elsewhere, tmp_path, text, message):
    (tmp_path / "in.csv").write_text(text)
    done, output = elsewhere(tmp_path / "in.csv")
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not output.exists()


def test_the_input_is_never_overwritten(elsewhere, data, tmp_path):
    source = shutil.copy(data / "test.csv", tmp_path / "in.csv")
    done, _ = elsewhere(source, output=source)
    assert done.returncode == 1
    assert "the output would take the place of" in done.stderr
    assert source.read_bytes() == (data / "test.csv").read_bytes()


def test_a_missing_input_and_an_output_that_cannot_be_written_are_one_line(elsewhere, data, tmp_path):
    done, _ = elsewhere(tmp_path / "none.csv")
    assert done.returncode == 1
    assert "none.csv could not be read" in done.stderr
    (tmp_path / "file").write_text("")
    done, _ = elsewhere(data / "test.csv", output=tmp_path / "file" / "out.csv")
    assert done.returncode == 1
    assert "out.csv could not be written" in done.stderr.splitlines()[-1]


def test_a_file_that_was_tampered_with_is_named(elsewhere, data):
    model = elsewhere.bundle / "models" / "tuned.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    done, output = elsewhere(data / "test.csv")
    assert done.returncode == 1
    assert "tuned.onnx is not the file that was packaged" in done.stderr
    assert not output.exists()


def test_wrong_usage_is_told_apart_from_wrong_input(elsewhere, data):
    assert elsewhere(data / "test.csv", "--batch-size", "0")[0].returncode == 2


def test_images_are_found_under_another_root_and_below_dropped_folders(elsewhere, data, tmp_path):
    done, _ = elsewhere(data / "test.csv", "--image-root", str(data), cwd=tmp_path)
    assert "0 of" in done.stderr
    assert "wrote" in done.stderr


def test_a_picture_of_the_same_name_that_is_another_patients_is_not_taken(elsewhere, data, tmp_path):
    paths = pd.read_csv(data / "test.csv")["Path"]
    pd.DataFrame({"Path": paths[:3]}).to_csv(tmp_path / "in.csv", index=False)
    _, study, view = paths[0].split("/")[-3:]
    decoy = tmp_path / "cwd" / study / view
    decoy.parent.mkdir(parents=True)
    shutil.copy(data.parent / paths[1], decoy)
    done, output = elsewhere(tmp_path / "in.csv", cwd=tmp_path / "cwd")
    assert "3 of 3 views unreadable" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: not one view could be read")
    assert done.returncode == 1
    assert len(pd.read_csv(output)) == paths[:3].str.rpartition("/")[0].nunique()
    done, _ = elsewhere(tmp_path / "in.csv", "--image-root", str(data / "test"), cwd=tmp_path / "cwd")
    assert "0 of 3 views unreadable" in done.stderr
    assert "without the first 2 folders" in done.stderr


def test_whatever_an_image_or_a_path_does_every_study_gets_its_row(elsewhere, data, tmp_path):
    paths = list(pd.read_csv(data / "test.csv")["Path"][:2])
    image = Image.open(data.parent / paths[0]).convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6
    damaged = bytearray()
    image.save(tmp_path / "exif.jpg", exif=exif)
    damaged += (tmp_path / "exif.jpg").read_bytes()
    start = damaged.index(b"Exif")
    damaged[start + 6 : start + 40] = b"\xff" * 34
    (tmp_path / "p" / "s").mkdir(parents=True)
    (tmp_path / "p" / "s" / "exif.jpg").write_bytes(damaged)
    wild = ["p/s/exif.jpg", f"{'x' * 300}/s/a.jpg", "p/t/nul\\0.jpg", *paths]
    pd.DataFrame({"Path": wild}).to_csv(tmp_path / "in.csv", index=False)
    done, output = elsewhere(tmp_path / "in.csv")
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(output)) == len({path.rpartition("/")[0] for path in wild})


def test_it_writes_nothing_but_its_output(elsewhere, data, tmp_path):
    for path in (*elsewhere.bundle.rglob("*"), elsewhere.bundle):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    before = {path: path.stat().st_mtime_ns for path in elsewhere.bundle.rglob("*")}
    work = tmp_path / "work"
    work.mkdir()
    done, output = elsewhere(data / "test.csv", cwd=work, PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in elsewhere.bundle.rglob("*")} == before
    assert not list(work.iterdir())
    assert [path.name for path in output.parent.iterdir()] == ["out.csv"]


def test_scores_that_float32_would_make_equal_stay_apart(tmp_path):
    scores = np.array([[1 - 3e-10], [1 - 2e-10]])
    predict.write_rows(tmp_path / "out.csv", ["Study", "Edema"], ["a", "b"], scores)
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert [float(line.split(",")[1]) for line in lines[1:]] == scores[:, 0].tolist()


def test_cuda_is_asked_for_only_where_a_device_is(monkeypatch):
    available = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(predict.Path, "exists", lambda path: str(path) != "/dev/nvidiactl")
    assert runtime.wanted_providers(available) == ["CPUExecutionProvider"]
    monkeypatch.setattr(predict.Path, "exists", lambda path: True)  # noqa: ARG005
    assert runtime.wanted_providers(available) == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert runtime.wanted_providers(["CPUExecutionProvider"]) == ["CPUExecutionProvider"]


def test_the_script_and_what_it_carries_are_python_38(bundle):
    import ast

    parsed = [ast.parse(path.read_text(), feature_version=(3, 8)) for path in bundle.folder.glob("*.py")]
    assert len(parsed) == 1 + len(CARRIED)


def refusal(folder, data):
    with pytest.raises(Failure) as caught:
        predict.predict(folder, data / "test.csv", folder / "out.csv", data, 16)
    assert not (folder / "out.csv").exists()
    return str(caught.value)


def test_other_image_code_than_the_models_were_packed_with_is_refused(bundle, edited, data, tmp_path):
    def other_revision(content):
        content["members"][0]["preprocessing"]["revision"] = 0

    told = refusal(edited(bundle.folder, tmp_path / "other", other_revision), data)
    assert "needs other image code than this bundle's" in told


def test_an_unknown_way_to_join_views_is_refused(bundle, edited, data, tmp_path):
    def by_median(content):
        content["aggregation"] = "median"

    told = refusal(edited(bundle.folder, tmp_path / "median", by_median), data)
    assert told == "the bundle's code does not join views by median; package it again"


@pytest.mark.parametrize(
    ("member", "key", "value"),
    [
        (0, "categories", list(COMPETITION)),
        (1, "first", 14),
        (1, "first", 7),
        (1, "head", "tuned"),
        (2, "first", 0),
        (0, "model", "models/tuned.onnx"),
    ],
)
def test_a_model_with_other_columns_or_images_than_submission_json_says_is_refused(
    bundle, edited, data, tmp_path, member, key, value
):
    def other(content):
        content["members"][member][key] = value

    assert "is not what submission.json says of" in refusal(edited(bundle.folder, tmp_path / "other", other), data)
