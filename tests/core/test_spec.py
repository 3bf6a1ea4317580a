"""Specs in a file: written whole or not at all, read back equal."""

import os

import pytest

from mmkeras.core import Image, Text, Vector, from_json, load, save
from mmkeras.core.spec import from_config
from tests.core.errors import says

SPECS = {
    "z": Text(vocabulary=("[PAD]", "[UNK]", "naïve", "\u2028")),
    "a": Image(size=(3, 4)),
    "m": Vector(size=2, mean=(1.5, 0), scale=(2, 1)),
}


def test_save_and_load(tmp_path):
    path = tmp_path / "modalities.json"
    save(SPECS, path)
    assert load(path) == SPECS
    assert list(load(str(path))) == ["z", "a", "m"]
    assert os.listdir(tmp_path) == ["modalities.json"]  # no .tmp is left
    save({"a": Image()}, str(path))
    assert load(path) == {"a": Image()}
    assert os.listdir(tmp_path) == ["modalities.json"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "modalities.json"
    save(SPECS, path)
    with pytest.raises(AttributeError):
        save({"a": "not a spec"}, path)
    assert load(path) == SPECS

    def fails(*_):
        raise OSError("disk")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk"):
        save({"a": Image()}, path)
    assert load(path) == SPECS  # the new text went to another file


def test_unknown_kind_names_the_nearest():
    with says(ValueError, "Unknown modality kind 'imag'", "Did you mean 'image'?", "audio"):
        from_config({"kind": "imag"})
    with says(
        ValueError,
        "Unknown modality kind None",
        "Known: audio, image, series, several, table, text, vector, video",
    ):
        from_json('{"modalities": {"x": {}}}')


def test_unknown_argument_names_the_nearest():
    with says(ValueError, "'text' has no argument 'lenght'", "Did you mean 'length'?"):
        from_config({"kind": "text", "lenght": 3})


def test_unknown_inner_kinds_and_arguments_name_the_nearest():
    inner = {"kind": "imag"}
    with says(ValueError, "Unknown modality kind 'imag'", "Did you mean 'image'?"):
        from_config({"kind": "several", "modality": inner})
    inner = {"kind": "image", "sizes": 3}
    with says(ValueError, "'image' has no argument 'sizes'", "Did you mean 'size'?"):
        from_config({"kind": "several", "modality": inner, "count": 2})


def test_from_config_leaves_the_config_alone():
    config = Image().get_config()
    from_config(config)
    assert config["kind"] == "image"
