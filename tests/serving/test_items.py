"""What people hold becomes the tensors of a request; errors name input and row. No TensorFlow."""

import io
import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

import mmkeras as mk
from mmkeras.serving.items import column
from mmkeras.serving.media import png, wav
from mmkeras.serving.signature import Input, signature

BYTES = np.dtype(object)


def text(*shape, default=True):
    sizes = [size or 1 for size in shape]
    return Input(BYTES, shape, np.full(sizes, b"", object) if default else None)


def numbers(*shape, dtype="float32", fill=np.nan):
    return Input(np.dtype(dtype), shape, np.full([size or 1 for size in shape], fill, dtype))


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 1), (3, 5, 3), (3, 5, 4)])
def test_png_is_read_back_by_others_bit_for_bit(rng, shape):
    pixels = rng.integers(0, 256, shape).astype("uint8")
    read = Pillow.open(io.BytesIO(png(pixels)))
    np.testing.assert_array_equal(np.asarray(read), pixels.reshape(np.asarray(read).shape))
    assert read.mode == {(3, 5): "L", (3, 5, 1): "L", (3, 5, 3): "RGB"}.get(shape, "RGBA")


@pytest.mark.parametrize("pixels", [np.zeros((3, 5)), np.zeros((3, 5, 2), "uint8"), np.uint8([1])])
def test_what_is_no_picture(pixels):
    with pytest.raises(ValueError, match=r"must be uint8 \(H, W\).*Received: .*cast it"):
        png(pixels)


def test_wav_is_16_bit_mono():
    with wave.open(io.BytesIO(wav(np.array([0.0, 0.5, -2.0, 1.0]), 8000))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        assert np.frombuffer(file.readframes(4), "<i2").tolist() == [0, 16384, -32768, 32767]
    whole = np.int16([3, -4])
    assert wav(whole, 8000).endswith(whole.astype("<i2").tobytes())
    with pytest.raises(ValueError, match=r"floats in \[-1, 1\] or int16.*\(2, 2\).*Mix"):
        wav(np.zeros((2, 2)), 8000)


def test_all_that_stands_for_one_item(tmp_path, rng):
    pixels = rng.integers(0, 256, (4, 6, 3)).astype("uint8")
    (tmp_path / "a.bin").write_bytes(b"\x00file")
    given = [b"\xff", "Grüße", tmp_path / "a.bin", pixels, Pillow.fromarray(pixels), None]
    made = column("x", text(), given, 6)
    assert made.dtype == object and made.shape == (6,)
    assert made.tolist() == [b"\xff", "Grüße".encode(), b"\x00file", png(pixels), png(pixels), b""]
    assert column("x", text(), None, 2).tolist() == [b"", b""]
    palette = Pillow.fromarray(pixels).convert("P")
    (shown,) = column("x", text(), [palette], 1)
    assert np.asarray(Pillow.open(io.BytesIO(shown))).shape == (4, 6, 3)


def test_cells_and_several_items():
    cells = column("facts", text(3), [["a", 1.5, None], [2, np.nan, b"c"], None], 3)
    assert cells.tolist() == [[b"a", b"1.5", b""], [b"2", b"", b"c"], [b"", b"", b""]]
    with pytest.raises(ValueError, match="Input 'facts', row 1: a row must hold 3 items.*2.*None"):
        column("facts", text(3), [["a", 1, 2], ["a", 1]], 2)
    with pytest.raises(ValueError, match="row 0: a row must hold 3 items. Received: str"):
        column("facts", text(3), ["abc"], 1)


def test_cells_are_text_as_in_training():
    frame = {
        "height": [3.0, np.float32(-2.0), 1.5, True, np.nan, None],
        "colour": [7.0, np.int64(7), " red\n", np.bool_(False), "\u00a0x", pd.NA],
    }
    spec = mk.Table(numeric=("height",), categorical=("colour",))
    data = mk.data.table(frame, {"facts": spec})
    cells = column("facts", text(2), list(zip(*frame.values(), strict=True)), 6)
    np.testing.assert_array_equal(
        np.char.strip(cells.astype("S")), data.raw("train", range(6))["facts"]
    )
    assert cells[:4].tolist() == [
        [b"3", b"7"],
        [b"-2", b"7"],
        [b"1.5", b" red\n"],
        [b"True", b"False"],
    ]
    decode = mk.data.decoder(data.modalities["facts"])
    (value, mask), (same, _) = decode(cells), decode(data.raw("train", range(6))["facts"])
    np.testing.assert_array_equal(value, same)
    assert value[0, 1] == value[1, 1] and mask.numpy().sum() == 9
    height = np.float32([3, -2, 1.5, 1])
    np.testing.assert_allclose(value[:4, 0], (height - height.mean()) / height.std(), rtol=1e-6)


def test_numbers_are_checked_and_filled_up():
    made = column("motion", numbers(None, 2), [np.ones((3, 2)), [[4, 5]], None], 3)
    assert made.dtype == np.float32 and made.shape == (3, 3, 2)
    assert np.isfinite(made).sum(axis=(1, 2)).tolist() == [6, 2, 0]
    pair = column("numbers", numbers(2), [[1, None], (2.5, 3)], 2)
    np.testing.assert_array_equal(pair, np.float32([[1, np.nan], [2.5, 3]]))
    with pytest.raises(ValueError, match=r"'numbers', row 1: its shape must be \(2\).*\(3,\)"):
        column("numbers", numbers(2), [[1, 2], [1, 2, 3]], 2)
    with pytest.raises(ValueError, match="'numbers', row 0: it must hold float32 numbers"):
        column("numbers", numbers(2), [["1", "2"]], 1)
    pixels = numbers(2, dtype="uint8", fill=0)
    assert column("pixels", pixels, [[0, 255]], 1).dtype == np.uint8
    with pytest.raises(ValueError, match="'pixels', row 0: it must hold uint8 numbers.*256"):
        column("pixels", pixels, [[0, 256]], 1)


def test_sequences_without_a_step_keep_their_channels():
    made = column("motion", numbers(None, 2), [np.zeros((0, 2)), np.zeros((0, 2))], 2)
    assert made.shape == (2, 1, 2) and np.isnan(made).all()


def test_a_text_that_names_a_picture_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.JPG").write_bytes(b"picture")
    assert column("x", text(), ["b.jpg", b"a.JPG", Path("a.JPG")], 3).tolist() == [
        b"b.jpg",
        b"a.JPG",
        b"picture",
    ]
    with pytest.raises(ValueError, match=r"'x', row 1: .*names a file.*'a.JPG'.*pathlib.Path"):
        column("x", text(), ["b.jpg", "a.JPG"], 2)


def test_errors_name_input_and_row(tmp_path):
    with pytest.raises(FileNotFoundError, match="Input 'image', row 1: .*nothing.png"):
        column("image", text(), [b"", tmp_path / "nothing.png"], 2)
    with pytest.raises(TypeError, match="Input 'image', row 0: .*must be bytes.*Received: float"):
        column("image", text(), [1.5], 1)
    with pytest.raises(ValueError, match="Input 'image', row 0: A picture must be uint8"):
        column("image", text(), [np.zeros((2, 2))], 1)
    with pytest.raises(ValueError, match="Input 'question', row 0: .*surrogates"):
        column("question", text(), ["\ud800"], 1)
    with pytest.raises(ValueError, match="Input 'image', row 0: it has no default"):
        column("image", text(default=False), None, 1)


def metadata(**defaults):
    def info(dtype, *sizes):
        return {"dtype": dtype, "tensor_shape": {"dim": [{"size": str(n)} for n in sizes]}}

    held = {
        "inputs": {"image": info("DT_STRING", -1), "motion": info("DT_FLOAT", -1, -1, 2)},
        "outputs": {"scores": info("DT_FLOAT", -1, 3), "label": info("DT_STRING", -1)},
        "defaults": {
            "image": {**info("DT_STRING", 1), "string_val": ["aGk="]},
            "motion": {**info("DT_FLOAT", 1, 1, 2), "float_val": ["NaN"], **defaults},
        },
    }
    return {"metadata": {"signature_def": {"signature_def": {"serving_default": held}}}}


def test_signature_of_the_metadata():
    read = signature(metadata(), "serving_default")
    assert read.inputs["image"].default.tolist() == b"hi" and read.inputs["image"].shape == ()
    assert read.inputs["motion"].shape == (None, 2) and read.inputs["motion"].dtype == np.float32
    assert np.isnan(read.inputs["motion"].default).all()
    assert read.inputs["motion"].default.shape == (1, 2)
    assert read.outputs == {"label": BYTES, "scores": np.dtype("float32")}
    content = {"float_val": [], "tensor_content": "AACAPwAAAEA="}
    read = signature(metadata(**content), "serving_default")
    assert read.inputs["motion"].default.tolist() == [[1.0, 2.0]]
    with pytest.raises(ValueError, match="no signature 'embed'. It has: serving_default"):
        signature(metadata(), "embed")
    wrong = metadata()
    held = wrong["metadata"]["signature_def"]["signature_def"]["serving_default"]
    held["outputs"]["scores"]["dtype"] = "DT_BFLOAT16"
    with pytest.raises(ValueError, match="'scores' must be one of DT_STRING.*DT_BFLOAT16"):
        signature(wrong, "serving_default")


def test_the_client_needs_numpy_alone(tmp_path):
    """In a process whose path holds the standard library, NumPy and mmkeras, and nothing else."""
    import mmkeras

    numpy = Path(np.__file__).parent
    for source in (numpy, numpy.parent / "numpy.libs", Path(mmkeras.__file__).parent):
        if source.exists():
            (tmp_path / source.name).symlink_to(source)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import mmkeras as mk\n"
        "client = mk.serving.Client('http://127.0.0.1:9', 'vqa', retries=0)\n"
        "try:\n"
        "    client.predict({'question': ['?']})\n"
        "except ConnectionError as error:\n"
        "    print(error)\n"
        "try:\n"
        "    mk.serving.Client('grpc://127.0.0.1:9', 'vqa')\n"
        "except ImportError as error:\n"
        "    print(error)\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'tensorflow', 'keras', 'wrapt'}))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert "Is the server up" in done.stdout and "mmkeras[serving]" in done.stdout
    assert done.stdout.strip().endswith("[]")
