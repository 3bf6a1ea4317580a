"""docs/fusion.md: its Python blocks run, its fusion is short, its picture is whole."""

import re
from pathlib import Path
from xml.dom import minidom

import numpy as np
import tensorflow as tf

import mmkeras as mk
from mmkeras.data import decoder
from mmkeras.training import memory
from tests import contract
from tests.fusion.inputs import random_inputs, refill, unit

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "fusion.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)


def test_the_guide_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory, "step_memory", lambda model, batch: 1.0)  # a process per row
    space = {}
    for number, block in enumerate(BLOCKS, start=1):
        exec(compile(block, f"docs/fusion.md block {number}", "exec"), space)  # noqa: S102
    printed = capsys.readouterr().out
    assert "| LoudestFusion |" in (tmp_path / "runs" / "mine" / "table.md").read_text()
    for name in ("early", "tokens", "pooled", "late", "hybrid"):
        assert re.search(rf"^{name} \d+$", printed, flags=re.MULTILINE)
    model, data = space["model"], space["data"]
    assert type(model) is mk.Model
    for level, width in (("tokens", 64), ("pooled", 16)):
        layer = model.get_layer(f"fusion_{level}")
        assert type(layer) is space["LoudestFusion"] and layer.hidden_dim == width
    # What the export says without the picture is what the model says behind a false mask.
    ids, mask = decoder(data.modalities["question"])(tf.constant(["is there a red circle?"]))
    picture = tf.fill((1, 32, 32, 3), tf.constant(7, tf.uint8))
    batch = {
        "image": picture,
        "image_mask": tf.constant([False]),
        "question": ids,
        "question_mask": mask,
    }
    logits = model(contract.tensors(batch))["answer"]
    np.testing.assert_allclose(space["answer"]["answer_scores"], tf.nn.softmax(logits), atol=1e-5)


def test_the_fusion_of_the_guide_is_short_and_keeps_the_contract(tmp_path):
    block = next(block for block in BLOCKS if "class LoudestFusion" in block)
    lines = [line for line in block.split("@mk.register")[1].splitlines() if line.strip()]
    assert 1 + len(lines) <= 15
    space = {"mk": mk}
    exec(block, space)  # noqa: S102
    own = unit(space["LoudestFusion"])
    for check in (contract.config, contract.output_spec, contract.gradient, contract.saving):
        check(own, tmp_path)
    layer, given = own.layer(), random_inputs(np.random.default_rng(0))
    filled = refill(given, lambda shape: np.full(shape, np.nan))
    contract.assert_same_bits(layer(filled), layer(given))


def test_the_picture():
    assert "(fusion_levels.svg)" in GUIDE
    text = (DOCS / "fusion_levels.svg").read_text(encoding="utf-8")
    assert len(text) < 10_000
    nodes = minidom.parseString(text).getElementsByTagName("text")
    said = " ".join(node.firstChild.data for node in nodes)
    for word in (*mk.fusion.LEVELS, "hybrid"):
        assert word in said
