"""One way to write a file whole, and digests that old caches and checkpoints still match."""

import os
import re
from hashlib import sha256
from pathlib import Path

import pytest

from pst_rl.files import EDGE, digest, edges_digest, file_digest, files_digest, json_digest, write_atomically

PACKAGE = Path(__file__).parents[1] / "pst_rl"


class Broken(Exception):
    pass


def broken(*args):
    raise Broken


# Whole or not at all


@pytest.mark.parametrize("content", ["é\n", "é\n".encode(), lambda path: path.write_text("é\n", encoding="utf-8")])
def test_text_bytes_and_writers_make_the_same_file_in_a_new_folder(tmp_path, content):
    path = write_atomically(tmp_path / "new" / "a.txt", content)
    assert path.read_bytes() == "é\n".encode()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("step", ["the writer", "fsync", "replace"])
def test_a_write_that_breaks_off_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, step):
    path = write_atomically(tmp_path / "a", "old")
    if step != "the writer":
        monkeypatch.setattr(os, step, broken)

    def write(beside):
        beside.write_text("ne")
        if step == "the writer":
            raise Broken

    with pytest.raises(Broken):
        write_atomically(path, write)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_the_content_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    done = []
    real = os.replace
    monkeypatch.setattr(os, "fsync", lambda file: done.append(os.fstat(file).st_size))
    monkeypatch.setattr(os, "replace", lambda *names: done.append("named") or real(*names))
    write_atomically(tmp_path / "a", "four")
    assert done == [4, "named"]


def test_no_other_module_writes_atomically_or_digests_files_by_itself():
    for path in PACKAGE.rglob("*.py"):
        if path != PACKAGE / "files.py":
            assert re.findall(r"os\.replace|hashlib\.file_digest", path.read_text()) == [], path


# Digests: values that are on disks already


def test_a_digest_is_the_beginning_of_the_sha_256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, "abc"
    assert digest("abc") == digest(b"abc") == file_digest(tmp_path / "a") == known
    assert digest("abc", 8) == known[:8]


def test_a_digest_of_json_is_that_of_its_text():
    assert json_digest(["é", 1, None], 16) == digest('["\\u00e9", 1, null]', 16)
    assert json_digest({"b": 1, "a": 2}, sort_keys=True) == digest('{"a": 2, "b": 1}')
    assert json_digest([{3}], default=lambda value: sorted(value)) == digest("[[3]]")


@pytest.fixture
def two(tmp_path):
    """Two files, the second longer than both of its edges."""
    (tmp_path / "a.bin").write_bytes(b"abc")
    (tmp_path / "b.bin").write_bytes(bytes(EDGE) + b"middle" + bytes(EDGE))
    return [tmp_path / "b.bin", tmp_path / "a.bin"]


def test_the_digest_of_files_reads_names_and_every_byte(two):
    b, a = two
    parts = [path.name.encode() + sha256(path.read_bytes()).digest() for path in (a, b)]
    before = files_digest(two)
    assert before == sha256(b"".join(parts)).hexdigest()[:32] == files_digest([a, b])
    assert files_digest([a], "base") == sha256(parts[0] + b"base").hexdigest()[:32]
    b.write_bytes(b.read_bytes().replace(b"middle", b"MIDDLE"))
    assert files_digest(two) != before


def test_the_digest_of_edges_reads_names_lengths_and_a_mib_at_each_end(two):
    b, a = two
    zeros = bytes(EDGE)
    # "a.bin" is shorter than an edge: it is read once as its head, and once more as its tail from the beginning on.
    by_hand = sha256(b"a.bin 3 " + b"abc" + b"abc" + b"b.bin %d " % (2 * EDGE + 6) + zeros + zeros).hexdigest()[:16]
    assert edges_digest(two) == by_hand
    b.write_bytes(b.read_bytes().replace(b"middle", b"MIDDLE"))
    assert edges_digest(two) == by_hand
    a.write_bytes(b"abd")
    assert edges_digest(two) != by_hand
