"""Files that are there whole or not at all."""

import os

import pytest

from mmkeras.core import files


def test_what_is_renamed_has_reached_the_disk(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, c=call: (done.append(n), c(*a)))
    files.write_text(tmp_path / "a.txt", "Grüße")
    assert done == ["fsync", "replace"]
    assert (tmp_path / "a.txt").read_bytes() == "Grüße".encode()


def test_nothing_is_left_of_what_failed(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        files.write_text(tmp_path / "a.txt", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_all_of_a_folder_is_flushed(tmp_path, monkeypatch):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "file").write_text("x")
    held = []
    monkeypatch.setattr(os, "fsync", lambda handle: held.append(os.fstat(handle).st_ino))
    files.flush(tmp_path / "in")
    deep = tmp_path / "in" / "deep"
    assert set(held) == {p.stat().st_ino for p in (tmp_path / "in", deep, deep / "file")}
