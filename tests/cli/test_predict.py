"""`cxr-cft predict` uses for a study the views that its run uses, and answers for any view that is asked for."""

import shutil

import pandas as pd
import pytest

from cxr_cft.artifacts import write_json
from cxr_cft.cli.main import run as command


@pytest.fixture
def asked(data, tmp_path):
    """A CSV whose second views are lateral, and one of the frontal views alone."""
    rows = pd.read_csv(data / "test.csv")[["Path"]]
    rows["Frontal/Lateral"] = ["Lateral" if "view2" in path else "Frontal" for path in rows["Path"]]
    assert rows["Frontal/Lateral"].nunique() == 2
    rows.to_csv(tmp_path / "both.csv", index=False)
    rows[rows["Frontal/Lateral"] == "Frontal"].to_csv(tmp_path / "frontal.csv", index=False)
    return tmp_path


@pytest.fixture
def predicted(run, data, asked):
    """What the command writes for a CSV by a run of such views."""

    def predicted(csv, views, level="study"):
        folder = shutil.copytree(run.path, asked / "weights" / views, dirs_exist_ok=True)
        recipe = {**run.info["recipe"], "data": {**run.info["recipe"]["data"], "views": views}}
        write_json(folder / "run.json", {**run.info, "recipe": recipe})
        out = asked / "out.csv"
        words = ["--csv", asked / f"{csv}.csv", "--out", out, "--image-root", data.parent, "--level", level]
        assert command(["predict", str(folder), *map(str, words)]) == 0
        return pd.read_csv(out).set_index("Path" if level == "image" else "Study")

    return predicted


def test_a_run_of_frontal_views_leaves_laterals_out_of_their_study(predicted):
    left_out = predicted("both", "frontal")
    pd.testing.assert_frame_equal(left_out, predicted("frontal", "all"), rtol=0, atol=1e-6)
    assert not left_out.equals(predicted("both", "all"))


def test_at_image_level_every_view_is_predicted(predicted, asked):
    assert list(predicted("both", "frontal", "image").index) == list(pd.read_csv(asked / "both.csv")["Path"])


def test_lateral_images_that_are_not_used_need_not_be_there(predicted, asked):
    rows = pd.read_csv(asked / "both.csv")
    lateral = rows["Frontal/Lateral"] == "Lateral"
    rows.loc[lateral, "Path"] = rows["Path"].str.replace("view2", "view7")
    rows.to_csv(asked / "both.csv", index=False)
    assert len(predicted("both", "frontal")) == (~lateral).sum()
