"""`cxr-cft explain`: pages from a command, and mistakes in one line."""

import pandas as pd
import pytest

from cxr_cft.cli.main import run as command


@pytest.fixture
def explained(run, data, tmp_path):
    """The exit status of the command for test.csv."""

    def explained(*words, csv=data / "test.csv", name="tiny"):
        fixed = ["explain", name, "--csv", csv, "--out", tmp_path / "out", "--weights", run.path.parent]
        return command([*map(str, fixed), *words])

    return explained


@pytest.fixture
def studies(data):
    return sorted({path.rpartition("/")[0] for path in pd.read_csv(data / "test.csv")["Path"]})


def test_pages_of_the_studies_and_categories_that_are_asked_for(explained, studies, tmp_path, capsys):
    some = [word for study in studies[:2] for word in ("--study", study)]
    assert explained(*some, "--categories", "Edema, Cardiomegaly", "--head", "trained") == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
    out = capsys.readouterr().out
    assert out == f"{tmp_path}/out: drawn 2\n{tmp_path}/out/index.csv: lists 2\n"
    rows = pd.read_csv(tmp_path / "out" / "index.csv")
    assert list(rows["Category"]) == ["Edema", "Cardiomegaly"] * 2
    assert explained("--study", studies[0], "--study", studies[2], "--categories", "Edema") == 0
    assert explained("--study", studies[2], "--categories", "Edema") == 0
    out = capsys.readouterr().out
    assert out.endswith("out: drawn 0, kept 1\n" + f"{tmp_path}/out/index.csv: lists 3, 2 of other calls\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--head", "tuned"), "run tiny has no tuned heads; run `cxr-cft cft tiny` first"),
        (("--categories", "Edem"), "run tiny does not predict 'Edem' (did you mean 'Edema'?); its categories are"),
        (("--study", "patient1"), "has no study patient1"),
    ],
)
def test_a_mistake_ends_with_1_and_one_line(explained, capsys, words, message):
    assert explained(*words) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_an_unknown_run_is_named_with_those_that_there_are(explained, capsys):
    assert explained(name="tny") == 1
    assert "(did you mean 'tiny'?)" in capsys.readouterr().err


def test_another_head_is_wrong_usage(explained):
    assert explained("--head", "best") == 2
