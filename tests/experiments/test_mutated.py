"""Requests that went wrong, a few hundred of them."""

import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from experiments import mutated, mutations
from mmkeras.export.answer import Loaded

COUNT = 200
NAMES = ("picture", "views", "clip", "question", "sound", "numbers", "motion", "facts")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:  # `serving_default` alone is asked
        for more in ("embedder", "explainer"):
            patch.setattr(f"mmkeras.export.signatures.{more}", lambda *args: None)
        return mutated.export(tmp_path_factory.mktemp("mutated"), NAMES)


def test_no_request_does_harm(exported):
    path, data = exported
    assert {spec.kind for spec in data.modalities.values()} == set(mk.core.modalities.KINDS)
    result = mutated.ask(path, data, COUNT, seed=1)
    assert result["failures"] == []
    assert sum(result["total"].values()) == COUNT
    assert set(result["total"]) == {"bad_input", "readable", "refused"}
    rows = {row.pop("row"): row for row in result["rows"]}
    assert sum(sum(row.values()) for row in rows.values()) == COUNT
    for name in ("image: foreign", "audio: rate", "text: not_utf8", "video: frames"):
        assert set(rows[name]) == {"bad_input"}
    # A header of gigabytes would show; a picture below the limit takes 100 MB.
    assert result["peak_rss_mb"]["after"] - result["peak_rss_mb"]["before"] < 500


def test_what_must_not_be_is_told():
    class Model:
        def __init__(self, answer):
            self.answer = answer

        def ask(self, request):
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    good = {"label": np.zeros((2, 2), np.float32), "bad_input": np.zeros((2, 1), bool)}
    marked = good | {"bad_input": np.array([[False], [True]])}
    cases = {
        "readable": good,
        "bad_input": marked,
        "not finite": good | {"label": np.full((2, 2), np.nan, np.float32)},
        "good row changed": good | {"label": np.float32([[0, 1e-30], [0, 0]])},
        "refused": ValueError("the input 'x' must have 3 numbers"),
        "failed": RuntimeError("what"),
    }
    for became, answer in cases.items():
        assert mutated.outcome(Model(answer), {"x": None}, good, "x")[0] == became
    for text in ("no word of it", "the input 'y' must have 3 numbers"):
        assert mutated.outcome(Model(ValueError(text)), {}, good, "x")[0] == "failed"
    changed = marked | {"bad_input": ~marked["bad_input"]}
    assert mutated.outcome(Model(changed), {}, good, "x")[0] == "good row changed"


def test_items_of_another_type_or_of_several_shapes_are_refused_by_name(exported):
    cases = {
        "question": ([1.5], r"string items .* Received: items of type \['float'\]"),
        "picture": ([None], r"Received: items of type \['NoneType'\]"),
        "numbers": ([["a", "b", "c"]], "float32 items .* could not convert"),
        "motion": ([[[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]]], "inhomogeneous"),
    }
    with Loaded(exported[0]) as model:
        for name, (value, text) in cases.items():
            with pytest.raises(ValueError, match=f"The input '{name}' must hold .*{text}"):
                model.ask({name: value})


def test_the_pictures_that_are_made_are_real():
    clip = np.arange(2 * 13 * 17, dtype=np.uint8).reshape(2, 13, 17) % 128
    np.testing.assert_array_equal(tf.io.decode_gif(mutations.gif(clip))[..., 0], 2 * clip)
    small = tf.io.decode_png(mutations._bomb(64))
    assert small.shape == (64, 64, 1) and not small.numpy().any()
