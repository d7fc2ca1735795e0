"""A bundle's README says what its predict.py takes, and what its container must have."""

import re
from dataclasses import replace

import pytest

from cxr_cft.submission import predict
from cxr_cft.submission.contents import contents_of
from cxr_cft.submission.needs import installed_libraries, oldest_glibc
from cxr_cft.submission.readme import readme


@pytest.fixture(scope="module")
def page(bundle):
    return (bundle.folder / "README.md").read_text()


def test_the_competitions_command_line_and_the_plain_one_are_in_it(page):
    assert "\npython src/predict.py <input-data-csv-filename> <output-prediction-csv-path>\n" in page
    assert "\npython predict.py INPUT.csv OUTPUT.csv\n" in page


def test_every_option_of_predict_has_its_line_and_there_is_no_other(page, capsys):
    with pytest.raises(SystemExit):
        predict.main(["--help"])
    there = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", capsys.readouterr().out, flags=re.MULTILINE)) - {"--help"}
    assert there == set(re.findall(r"^\| `(--[a-z-]+)", page, flags=re.MULTILINE))


def test_every_library_has_its_line_and_the_glibc_that_serves_all(page):
    libraries = installed_libraries()
    for each in libraries:
        assert f"| {each.name} | {each.version} | {each.needed_by or 'predict.py'} | " in page
    glibc, silent = oldest_glibc(libraries)
    assert silent or f"- glibc {glibc} or later.\n" in page


def test_what_an_installation_does_not_say_is_called_unknown(ensemble):
    silent = tuple(replace(each, tags=frozenset(), named=frozenset()) for each in installed_libraries())
    told = readme("made", contents_of(ensemble), silent, 1, wheels=False)
    assert "- glibc: unknown (unknown for numpy, " in told
    assert re.search(r"these libraries support by their metadata:\n  unknown\.", told)
    partly = (silent[0], *installed_libraries()[1:])
    assert re.search(
        r"- glibc \d\.\d+ or later \(unknown for numpy: ",
        readme("made", contents_of(ensemble), partly, 1, wheels=False),
    )


def test_the_size_is_the_folders_in_megabytes_rounded_up(ensemble):
    contents, libraries = contents_of(ensemble), installed_libraries()
    assert "\n- 3 MB of disk" in readme("made", contents, libraries, 2_000_001, wheels=False)


def test_lines_are_at_most_120_characters_beyond_tables_and_names(page):
    assert [line for line in page.splitlines()[4:] if len(line) > 120 and not line.startswith("|")] == []
