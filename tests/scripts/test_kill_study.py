"""Three SIGKILLs, one of them aimed at a save: the resumed runs end as if nothing had happened."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def test_killed_runs_end_bit_equal_without_a_hand(tmp_path):
    flags = ["--kills", "3", "--kinds", "full", "--docs", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "kill_study.py"), *flags], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    result = json.loads((tmp_path / "kill_study.json").read_text())
    assert len(result["kills"]) == 3 and any(kill["aim"] == "saving" for kill in result["kills"])
    assert all(run["ended"] and not run["differs"] for run in result["runs"])
    assert sum(kill["damaged"] for kill in result["kills"]) == 0


@pytest.mark.parametrize("file", ["kill_study.json"])
def test_the_recorded_study_has_no_run_that_differs(file):
    result = json.loads((SCRIPTS.parent / "docs" / "results" / file).read_text())
    assert len(result["kills"]) >= 50 and not any(run["differs"] for run in result["runs"])
