"""Six modalities in one fit, on a few scenes, exported and asked with less and less."""

import json
import re

import numpy as np

from experiments import six_modalities as six
from tests.experiments.test_real_data import check_result, run


def test_columns_hide_what_their_row_does_not_tell():
    rows = six.columns(200, seed=5)
    shares = [np.mean([cell is None for cell in rows[name]]) for name in ("picture", "track")]
    assert all(abs(share - six.MISSING) < 0.1 for share in shares)
    for track, direction in zip(rows["track"], rows["direction"], strict=True):
        if track is not None:  # 7.5 pixels in 15 steps, noise of 0.7 in the difference
            step = np.sign(np.round((track[-1] - track[0]) / 7.5))
            assert tuple(step) == six.scenes.DIRECTIONS[direction]
    assert all(c is None or p is not None for c, p in zip(rows["x_2"], rows["x_1"], strict=True))


def test_quick(tmp_path):
    said = run("six_modalities", "--out", tmp_path, "--quick", "--seeds", "0", "--rows", "all_six")
    metrics = ("all three", *(f"{head} accuracy" for head in six.HEADS))
    check_result(tmp_path, "six_modalities", ["all_six", "majority"], metrics)
    parity = json.loads((tmp_path / "parity.json").read_text())
    assert max(parity["largest_absolute_difference"].values()) < 1e-4
    for given in (", ".join(six.SPECS), "caption, track", "sound", "nothing"):
        assert re.search(rf"with {given}: shape \w+ .*, color \w+ .*, direction \w+ \(\d", said)
