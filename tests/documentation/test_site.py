"""The documentation site: it builds without a warning, its links lead somewhere, and it loads nothing from outside."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def check(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from check_site import check

    return check


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="the `docs` extra is not installed")
def test_the_site_builds_and_its_links_lead_somewhere(check, tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wrong, seen = check(tmp_path)
    assert wrong == [] and seen > 1000


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ('<a href="gone.html">', "not there"),
        ('<a href="other.html#gone">', "no such place"),
        ('<script src="https://cdn.example/x.js">', "loads https://cdn.example/x.js"),
        ('<link rel="stylesheet" href="//fonts.example/x.css">', "loads //fonts.example/x.css"),
    ],
)
def test_what_is_wrong_with_a_page_is_named(check, tmp_path, body, complaint):
    (tmp_path / "index.html").write_text(body)
    (tmp_path / "other.html").write_text('<p id="here">')
    assert [complaint in line for line in check(tmp_path)[0]] == [True]


def test_links_to_pages_places_and_other_sites_are_fine(check, tmp_path):
    body = '<a href="other.html#here"><a href="#"><a href="https://example.org"><img src="data:image/png;base64,">'
    (tmp_path / "index.html").write_text(body)
    (tmp_path / "other.html").write_text('<p id="here">')
    assert check(tmp_path) == ([], 2)
