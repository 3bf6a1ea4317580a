"""The table of formats: halving finds what does not convert."""

import numpy as np
import pytest

from benchmarks import formats as bench


def test_halving_finds_what_fails(monkeypatch):
    tries = []

    def differences(names, form):
        tries.append(names)
        if "bad" in names:
            raise ValueError(f"no {form}")
        return dict.fromkeys(names, 1e-7)

    monkeypatch.setattr(bench, "differences", differences)
    found = dict(bench.tried(lambda names: (names,), ("a", "b", "bad", "c", "d"), "ONNX"))
    assert found == {"a": 1e-7, "b": 1e-7, "c": 1e-7, "d": 1e-7, "bad": "ValueError: no ONNX"}
    assert len(tries) == 5
    rows = [bench._row(f"image, {name}: ONNX", outcome) for name, outcome in found.items()]
    assert "| image, a | 1e-07 | - |" in bench.table(rows)
    assert "| image, bad | ValueError: no ONNX | - |" in bench.table(rows)


@pytest.mark.parametrize("kind", [k for k in bench.specs() if k not in ("audio", "video")])
def test_samples_have_the_shapes_of_the_kind(kind):
    modality = bench.specs()[kind]
    value, mask = bench.numbers(modality)
    assert value.shape == (3, *modality.shape) and value.dtype == modality.dtype
    assert mask[:2].all() and not mask[2].any() and modality.adapted


def test_what_converts_differs_by_rounding_alone():
    found = bench.differences(*bench.fusions(("gated", "mult")), "TFLite")
    assert set(found) == {"gated", "mult"} and max(found.values()) < 1e-5
    assert np.isfinite(list(found.values())).all()
