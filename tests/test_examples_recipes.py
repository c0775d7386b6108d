"""Every recipe is a run that begins: checked by a dry run, with tiny peers in place of those of the Hub."""

from pathlib import Path

import pytest
import yaml

from pst_rl.cli.main import main
from pst_rl.peers.words import read_peers

RECIPES = sorted((Path(__file__).parents[1] / "examples" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_begins(recipe, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load(recipe.read_text())
    assert len(read_peers(content["peers"])) >= 2
    instead = ["--peers", "tiny", "--dataset", "tiny", "--test-questions", "4", "--report-to", "none"]
    assert main(["train", "--config", str(recipe), *instead, "--dry-run", "--tokens-per-second", "9"]) == 0
    said = capsys.readouterr().out
    assert f"responses of at most {content['max_completion_length']} tokens" in said
    assert recipe.read_text().startswith("# ") and f"examples/recipes/{recipe.name}" in recipe.read_text()


def test_there_are_recipes():
    assert len(RECIPES) >= 5
