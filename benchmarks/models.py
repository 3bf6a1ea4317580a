"""The two models of the step and start-up benchmarks on Keras, with their data.

A, late fusion: three convolutions on 64 x 64 pixels beside an embedding with an LSTM of 32 units
over 32 tokens; 1.3 M weights. B, CLIP: a ViT of 6 layers on 64 x 64 pixels in patches of 8 beside
a text transformer of 4 layers, both 192 wide, and the symmetric InfoNCE of a batch; 6.1 M weights.
`benchmarks/torch_models.py` holds the same for PyTorch.
"""

from typing import Any

import numpy as np

BATCH, CLASSES, WORDS, TOKENS, LONGEST = 64, 13, 5000, 32, 77
CLIP_WORDS, WIDTH, HEADS, JOINT = 8192, 192, 3, 128
BUCKETS = (16, 24, 32, LONGEST)


def late_fusion_batches(count: int, seed: int = 0) -> list[tuple[dict, dict]]:
    """Returns batches of `({"image", "words"}, {"answer"})`."""
    rng = np.random.default_rng(seed)
    return [
        (
            {
                "image": rng.random((BATCH, 64, 64, 3), "float32"),
                "words": rng.integers(1, WORDS, (BATCH, TOKENS)).astype("int32"),
            },
            {"answer": rng.integers(0, CLASSES, BATCH).astype("int32")},
        )
        for _ in range(count)
    ]


def clip_batches(count: int, pad: str = "32", seed: int = 0) -> list[tuple[dict, dict]]:
    """Returns batches of `({"image", "words", "words_mask"}, {"logits"})`.

    Lengths are drawn as those of Multi30k captions are spread: median 14 tokens, 1 % above 28.

    Args:
        count: of batches.
        pad: "32" cuts and pads to 32, "77" pads to 77 as CLIP does, "bucket" puts texts of like
            length into a batch and pads it to the smallest of `BUCKETS` that holds its longest.
        seed: of the numbers.
    """
    rng = np.random.default_rng(seed)
    made = []
    drawn = np.clip(np.exp(rng.normal(np.log(14), 0.3, (count, BATCH))).round(), 4, LONGEST)
    if pad == "bucket":
        drawn = rng.permutation(np.sort(drawn.ravel()).reshape(count, BATCH))
    for lengths in drawn:
        longest = next(b for b in BUCKETS if b >= lengths.max()) if pad == "bucket" else int(pad)
        mask = np.arange(longest) < lengths[:, None]
        words = rng.integers(1, CLIP_WORDS, (BATCH, longest)).astype("int32") * mask
        x = {"image": rng.random((BATCH, 64, 64, 3), "float32"), "words": words, "words_mask": mask}
        made.append((x, {"logits": np.arange(BATCH, dtype="int32")}))
    return made


def late_fusion(model_class: Any) -> Any:
    """Returns model A."""
    import keras
    from keras import layers

    inputs = {
        "image": keras.Input((64, 64, 3), name="image"),
        "words": keras.Input((TOKENS,), dtype="int32", name="words"),
    }
    x = inputs["image"]
    for width in (32, 64, 128):
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Dense(128, activation="relu")(layers.Flatten()(x))
    words = layers.LSTM(32)(layers.Embedding(WORDS, 32)(inputs["words"]))
    x = layers.Dense(64, activation="relu")(layers.Concatenate()([x, words]))
    return model_class(inputs, {"answer": layers.Dense(CLASSES, dtype="float32", name="answer")(x)})


def late_fusion_loss() -> dict:
    """Returns the loss of model A."""
    import keras

    return {"answer": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}


def clip(model_class: Any, block: Any, length: int | None = TOKENS) -> Any:
    """Returns model B.

    Args:
        model_class: `keras.Model` or `mmkeras.Model`.
        block: `(name) -> layer` that is called with tokens and a mask.
        length: of the texts; None for any.
    """
    import keras
    from keras import layers, ops

    from mmkeras.layers import LearnedPositions, masked_mean

    class Logits(layers.Layer):
        """Scaled cosines of all pictures and texts of the batch, in float32."""

        def build(self, image_shape: tuple, words_shape: tuple) -> None:
            self.scale = self.add_weight(
                shape=(), initializer=keras.initializers.Constant(np.log(1 / 0.07)), name="scale"
            )

        def call(self, image: Any, words: Any) -> Any:
            image, words = (ops.normalize(v, axis=-1) for v in (image, words))
            return ops.exp(self.scale) * ops.matmul(image, ops.transpose(words))

        def compute_output_shape(self, image_shape: tuple, words_shape: tuple) -> tuple:
            return (image_shape[0], image_shape[0])

    inputs = {
        "image": keras.Input((64, 64, 3), name="image"),
        "words": keras.Input((length,), dtype="int32", name="words"),
        "words_mask": keras.Input((length,), dtype="bool", name="words_mask"),
    }
    x = layers.Conv2D(WIDTH, 8, strides=8, name="image_patches")(inputs["image"])
    x = LearnedPositions(64, name="image_positions")(layers.Reshape((64, WIDTH))(x))
    whole = ops.ones_like(x[..., 0], dtype="bool")
    for i in range(6):
        x = block(f"image_block{i}")(x, whole)
    image = ops.mean(layers.LayerNormalization(name="image_norm")(x), axis=1)
    x = layers.Embedding(CLIP_WORDS, WIDTH, name="words_embedding")(inputs["words"])
    x = LearnedPositions(LONGEST, name="words_positions")(x)
    for i in range(4):
        x = block(f"words_block{i}")(x, inputs["words_mask"])
    x = layers.LayerNormalization(name="words_norm")(x)
    words = layers.Lambda(lambda a: masked_mean(*a), output_shape=(WIDTH,))(
        [x, inputs["words_mask"]]
    )
    image, words = (
        layers.Dense(JOINT, use_bias=False, name=f"{name}_joint", dtype="float32")(v)
        for name, v in (("image", image), ("words", words))
    )
    return model_class(inputs, {"logits": Logits(dtype="float32", name="logits")(image, words)})


def clip_loss() -> dict:
    """Returns symmetric InfoNCE over the batch: row i belongs to column i."""
    import keras
    from keras import ops

    class InfoNCE(keras.losses.Loss):
        """Mean of the cross-entropies of rows and of columns."""

        def call(self, y_true: Any, logits: Any) -> Any:
            own = ops.diagonal(logits)
            both = ops.logsumexp(logits, axis=1) + ops.logsumexp(logits, axis=0)
            return both / 2 - own

    return {"logits": InfoNCE()}


def our_block(name: str) -> Any:
    """Returns the transformer block of mmkeras."""
    from mmkeras.layers import TransformerBlock

    return TransformerBlock(HEADS, 4 * WIDTH, name=name)


def keras_block(name: str) -> Any:
    """Returns a pre-norm block of Keras' own layers."""
    from keras import layers

    def call(x: Any, mask: Any) -> Any:
        y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)
        attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"{name}_attention")
        x = x + attention(y, y, key_mask=mask)
        y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_mlp_norm")(x)
        y = layers.Dense(4 * WIDTH, activation="gelu", name=f"{name}_in")(y)
        return x + layers.Dense(WIDTH, name=f"{name}_out")(y)

    return call
