"""The table of the encoders: operations against formulas, and a quick run."""

import json

import pytest

import mmkeras as mk
from benchmarks import encoders as bench
from mmkeras.encoders import ENCODERS
from mmkeras.training.cost import forward_flops

IMAGE = mk.Image(size=32)


def counted(name, spec, **arguments):
    model = mk.encoders.get({"name": name, **arguments}, "x", spec)
    return forward_flops(model, 1, unroll=True)


def test_operations_of_a_transformer_are_those_of_its_products():
    dim, mlp, tokens, patch = 16, 40, 16, 8
    sizes = {"patch": patch, "hidden_dim": dim, "num_heads": 2, "intermediate_dim": mlp}
    one, two = (counted("vit", IMAGE, num_layers=n, **sizes) for n in (1, 2))
    products = 2 * tokens * (4 * dim * dim + 2 * dim * mlp) + 2 * 2 * tokens * tokens * dim
    assert products < two - one < 1.35 * products  # and norms, softmax, GELU


def test_every_step_of_a_recurrence_counts():
    short, long = (
        counted("lstm", bench.SPECS["text"].replace(length=n), embedding_dim=8, hidden_dim=16)
        for n in (4, 8)
    )
    step = 2 * (8 + 16) * 4 * 16
    assert 4 * step < long - short < 1.5 * 4 * step


def test_every_encoder_has_a_row():
    assert set(bench.SPECS) == set(ENCODERS)
    assert all(name in ENCODERS[kind] for kind, name in bench.OWN)


def test_quick_run(tmp_path, capsys):
    result = bench.main(["--out", str(tmp_path), "--quick"])
    assert json.loads((tmp_path / "result.json").read_text())["rows"] == result["rows"]
    named = {row["row"]: row for row in result["rows"]}
    assert set(named) == {f"{kind} {next(iter(family))}" for kind, family in ENCODERS.items()}
    assert all(row["flops"] > 0 and row["ms_batch_32"] > 0 for row in named.values())
    # 3x3 convolutions of 16, 32, 64, 64 filters over 64, 32, 16, 8 squared.
    filters, sides = (3, 16, 32, 64, 64), (64, 32, 16, 8)
    convolutions = sum(
        2 * 9 * a * b * side**2 for a, b, side in zip(filters, filters[1:], sides, strict=False)
    )
    assert named["image cnn"]["flops"] == pytest.approx(convolutions, rel=0.1)
    assert "| image cnn |" in capsys.readouterr().out
