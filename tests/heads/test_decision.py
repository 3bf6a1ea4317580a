"""Decision: contract, each combination against NumPy, masks, losses of the parts, errors."""

import keras
import numpy as np
import pytest

import mmkeras as mk
from mmkeras.heads import Classifier, Decision, Dirichlet, MultiLabel, Regressor, head_of
from mmkeras.heads.truth import batch_truth, truth_of
from tests import contract
from tests.layers import formulas

B, M, D = 6, 3, 7
CLASSES = ("red", "green", "blue", "grey")
HEADS = {
    "classifier": lambda: Classifier(CLASSES),
    "multi_label": lambda: MultiLabel(CLASSES),
    "regressor": lambda: Regressor(2),
    "dirichlet": lambda: Dirichlet(CLASSES, kl_weight=0.4),
}
MAKE = {
    (head, combine): lambda head=head, combine=combine, **kw: Decision(
        HEADS[head](), combine, **kw
    )
    for head, combine in (
        ("classifier", "mean"), ("classifier", "vote"), ("classifier", "stack"),
        ("multi_label", "mean"), ("multi_label", "vote"), ("multi_label", "stack"),
        ("regressor", "mean"), ("regressor", "stack"), ("dirichlet", "dempster"),
    )
}  # fmt: skip
every_decision = pytest.mark.parametrize("name", MAKE, ids="-".join)


def fused(rng, count=M):
    mask = rng.random((B, count)) < 0.6
    mask[0], mask[1], mask[1, 0] = True, False, True
    mask[~mask.any(axis=1)] = True
    tokens = rng.standard_normal((B, count, D)) * mask[:, :, None]
    pooled = tokens.mean(axis=1)
    return {"tokens": tokens.astype("float32"), "mask": mask, "pooled": pooled.astype("float32")}


def built(name, inputs, **kwargs):
    head = MAKE[name](name="unit", **kwargs)
    head(inputs)
    contract.randomize(head.weights, scale=0.6)
    return head


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize(
    "name",
    [("classifier", "mean"), ("multi_label", "vote"), ("regressor", "stack"),
     ("dirichlet", "dempster")],
    ids="-".join,
)  # fmt: skip
def test_contract(name, check, tmp_path):
    check(contract.Unit(MAKE[name], lambda rng: (fused(rng),), float32=True), tmp_path)


# Parity -----------------------------------------------------------------------------------------


def mean_and_vote(p, combine):
    """Of probabilities (n, ..., C) of n decisions."""
    mean = p.mean(axis=0)
    votes = np.eye(p.shape[-1])[p.argmax(axis=-1)].mean(axis=0)
    return mean if combine == "mean" else 0.999 * votes + 0.001 * mean


def dempster(alphas):
    """The reduced rule of Dempster as the paper writes it, opinion after opinion."""
    count = len(alphas[0])
    belief, unsure = (alphas[0] - 1) / alphas[0].sum(), count / alphas[0].sum()
    for alpha in alphas[1:]:
        b, u = (alpha - 1) / alpha.sum(), count / alpha.sum()
        conflict = belief.sum() * b.sum() - (belief * b).sum()
        belief = (belief * b + belief * u + b * unsure) / (1 - conflict)
        unsure = unsure * u / (1 - conflict)
    total = count / unsure
    return belief * total + 1


def expected_of(name, z, mask, w):
    """The output from the decisions z (B, M, units)."""
    head, combine = name
    out = []
    for row, there in zip(z, mask, strict=True):
        said = row[there]
        if combine == "stack":
            flat = np.concatenate([(row * there[:, None]).ravel(), there])
            out.append(formulas.dense(flat, formulas.under(w, "meta")))
        elif head == "regressor":
            out.append(said.mean(axis=0))
        elif head == "dirichlet":
            out.append(np.log(dempster(np.exp(said))))
        elif head == "classifier":
            out.append(np.log(mean_and_vote(formulas.softmax(said), combine)))
        else:
            yes = formulas.sigmoid(said)
            p = mean_and_vote(np.stack([yes, 1 - yes], axis=-1), combine)
            out.append(np.log(p[..., 0] / p[..., 1]))
    return np.stack(out)


def decisions_of(name, inputs, w):
    """What each copy of the head says, (B, M, units)."""
    x = inputs["tokens"].astype("float64")
    z = [formulas.dense(x[:, i], formulas.under(w, f"decision{i}/dense")) for i in range(M)]
    z = np.stack(z, axis=1)
    return np.log1p(np.log1p(np.exp(z))) if name[0] == "dirichlet" else z


@every_decision
def test_parity(name, rng):
    inputs = fused(rng)
    head = built(name, inputs)
    w = formulas.weights_of(head)
    expected = expected_of(name, decisions_of(name, inputs, w), inputs["mask"], w)
    found = contract.as_numpy(head(inputs))
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)  # measured: 3e-6


@every_decision
def test_what_is_absent_says_nothing(name, rng):
    inputs = fused(rng)
    head = built(name, inputs)
    before = contract.as_numpy(head(inputs))
    garbage = np.where(inputs["mask"][:, :, None], inputs["tokens"], 1e3).astype("float32")
    contract.assert_same_bits(head({**inputs, "tokens": garbage}), before)
    for i in range(M):  # the copy of an absent modality is not heard, that of a present one is
        kernel = head.decisions[i].dense.kernel
        kernel.assign(-kernel)
        after = contract.as_numpy(head(inputs))
        changed = np.any(after != before, axis=1)
        assert changed[0] and not changed[~inputs["mask"][:, i]].any()
        kernel.assign(-kernel)


def test_the_majority_wins_and_ties_go_to_the_surer():
    head = Decision(Classifier(2), "vote")
    tokens = np.zeros((2, 3, 1), "float32")
    mask = np.array([[True, True, True], [True, True, False]])
    inputs = {"tokens": tokens, "mask": mask, "pooled": tokens[:, 0]}
    head(inputs)
    for i, bias in enumerate(([0.0, 9.0], [1.0, 0.0], [0.5, 0.0])):
        head.decisions[i].dense.bias.assign(bias)
    p = formulas.softmax(contract.as_numpy(head(inputs)).astype("float64"))
    assert p[0].argmax() == 0  # two against one, however sure that one is
    np.testing.assert_allclose(p[0], [2 / 3, 1 / 3], atol=1e-3)
    assert p[1].argmax() == 1  # one against one
    np.testing.assert_allclose(p[1], [0.5, 0.5], atol=1e-3)


def test_evidence_adds_certainty_and_its_absence_none(rng):
    from mmkeras.heads.dirichlet import dempster as combined

    log_alpha = np.log1p(rng.uniform(0, 20, (B, M, 4))).astype("float32")
    all_there, one = np.ones((B, M), bool), np.arange(M) == np.zeros((B, 1))
    alone = contract.as_numpy(combined(log_alpha, one))
    np.testing.assert_allclose(alone, log_alpha[:, 0], atol=1e-5)
    together = contract.as_numpy(combined(log_alpha, all_there))
    shuffled = contract.as_numpy(combined(log_alpha[:, ::-1], all_there))
    np.testing.assert_allclose(together, shuffled, atol=1e-5)
    assert np.all(np.exp(together).sum(axis=1) > np.exp(alone).sum(axis=1))  # S: less uncertain
    nothing = contract.as_numpy(combined(log_alpha, ~all_there))
    np.testing.assert_allclose(nothing, 0.0, atol=1e-6)
    huge = contract.as_numpy(combined(np.full((1, 9, 4), 20.0, "float32"), np.ones((1, 9), bool)))
    assert np.isfinite(huge).all()


# Losses of the parts ----------------------------------------------------------------------------


def loss_of(head, y, out):
    """Loss of each sample in NumPy."""
    if head == "regressor":
        return ((out - y) ** 2).mean(axis=1)
    if head == "multi_label":
        p = formulas.sigmoid(out)
        return -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(axis=1)
    if head == "dirichlet":
        from tests.heads.test_dirichlet import loss_of as evidential

        return evidential(np.eye(4)[y], np.exp(out), 0.4)
    return -np.log(formulas.softmax(out))[np.arange(B), y]


@every_decision
def test_the_model_adds_the_losses_of_the_parts(name, rng):
    inputs = fused(rng)
    y = {
        "regressor": rng.standard_normal((B, 2)).astype("float32"),
        "multi_label": rng.integers(0, 2, (B, 4)).astype("float32"),
    }.get(name[0], rng.integers(0, 4, B))
    sample_weight = np.array([0.5, 1.0, 2.0, 0.0, 1.5, 1.0], "float32")
    symbols = {k: keras.Input(v.shape[1:], dtype=str(v.dtype), name=k) for k, v in inputs.items()}
    made = MAKE[name](name="answer", part_weight=0.7)
    model = mk.Model(symbols, {"answer": made(symbols)})
    contract.randomize(model.weights, scale=0.6)
    model.compile("sgd", jit=False)
    w = formulas.weights_of(made)
    z = decisions_of(name, inputs, w)
    total = loss_of(name[0], y, expected_of(name, z, inputs["mask"], w))
    parts = sum(inputs["mask"][:, i] * loss_of(name[0], y, z[:, i]) for i in range(M))
    expected = (sample_weight * (total + 0.7 * parts)).mean()
    given = {"y": {"answer": y}, "sample_weight": {"answer": sample_weight}, "batch_size": B}
    found = model.evaluate(inputs, **given, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(expected, rel=1e-4)
    (loss,) = model.fit(inputs, **given, verbose=0).history["loss"]
    assert loss == pytest.approx(expected, rel=1e-4)  # of before the step


def test_truth_is_known_only_inside():
    assert truth_of("answer") is None
    with batch_truth({"answer": 1}, {"answer": 2}):
        assert truth_of("answer") == (1, 2)
        assert truth_of("other") is None
        with batch_truth(5):
            assert truth_of("answer") == (5, None)
        assert truth_of("answer") == (1, 2)
    with pytest.raises(KeyError), batch_truth(1):
        raise KeyError
    assert truth_of("answer") is None


def test_no_losses_without_truth_or_weight(rng):
    inputs = fused(rng)
    head = MAKE["classifier", "mean"](name="answer")
    head(inputs)
    assert head.losses == []
    with batch_truth({"answer": np.zeros(B, int)}):
        head(inputs)
        assert len(head.losses) == 1
        silent = MAKE["classifier", "mean"](name="answer", part_weight=0.0)
        silent(inputs)
    assert silent.losses == []


# assemble ---------------------------------------------------------------------------------------

SPECS = {"a": mk.Vector(size=3, normalize=False), "b": mk.Vector(size=2, normalize=False)}


def rows(rng, count=64):
    """Either vector tells the class; each is missing now and then."""
    truth = rng.integers(0, 2, count)
    x = {
        "a": rng.standard_normal((count, 3)) + 2 * truth[:, None] - 1,
        "b": rng.standard_normal((count, 2)) - 2 * truth[:, None] + 1,
    }
    x = {m: v.astype("float32") for m, v in x.items()}
    x |= {f"{m}_mask": rng.random(count) < 0.8 for m in ("a", "b")}
    return x, {"answer": truth}


@pytest.mark.parametrize(
    ("fusion", "combine", "kind"),
    [
        ("late_averaging", "mean", Classifier),
        ("voting", "vote", Classifier),
        ("stacking", "stack", Classifier),
        ("trusted", "dempster", Dirichlet),
    ],
)
def test_assemble_decides_per_modality(fusion, combine, kind, rng, tmp_path):
    heads = {"answer": Classifier(("no", "yes"), dropout=0.1)}
    model = mk.assemble(SPECS, None, fusion, heads, hidden_dim=8)
    made = model.get_layer("answer")
    assert (type(made), made.combine, type(made.head)) == (Decision, combine, kind)
    assert len(made.decisions) == 2 and made.decisions[0].dropout == 0.1
    assert type(head_of(model, "answer")) is kind
    model.compile(keras.optimizers.Adam(0.01), jit=False)
    x, y = rows(rng)
    history = model.fit(x, y, batch_size=64, epochs=30, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["accuracy"][-1] > 0.8
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    contract.assert_same_bits(loaded(contract.tensors(x)), model(contract.tensors(x)))


def test_every_copy_trains_though_the_vote_has_no_gradient(rng):
    x, y = rows(rng)
    model = mk.assemble(SPECS, None, "voting", {"answer": Classifier(2)}, hidden_dim=8)
    model.compile(keras.optimizers.SGD(0.1), jit=True)
    before = [v.numpy() for v in model.trainable_variables]
    x["a_mask"][0] = x["b_mask"][0] = False
    model.fit(x, y, batch_size=64, verbose=0)
    for old, variable in zip(before, model.trainable_variables, strict=True):
        assert not np.array_equal(old, variable.numpy()), variable.path


def test_a_decision_of_ones_own_stays():
    own = Decision(Classifier(2), "stack", part_weight=0.0)
    model = mk.assemble(SPECS, None, "late_averaging", {"answer": own}, hidden_dim=8)
    made = model.get_layer("answer")
    assert (made.combine, made.part_weight) == ("stack", 0.0)
    assert type(mk.assemble(SPECS, None, "gated", {"answer": own}).get_layer("answer")) is Decision


# Errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Decision(Classifier(2), "median"), "`combine` must be one of.*Received"),
        (lambda: Decision(Classifier(2), part_weight=-1.0), "`part_weight` must lie between"),
        (lambda: Decision(keras.layers.Dense(2)), "made by a head such as.*Received.*Dense"),
        (lambda: Decision(Decision(Classifier(2))), "made by a head such as.*Received"),
        (lambda: Decision(Regressor(), "vote"), "Only classes can be voted for.*late_averaging"),
        (lambda: Decision(Classifier(2), "dempster"), "goes with mk.heads.Dirichlet. Received"),
        (lambda: Decision(Dirichlet(2), "mean"), "goes with mk.heads.Dirichlet. Received"),
    ],
)
def test_wrong_arguments(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_the_number_of_tokens_must_be_known():
    free = {
        "tokens": keras.Input((None, D)),
        "mask": keras.Input((None,), dtype="bool"),
        "pooled": keras.Input((D,)),
    }
    with pytest.raises(ValueError, match="known number of tokens.*Received"):
        Decision(Classifier(2))(free)
