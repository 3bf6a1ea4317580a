"""The recurrent layers of the encoders."""

import keras


def recurrent(kind: str, hidden_dim: int, bidirectional: bool, name: str) -> keras.layers.Layer:
    """Returns an LSTM or GRU over sequences; called with `mask=` it skips what is masked.

    It never uses cuDNN, so that the same graph compiles under XLA on every device.

    Args:
        kind: "lstm" or "gru".
        hidden_dim: units (of each direction).
        bidirectional: whether a second one reads backwards; the outputs are concatenated.
        name: prefix.
    """
    made = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[kind](
        hidden_dim, return_sequences=True, use_cudnn=False, name=f"{name}_{kind}"
    )
    return keras.layers.Bidirectional(made, name=f"{name}_bi{kind}") if bidirectional else made
