"""Pages of heat maps: which there are, what they show, that they can be gone on with, and what they never overwrite."""

import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cxr_cft.artifacts import open_run, write_json
from cxr_cft.data.table import read_table
from cxr_cft.errors import CxrCftError, DataError, RunError
from cxr_cft.evaluation import pages
from cxr_cft.evaluation.explain import explain_studies, read_asked
from cxr_cft.evaluation.heatmaps import heat_maps
from cxr_cft.evaluation.pages import page_name, read_page, write_page
from cxr_cft.evaluation.sheet import Finding, draw_sheet
from cxr_cft.progress import Silent

SHOWN = ("Edema", "Cardiomegaly", "Fracture")


@pytest.fixture
def asked(run, data):
    """Three studies, one of them of two views."""
    studies = list(dict.fromkeys(read_table(data / "test.csv", data, ()).studies))[:3]
    return read_asked(run, data / "test.csv", studies)


def index(folder):
    return pd.read_csv(folder / "index.csv", keep_default_na=False)


def test_every_study_has_a_page_and_its_rows_in_the_index(run, asked, tmp_path):
    done = explain_studies(run, asked, tmp_path, SHOWN)
    assert (done.drawn, done.kept, done.listed) == (3, 0, 3)
    found = index(tmp_path)
    assert list(found.columns) == ["Study", "File", "Run", "Head", "Category", "Probability", "Label"]
    assert list(found["Category"]) == list(SHOWN) * 3
    assert set(found["Study"]) == set(asked.studies)
    assert {path.name for path in tmp_path.iterdir()} == {*found["File"], "index.csv"}
    predicted = pd.read_csv(run.predictions("test", tuned=False)).set_index("Study")
    for row in found.itertuples():
        assert row.Probability == pytest.approx(predicted.loc[row.Study, row.Category], abs=1e-6)
        assert (row.Run, row.Head) == ("tiny", "trained")
    labels = dict(zip(*asked.study_labels(), strict=True))
    words = {1.0: "positive", 0.0: "negative"}
    for row in found[found["Category"] != "Fracture"].itertuples():
        assert row.Label == words[labels[row.Study][asked.categories.index(row.Category)]]
    assert set(found[found["Category"] == "Fracture"]["Label"]) == {""}  # blank in the made data


def test_a_page_is_a_picture_with_the_networks_own_view_in_it(run, asked, tmp_path):
    one = asked.take(np.array([study == asked.studies[0] for study in asked.studies]))
    assert len(one) == 1
    explain_studies(run, one, tmp_path, SHOWN)
    with Image.open(tmp_path / page_name(one.studies[0], "tiny")) as page:
        pixels = np.asarray(page)
    (maps,) = heat_maps(run, [one.file(0)], SHOWN)
    view = np.asarray(Image.fromarray(maps.image).resize((256, 256), Image.Resampling.BICUBIC))
    places = np.argwhere((pixels[..., 0] == view[0, 0]) & (pixels[..., 1] == view[0, 0]))
    assert any(
        (pixels[y : y + 256, x : x + 256] == view[..., None]).all()
        for y, x in places
        if pixels[y : y + 256, x : x + 256].shape == (256, 256, 3)
    )


def test_a_second_call_keeps_what_is_there_and_draws_what_is_not(run, asked, tmp_path, notes):
    explain_studies(run, asked, tmp_path, SHOWN)
    files = sorted(tmp_path.glob("*.png"))
    before = {path: path.read_bytes() for path in files}
    files[1].unlink()
    kept = files[0].stat().st_mtime_ns
    done = explain_studies(run, asked, tmp_path, SHOWN, progress=notes)
    assert (done.drawn, done.kept) == (1, 2)
    assert notes.told == ["2 of 3 pages are there already"]
    assert files[0].stat().st_mtime_ns == kept
    assert {path: path.read_bytes() for path in files} == before
    assert len(index(tmp_path)) == 9


@pytest.mark.parametrize("change", ["categories", "image", "label", "revision"])
def test_a_page_of_other_things_is_drawn_anew(run, asked, tmp_path, monkeypatch, change):
    explain_studies(run, asked, tmp_path / "out", SHOWN)
    categories = SHOWN
    if change == "categories":
        categories = SHOWN[:2]
    elif change == "image":
        moved = shutil.copytree(asked.images, tmp_path / asked.images.name)
        for picture in moved.rglob("*.png"):
            picture.write_bytes(picture.read_bytes())
        asked = read_asked(run, moved / "test.csv", asked.studies)
    elif change == "label":
        asked.labels[:, asked.categories.index("Edema")] = -1
    else:
        monkeypatch.setattr(pages, "REVISION", 10**6)
    done = explain_studies(run, asked, tmp_path / "out", categories)
    assert (done.drawn, done.kept, done.listed) == (3, 0, 3)


def test_killed_anywhere_it_goes_on_to_the_same_pages(run, asked, tmp_path, killed_at, monkeypatch):
    explain_studies(run, asked, tmp_path / "whole", SHOWN[:1])
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    step, out = 0, tmp_path / "killed"
    while True:
        with monkeypatch.context() as patch:
            killed = killed_at(step, patch, lambda: explain_studies(run, asked, out, SHOWN[:1]))
        for path in out.glob("*.png"):
            assert path.read_bytes() == whole[path.name]
        if not killed:
            break
        step += 2
    assert step > 2
    assert {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")} == whole


def test_progress_is_told_of_the_last_view_too(run, asked, tmp_path):
    class Ends(Silent):
        ended = False

        def track(self, items, description, total, unit="steps"):
            yield from super().track(items, description, total, unit)
            self.ended = True

    progress = Ends()
    explain_studies(run, asked, tmp_path, SHOWN[:1], progress=progress)
    assert progress.ended


def test_a_category_that_is_named_twice_is_shown_once(run, asked, tmp_path):
    explain_studies(run, asked, tmp_path, ["Edema", "Edema"])
    assert len(index(tmp_path)) == 3


def test_the_index_lists_pages_of_earlier_calls_too(run, asked, tmp_path):
    first = np.array([study == asked.studies[0] for study in asked.studies])
    explain_studies(run, asked.take(first), tmp_path, SHOWN)
    done = explain_studies(run, asked.take(~first), tmp_path, SHOWN[:1])
    assert (done.drawn, done.listed) == (2, 3)
    assert len(index(tmp_path)) == 3 + 2


def test_lateral_views_are_asked_about_only_where_the_run_learnt_from_them(run, data, tmp_path):
    rows = pd.read_csv(data / "test.csv")
    rows["Frontal/Lateral"] = ["Lateral" if "view2" in path else "Frontal" for path in rows["Path"]]
    rows.loc[0, "Frontal/Lateral"] = "Lateral"  # of a study without another view
    assert (rows["Path"].str.rpartition("/")[0] == rows["Path"][0].rpartition("/")[0]).sum() == 1
    rows.to_csv(tmp_path / "both.csv", index=False)
    assert len(read_asked(run, tmp_path / "both.csv", image_root=data.parent)) == len(rows)
    folder = shutil.copytree(run.path, tmp_path / "frontal")
    recipe = {**run.info["recipe"], "data": {**run.info["recipe"]["data"], "views": "frontal"}}
    write_json(folder / "run.json", {**run.info, "recipe": recipe})
    frontal = read_asked(open_run(folder), tmp_path / "both.csv", image_root=data.parent)
    assert list(frontal.views) == ["Lateral", *["Frontal"] * (len(frontal) - 1)]
    assert set(frontal.studies) == {path.rpartition("/")[0] for path in rows["Path"]}


@pytest.mark.parametrize("columns", [["Path"], ["Path", "Edema"]])
def test_labels_are_shown_where_the_csv_has_them(run, data, tmp_path, columns):
    pd.read_csv(data / "test.csv")[columns][:2].to_csv(tmp_path / "some.csv", index=False)
    table = read_asked(run, tmp_path / "some.csv", image_root=data.parent)
    explain_studies(run, table, tmp_path / "out", SHOWN)
    found = index(tmp_path / "out").set_index("Category")["Label"]
    assert (found.loc["Edema"] != "").all() == ("Edema" in columns)
    assert (found.loc["Cardiomegaly"] == "").all()


# ---- names


def test_a_page_is_named_after_its_study():
    assert (
        page_name("CheXpert-v1.0/valid/patient1/study1", "d_1.cft") == "CheXpert-v1.0_valid_patient1_study1.d_1.cft.png"
    )


@given(st.lists(st.text(st.sampled_from("aB_/.- é\\:%"), max_size=12), unique=True, max_size=30))
def test_names_are_safe_and_differ_where_studies_do(studies):
    names = [page_name(study, head) for study in studies for head in ("a", "a.cft", "ä", "ö")]
    assert len(set(names)) == len(names)
    for name in names:
        assert not set(name) & set("/\\:% é")
        assert not name.startswith((".", "-"))


def test_a_long_path_has_a_name_that_a_disk_takes():
    assert len(page_name("a/" * 500, "tiny")) < 150
    assert page_name("a/" * 500, "tiny") != page_name("a/" * 501, "tiny")


def test_pages_by_other_heads_lie_beside_each_other(run, asked, tmp_path):
    other = open_run(shutil.copytree(run.path, tmp_path / "other"))
    for each in (run, other):
        explain_studies(each, asked, tmp_path / "out", ("Edema",))
    assert len(list((tmp_path / "out").glob("*.png"))) == 6
    assert set(index(tmp_path / "out")["Run"]) == {"tiny", "other"}


def test_a_page_that_was_cut_off_is_drawn_anew(run, asked, tmp_path):
    explain_studies(run, asked, tmp_path, ("Edema",))
    page = tmp_path / page_name(asked.studies[0], "tiny")
    whole = page.read_bytes()
    page.write_bytes(whole[:-100])
    assert explain_studies(run, asked, tmp_path, ("Edema",)).drawn == 1
    assert page.read_bytes() == whole


def test_an_interrupted_call_says_what_is_there_and_lists_it(run, asked, tmp_path, monkeypatch, notes):
    drawn = []

    def draw(*arguments):
        if drawn:
            raise KeyboardInterrupt
        drawn.append(write_page(*arguments))

    monkeypatch.setattr("cxr_cft.evaluation.explain.write_page", draw)
    with pytest.raises(KeyboardInterrupt):
        explain_studies(run, asked, tmp_path, ("Edema",), progress=notes)
    assert notes.told[-1] == f"interrupted; 1 pages lie in {tmp_path}, and the same command goes on"
    assert len(index(tmp_path)) == 1


def test_a_patient_names_all_own_studies(run, data):
    studies = set(read_table(data / "test.csv", data, ()).studies)
    patient = min(studies).split("/")[-2]
    found = read_asked(run, data / "test.csv", [patient])
    assert set(found.studies) == {study for study in studies if f"/{patient}/" in study}


# ---- mistakes


def test_a_study_with_an_image_that_cannot_be_read_is_named_once_all_others_have_their_pages(run, data, tmp_path):
    copy = shutil.copytree(data, tmp_path / data.name)
    table = read_asked(run, copy / "test.csv")
    table.file(1).write_bytes(b"no picture")
    number = len(set(table.studies))
    with pytest.raises(
        DataError, match=rf"^1 of {number} studies have an image that cannot be read, .*: {table.file(1)}"
    ):
        explain_studies(run, table, tmp_path / "out", ("Edema",))
    assert set(index(tmp_path / "out")["Study"]) == set(table.studies) - {table.studies[1]}


def test_what_someone_else_wrote_is_not_overwritten(run, asked, tmp_path):
    for name in (page_name(asked.studies[0], "tiny"), "index.csv"):
        out = tmp_path / name.replace(".", "")
        out.mkdir()
        (out / name).write_text("mine\n")
        with pytest.raises(
            CxrCftError, match=rf"^{out / name} is there and was not written by `cxr-cft explain`; give"
        ):
            explain_studies(run, asked, out)
        assert [(path.name, path.read_text()) for path in out.iterdir()] == [(name, "mine\n")]


def test_a_picture_of_someone_else_is_no_page(tmp_path):
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png")
    assert read_page(tmp_path / "a.png") is None
    assert read_page(tmp_path / "none.png") is None


def test_a_file_is_no_folder(run, asked, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(CxrCftError, match=rf"^{tmp_path / 'out'} is a file; give a folder to write pages into$"):
        explain_studies(run, asked, tmp_path / "out")


def test_nothing_is_made_for_an_unknown_category(run, asked, tmp_path):
    with pytest.raises(RunError, match=r"^run tiny does not predict 'Oedema' \(did you mean 'Edema'\?\)"):
        explain_studies(run, asked, tmp_path / "out", ["Oedema"])
    assert not (tmp_path / "out").exists()


def test_an_unknown_study_is_named_with_the_nearest(run, data):
    first = read_table(data / "test.csv", data, ()).studies[0]
    with pytest.raises(DataError, match=rf"test\.csv has no study {first}x \(did you mean '{first}'\?\)$"):
        read_asked(run, data / "test.csv", [f"{first}x"])


def test_a_study_may_be_named_by_its_end(run, data):
    first = read_table(data / "test.csv", data, ()).studies[0]
    assert set(read_asked(run, data / "test.csv", ["/".join(first.split("/")[-2:]) + "/"]).studies) == {first}


def test_missing_images_are_told_before_anything_is_drawn(run, data, tmp_path):
    rows = pd.read_csv(data / "test.csv")[["Path"]]
    rows.loc[1, "Path"] = rows["Path"][1].replace("view", "wiev")
    rows.to_csv(tmp_path / "some.csv", index=False)
    with pytest.raises(DataError, match=r"some\.csv: 1 of 24 images are missing: .*wiev"):
        read_asked(run, tmp_path / "some.csv", image_root=data.parent)


# ---- what a page looks like


@pytest.mark.parametrize(("views", "categories"), [(1, 1), (1, 14), (2, 14), (5, 3), (12, 2)])
def test_pages_have_a_screens_shape_whatever_there_is_to_show(run, asked, views, categories):
    names = run.categories[:categories]
    maps = list(heat_maps(run, [asked.file(0)] * views, names))
    findings = [Finding(name, 0.5, [0.5] * views, "positive", [""] * views) for name in names]
    page = draw_sheet(
        "a study's path " * 40, "a run " * 40, ["a view " * 20] * views, maps, findings, ["a remark " * 90]
    )
    assert page.width < 3400
    assert page.height < 3400
    assert 0.5 < page.width / page.height < 3 or categories < 14


def test_a_picture_and_two_categories_stand_in_one_row(run, asked):
    maps = list(heat_maps(run, [asked.file(0)], SHOWN[:2]))
    findings = [Finding(name, 0.5, [0.5], "", [""]) for name in SHOWN[:2]]
    page = draw_sheet("study", "run", ["view"], maps, findings, [])
    assert 3 * 256 < page.width < 4 * 256
    assert page.height < 2 * 256
