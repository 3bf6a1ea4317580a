"""The rows of the benchmark `scale`, from given rates."""

import pytest

from benchmarks import scale


def test_rows_of_weak_scaling(monkeypatch):
    rates = {
        ("ours", 1): 100.0,
        ("ours", 2): 180.0,
        ("ours_alone", 2): 190.0,
        ("torch", 1): 80.0,
        ("torch", 2): 120.0,
    }
    monkeypatch.setattr(scale, "job", lambda *job: (rates[job[:2]], float(job[1])))
    rows = {row["row"]: row for row in scale.weak_scaling(2, 10)}
    assert rows["P9 two workers / twice one"]["ratio"] == pytest.approx(0.9)
    assert rows["P9 two workers / twice one"]["target"] == 0.80
    assert rows["P9 torch DDP: two / twice one"]["ratio"] == pytest.approx(0.75)
    assert rows["P9 efficiency / torch DDP's"]["ratio"] == pytest.approx(1.2)
    assert rows["P9 two workers / two that do not talk"]["ratio"] == pytest.approx(180 / 190)
    assert rows["P9 CPU time, mmkeras: two / one"]["ratio"] == pytest.approx(0.5)
