"""Joint embedding, translation and distillation as parts of a model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.objectives import (
    FeatureTargets,
    JointEmbedding,
    SoftTargets,
    Translation,
    barlow_twins,
    cca,
    soft_targets,
    vicreg,
)

MAKES = {
    "vicreg": lambda: JointEmbedding(4, "vicreg", hidden_dim=6),
    "barlow_twins": lambda: JointEmbedding(4, "barlow_twins"),
    "cca": lambda: JointEmbedding(3, "cca", options={"components": 2}),
    "translation": lambda: Translation("a", "b", cycle=0.5, hidden_dim=6),
    "soft_targets": lambda: SoftTargets("kind", 3.0, weight=0.5),
    "features": lambda: FeatureTargets("a", 5),
}
ROWS = 8


def specs():
    return {name: mk.Vector(size=size, normalize=False) for name, size in (("a", 3), ("b", 2))}


def batch(rows=ROWS):
    rng = np.random.default_rng(0)
    x = {"a": rng.standard_normal((rows, 3)), "b": rng.standard_normal((rows, 2))}
    x = {name: value.astype("float32") for name, value in x.items()}
    x |= {"a_mask": np.arange(rows) != 1, "b_mask": np.arange(rows) % 3 != 2}
    y = {"kind": rng.integers(0, 3, rows)}
    return x, y, rng.standard_normal((rows, 5)).astype("float32")


def build(name, **options):
    keras.utils.set_random_seed(1)
    heads = {"kind": mk.heads.Classifier(("p", "q", "r")), "extra": MAKES[name]()}
    model = mk.assemble(specs(), fusion="concatenation", heads=heads, hidden_dim=4)
    model.compile(keras.optimizers.SGD(0.05), jit=False, **options)
    return model


def truth(name, y, taught):
    width = {"soft_targets": 3, "features": 5}.get(name)
    return {**y, "extra": taught[:, :width]} if width else y


@pytest.mark.parametrize("name", MAKES)
def test_what_is_absent_changes_no_bit_and_every_weight_learns(name):
    x, y, taught = batch()
    ends = []
    for content in (0.0, np.nan):
        model = build(name)
        before = [v.numpy() for v in model.trainable_variables]
        given = dict(x)
        for m in specs():
            given[m] = np.where(x[f"{m}_mask"][:, None], x[m], content).astype("float32")
        logs = model.train_on_batch(given, truth(name, y, taught), return_dict=True)
        assert np.isfinite(logs["loss"]) and logs["loss"] != logs["extra_loss"] != 0.0
        ends.append([v.numpy() for v in model.trainable_variables])
        for variable, value in zip(model.trainable_variables, before, strict=True):
            # Barlow Twins, CCA: a shift of the embeddings changes nothing.
            if not ("extra" in variable.path and variable.path.endswith("bias")):
                assert not np.array_equal(variable.numpy(), value), variable.path
    for one, two in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", MAKES)
def test_the_logged_loss_is_the_formula(name):
    x, y, taught = batch()
    model = build(name)
    said = model.predict_on_batch(x)["extra"]
    logs = model.test_on_batch(x, truth(name, y, taught), return_dict=True)
    both = x["a_mask"] & x["b_mask"]
    if name in ("vicreg", "barlow_twins", "cca"):
        loss = {"vicreg": vicreg, "barlow_twins": barlow_twins, "cca": cca}[name]
        more = {"components": 2} if name == "cca" else {}
        expected = float(loss(said[both, 0], said[both, 1], **more))
        assert not said[~x["a_mask"], 0].any() and not said[~x["b_mask"], 1].any()
    elif name == "translation":
        assert (said[~both] == -1).all() and (said[both] >= 0).all()
        expected = (said[both, 0] + 0.5 * said[both, 1]).mean()
    elif name == "soft_targets":
        p, q = (np.exp(z / 3) / np.exp(z / 3).sum(1, keepdims=True) for z in (taught[:, :3], said))
        expected = 0.5 * 9 * (p * np.log(p / q)).sum(axis=1).mean()
        np.testing.assert_array_equal(said, model.predict_on_batch(x)["kind"])
    else:
        expected = ((said - taught) ** 2).mean(axis=1)[x["a_mask"]].mean()
    assert logs["extra_loss"] == pytest.approx(expected, rel=1e-4)


def test_translation_is_of_the_pooled_tokens():
    model = build("translation")
    x, _, _ = batch()
    layer = model.get_layer("extra")
    towers = {m: next(la for la in model.layers if la.name == f"{m}_mlp") for m in "ab"}
    s, t = (towers[m]({k: x[k] for k in (m, f"{m}_mask")})["tokens"].numpy()[:, 0] for m in "ab")

    def way(value, layers):
        hidden, out = ([w.numpy() for w in la.weights] for la in layers)
        return np.maximum(value @ hidden[0] + hidden[1], 0) @ out[0] + out[1]

    there = way(s, layer.forth)
    expected = np.stack(
        [((there - t) ** 2).mean(1), ((way(there, layer.back) - s) ** 2).mean(1)], 1
    )
    both = x["a_mask"] & x["b_mask"]
    np.testing.assert_allclose(
        model.predict_on_batch(x)["extra"][both], expected[both], rtol=1e-4, atol=1e-6
    )


def test_a_translation_that_is_not_a_number_is_no_absent_row():
    layer = MAKES["translation"]()
    outputs = np.array([[1.0, 2.0], [-1.0, -1.0], [3.0, 0.0]], "float32")
    weights = np.array([1.0, np.nan, 2.0], "float32")
    assert float(layer.batch_loss(outputs)) == pytest.approx((2.0 + 3.0) / 2)
    assert float(layer.batch_loss(outputs, None, weights)) == pytest.approx((2.0 + 6.0) / 2)
    outputs[0] = np.nan
    assert np.isnan(float(layer.batch_loss(outputs)))


def test_an_absent_modality_in_every_row_is_no_loss():
    x, y, taught = batch()
    x["a_mask"][:] = False
    for name in ("vicreg", "barlow_twins", "cca", "translation", "features"):
        model = build(name)
        logs = model.train_on_batch(x, truth(name, y, taught), return_dict=True)
        assert logs["extra_loss"] == 0.0
        assert all(np.isfinite(v.numpy()).all() for v in model.variables)


def test_soft_targets_are_zero_at_the_teacher_and_have_hintons_gradient():
    z = np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
    assert np.abs(soft_targets(z, z, 2.0)).max() < 1e-6
    v = z[::-1].copy()
    student = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = tf.reduce_sum(soft_targets(student, v, 4.0))
    p, q = (np.exp(a / 4) / np.exp(a / 4).sum(1, keepdims=True) for a in (v, z))
    np.testing.assert_allclose(tape.gradient(loss, student), 4 * (q - p), rtol=1e-4, atol=1e-6)


def test_a_teacher_teaches_a_dataset(tmp_path):
    rng = np.random.default_rng(0)
    rows = {"a": list(rng.standard_normal((24, 3))), "b": list(rng.standard_normal((24, 2)))}
    rows["kind"] = [str(int(v[0] > 0)) for v in rows["a"]]
    data = mk.data.table(rows, specs(), "kind", valid=0.25)
    heads = {"kind": mk.heads.Classifier(data.classes)}
    teacher = mk.assemble(data.modalities, fusion="sum", heads=heads, hidden_dim=4)
    train = mk.training.teach(data.train(6), teacher, {"taught": "kind"})
    assert train.steps == 3
    x, y = next(iter(train.stream(2)))
    plain, _ = next(iter(data.train(6).stream(2)))
    np.testing.assert_array_equal(x["a"], plain["a"])
    np.testing.assert_allclose(y["taught"], teacher.predict_on_batch(x)["kind"], atol=1e-5)
    heads["taught"] = SoftTargets("kind", 2.0)
    student = mk.assemble(data.modalities, fusion="sum", heads=heads, hidden_dim=4)
    student.compile(keras.optimizers.Adam(0.02), jit=False)
    before = [v.numpy() for v in teacher.variables]
    held = mk.training.teach(data.valid(6), teacher, {"taught": "kind"})
    log = student.fit(train, validation_data=held, epochs=8, verbose=0).history
    assert log["taught_loss"][-1] < log["taught_loss"][0] and "val_taught_loss" in log
    for variable, value in zip(teacher.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    student.save(tmp_path / "student.keras")
    again = keras.models.load_model(tmp_path / "student.keras")
    for name, value in student.predict_on_batch(x).items():
        np.testing.assert_array_equal(again.predict_on_batch(x)[name], value)
    with pytest.raises(ValueError, match="The teacher has no output 'kin'.*'kind'"):
        mk.training.teach(data.train(6), teacher, {"taught": "kin"})
    with pytest.raises(ValueError, match="The truth has 'kind' already"):
        mk.training.teach(data.train(6), teacher, {"kind": "kind"})
    with pytest.raises(ValueError, match=r"'taught' learns from a teacher, \(B, 2\).*None"):
        student.fit(data.train(6), verbose=0)


@pytest.mark.parametrize("name", MAKES)
def test_config_round_trip(name):
    layer = MAKES[name]()
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JointEmbedding(4, "vic"), "`loss`.*'vic'"),
        (lambda: JointEmbedding(4, "cca", options={"alpha": 1}), "'cca' has the options.*'alpha'"),
        (
            lambda: JointEmbedding(4, "cca", options={"components": 0}),
            "`components` must be a whole number of at least 1",
        ),
        (
            lambda: JointEmbedding(4, "cca", options={"regularization": 0}),
            "`regularization` must lie between 1e-12",
        ),
        (lambda: Translation("a", "b", cycle=-1.0), "`cycle` must lie between 0"),
        (lambda: SoftTargets("kind", 0.0), "`temperature` must lie between 0.001"),
        (lambda: FeatureTargets("a", 0), "`dim` must be a whole number"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_does_not_fit_the_model_is_refused():
    one = {"a": specs()["a"]}
    kind = mk.heads.Classifier(("p", "q"))
    with pytest.raises(ValueError, match="two modalities or more"):
        mk.assemble(one, heads={"extra": JointEmbedding(4)})
    with pytest.raises(ValueError, match="between modalities of the model. Received: 'c'"):
        mk.assemble(specs(), heads={"extra": Translation("a", "c")})
    with pytest.raises(ValueError, match="features are of a modality of the model. Received: 'c'"):
        mk.assemble(specs(), heads={"extra": FeatureTargets("c", 4)})
    with pytest.raises(ValueError, match="must be of a head of the model. Received: of='kin'"):
        mk.assemble(specs(), heads={"kind": kind, "extra": SoftTargets("kin")})
    for other in (mk.heads.Regressor(), mk.heads.MultiLabel(("p", "q"))):
        with pytest.raises(ValueError, match="exclude each other. Received: of='kind', a "):
            mk.assemble(specs(), heads={"kind": other, "extra": SoftTargets("kind")})
