"""`--quick` runs of the benchmarks; peers that are not installed are named in the table."""

import json

import numpy as np
import pytest

from benchmarks import input as bench
from benchmarks import input_data, input_peers
from mmkeras.layers import LogMel
from tests.data import files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench")
    input_data.make(path / "quick_data", pictures=64, lines=512, sounds=64)
    return path


def test_quick_input(folder, capsys):
    result = bench.main(["--out", str(folder), "--quick", "--only", "P3"])
    assert json.loads((folder / "result.json").read_text()) == result
    named = {row["row"]: row for row in result["rows"]}
    row = named["P3 word pieces / HF tokenizers"]
    assert row["ours"] > 0 and row["target"] == 8.0 and row["unit"] == "MB/s"
    if row["peer"] is None:
        assert "mmkeras[bench]" in row["note"]
    else:
        assert named["P3 lines with identical ids"]["ratio"] >= 0.999
    ids = np.load(folder / "quick_data" / "ids.npy")
    assert ids.shape == (512, 32) and (ids[:, 0] > 1).all()
    assert "| P3 word pieces" in capsys.readouterr().out


def test_unknown_rows_are_refused(folder):
    with pytest.raises(ValueError, match="No row has the text of --only"):
        bench.main(["--out", str(folder), "--quick", "--only", "pictures"])


def test_data_are_a_function_of_the_seed_and_look_like_photos(folder):
    data = folder / "quick_data"
    field = input_data.texture(np.random.default_rng(0), 256)
    first, again = (input_data.picture(np.random.default_rng(1), field, 60, 80) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.std() > 20
    steps = np.abs(np.diff(first.astype(int), axis=1))
    assert np.median(steps) < 10 < steps.max()  # smooth, with edges
    sizes = [path.stat().st_size for path in (data / "jpeg").iterdir()]
    assert len(sizes) == 64 and 35_000 < np.mean(sizes) < 75_000
    lines = input_data.read_lines(str(data))
    assert len(lines) == 512 and 40 < np.mean([len(line) for line in lines]) < 90
    vocabulary = input_data.read_lines(str(data), "vocabulary.txt")
    assert len(vocabulary) == len(set(vocabulary)) == 30_000
    assert all(files.samples_of(item).size for item in input_data.read_sounds(str(data)))


def test_peers_compute_what_we_compute():
    rng = np.random.default_rng(0)
    boxes = np.array([input_peers.crop(375, 500) for _ in range(200)])
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 0] + boxes[:, 2] <= 375).all()
    assert (boxes[:, 1] + boxes[:, 3] <= 500).all()
    np.testing.assert_allclose(input_peers.mel_matrix(), LogMel(8000).matrix, atol=1e-6)
    samples = rng.integers(-99, 99, 50)
    np.testing.assert_array_equal(
        input_peers.samples_by_hand(files.wav(samples)), samples.astype("float32") / 32768
    )
