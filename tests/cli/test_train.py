"""`train-all` keeps what is complete, resumes what is not, goes on after a failure, and looks at its input first."""

import pytest

from cxr_cft.cli.main import run


@pytest.fixture
def recipes(recipe_file, monkeypatch):
    """Three small recipes in the place of the shipped ones; the second asks for a size that its backbone refuses."""
    small = recipe_file.read_text()
    broken = small.replace("test_resnet", "vit_tiny_patch16_224")
    made = {"demo_a": small, "first": small, "broken": broken, "last": small.replace("test_resnet", "test_convnext")}
    monkeypatch.setattr("cxr_cft.settings.shipped_recipes", lambda: made)
    return made


def test_every_recipe_but_the_demos_is_trained_and_a_failure_is_told_at_the_end(recipes, data, tmp_path, capsys):
    command = ["train-all", "--data", str(data), "--weights", str(tmp_path)]
    assert run(command) == 1
    told = capsys.readouterr()
    assert {path.parent.name for path in tmp_path.glob("*/run.json")} == {"first", "last"}
    assert "broken: failed: model: timm's vit_tiny_patch16_224 does not take 32 px" in told.out
    assert told.err.splitlines()[-1] == "error: 1 of 3 recipes failed, as told above: broken"
    before = (tmp_path / "first" / "run.json").read_bytes()
    recipes.pop("broken")
    assert run([*command, "--set", "seed=3"]) == 0
    assert "first: complete (with other settings than now), kept" in capsys.readouterr().out
    assert (tmp_path / "first" / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--data", "nowhere"], "nowhere is no folder"), (["--set", "training.epoch=1"], "unknown key training.epoch")],
)
def test_input_is_looked_at_once_and_before_what_is_complete(recipes, data, tmp_path, capsys, arguments, message):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "run.json").write_text("{}")
    command = ["train-all", "--data", str(data), "--weights", str(tmp_path), *arguments]
    assert run(command) == 1
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert message in told.err
    assert not told.out
    assert recipes
