"""`HybridFusion`: contract, formula, masks, errors; and what all fusions make of vectors."""

import numpy as np
import pytest

import mmkeras as mk
from mmkeras.fusion import FUSIONS, LEVELS
from tests import contract
from tests.fusion import inputs
from tests.fusion.inputs import HIDDEN, NAMES, random_inputs

LENGTHS = {"features": 4, "tokens": 3, "pooled": 1, "decisions": 2}
WIDTHS = {"features": 5, "tokens": 6, "pooled": 7, "decisions": HIDDEN}
HYBRIDS = [LEVELS, ("features", "pooled"), ("tokens", "decisions")]
every_hybrid = pytest.mark.parametrize("levels", HYBRIDS, ids="+".join)


def fused(levels, rng, batch=3):
    """What fusions at these levels return; the last token of each sample is always there."""
    out = {}
    for level in levels:
        mask = rng.random((batch, LENGTHS[level])) < 0.5
        mask[:, -1] = True
        tokens = rng.standard_normal((*mask.shape, WIDTHS[level])).astype("float32")
        pooled = rng.standard_normal((batch, WIDTHS[level])).astype("float32")
        out[level] = {"tokens": tokens * mask[..., None], "mask": mask, "pooled": pooled}
        if level == "decisions":
            del out[level]["pooled"]
    return out


def unit(levels):
    return contract.Unit(
        lambda **kw: mk.fusion.HybridFusion(levels, hidden_dim=HIDDEN, **kw),
        lambda rng: (fused(levels, rng),),
    )


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda c: c.__name__)
@every_hybrid
def test_contract(levels, check, tmp_path):
    check(unit(levels), tmp_path)


@every_hybrid
def test_formula(levels):
    layer = unit(levels).layer()
    given = fused(levels, np.random.default_rng(1))
    layer(given)
    contract.randomize(layer.trainable_variables)
    w = {v.path.removeprefix("unit/"): v.numpy() for v in layer.weights}
    out = contract.as_numpy(layer(given))
    mixed = [level for level in LEVELS if level in levels and level != "decisions"]
    kernel = np.concatenate([w[f"{level}_projection/kernel"] for level in mixed])
    pooled = np.concatenate([given[level]["pooled"] for level in mixed], axis=1) @ kernel
    pooled = pooled + w["bias"]
    if "decisions" in levels:
        tokens = np.concatenate([given["decisions"]["tokens"], pooled[:, None]], axis=1)
        mask = np.concatenate([given["decisions"]["mask"], [[True]] * 3], axis=1)
    else:
        parts = [given[m]["tokens"] @ w[f"{m}_projection/kernel"] + w["bias"] for m in mixed]
        mask = np.concatenate([given[level]["mask"] for level in mixed], axis=1)
        tokens = np.concatenate(parts, axis=1) * mask[..., None]
    expected = {"tokens": tokens.astype("float32"), "mask": mask, "pooled": pooled}
    contract.assert_close(out, expected, 1e-5)


def test_the_order_of_levels_does_not_matter():
    one = mk.fusion.HybridFusion(["pooled", "features"])
    assert one.levels == ("features", "pooled")
    assert one.get_config()["levels"] == ["features", "pooled"]


@pytest.mark.parametrize(
    ("levels", "text"),
    [
        (["tokens"], "at two or more levels, one at each. Received: .'tokens',"),
        (["tokens", "tokens"], "at two or more levels, one at each"),
        (["tokens", "pooled", "pooled"], "at two or more levels, one at each"),
        (["tokens", "late"], "`levels` must be one of.*Received: levels='late'"),
    ],
)
def test_wrong_levels(levels, text):
    with pytest.raises(ValueError, match=text):
        mk.fusion.HybridFusion(levels)


def test_decisions_must_be_as_wide():
    layer = mk.fusion.HybridFusion(["tokens", "decisions"], hidden_dim=5)
    with pytest.raises(ValueError, match="must be as wide. Received: hidden_dim=5, decisions"):
        layer(fused(("tokens", "decisions"), np.random.default_rng(0)))


# The level "pooled", for every fusion: a vector per modality ------------------------------------


@pytest.mark.parametrize("name", sorted(set(FUSIONS) - {"memory_fusion"}))
def test_every_weight_trains_on_one_vector_per_modality(name, monkeypatch):
    for modality in NAMES:
        monkeypatch.setitem(inputs.LENGTHS, modality, 1)
    layer = FUSIONS[name](NAMES, hidden_dim=32, name="unit")
    given = contract.tensors(random_inputs(np.random.default_rng(0), NAMES, 8))
    layer(given)
    contract.randomize(layer.trainable_variables, scale=0.1)
    _, found = contract.gradients(
        lambda: (layer(given)["pooled"], layer.losses), layer.trainable_variables
    )
    contract.assert_all_train(found)


def test_memory_fusion_wants_steps():
    with pytest.raises(ValueError, match="reads steps, and there is one.*another level than 'poo"):
        mk.fusion.MemoryFusion(["numbers"])(random_inputs(np.random.default_rng(0), ("numbers",)))
