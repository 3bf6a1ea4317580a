"""An image encoder on every frame, and an LSTM or transformer blocks over the frames."""

from typing import Any

import keras

from mmkeras import encoders
from mmkeras.core import Video
from mmkeras.encoders.base import begin, end
from mmkeras.layers import LearnedPositions, MergeItems, SplitItems, TransformerBlock


def video_frames_lstm(
    name: str,
    modality: Video,
    *,
    encoder: Any = None,
    hidden_dim: int = 64,
    bidirectional: bool = False,
    dropout: float = 0.0,
) -> keras.Model:
    """Frames as vectors, then an LSTM that skips masked ones (LRCN, Donahue et al. 2015).

    The LSTM never uses cuDNN, so that the same graph compiles under XLA on every device.

    Args:
        name: of the modality; prefix of every layer.
        modality: a `Video` of N frames.
        encoder: of the frames: any image encoder, by name or `{"name": ..., **arguments}`; its
            tokens of a frame are joined by a dense layer. None takes the first.
        hidden_dim: width of a frame's vector, and units; D, twice that when bidirectional.
        bidirectional: whether a second LSTM reads backwards.
        dropout: rate on the frames' vectors.

    Returns:
        Functional model to tokens (B, N, D) and the mask (B, N).
    """
    inputs, x, mask = _frames(name, modality, encoder, hidden_dim)
    if dropout:
        x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    layer = keras.layers.LSTM(
        hidden_dim, return_sequences=True, use_cudnn=False, name=f"{name}_lstm"
    )
    if bidirectional:
        layer = keras.layers.Bidirectional(layer, name=f"{name}_bilstm")
    return end(name, "frames_lstm", inputs, layer(x, mask=mask), mask)


def video_frames_transformer(
    name: str,
    modality: Video,
    *,
    encoder: Any = None,
    hidden_dim: int = 64,
    num_layers: int = 2,
    num_heads: int = 4,
    dropout: float = 0.1,
) -> keras.Model:
    """Frames as vectors with learned positions, then pre-norm transformer blocks over them.

    Args:
        name: of the modality; prefix of every layer.
        modality: a `Video` of N frames.
        encoder: of the frames, as of `video_frames_lstm`.
        hidden_dim: D; the MLPs are 4 D wide.
        num_layers, num_heads: of the blocks.
        dropout: rate inside the blocks.

    Returns:
        Functional model to tokens (B, N, D) and the mask (B, N).
    """
    inputs, x, mask = _frames(name, modality, encoder, hidden_dim)
    x = LearnedPositions(modality.frames, name=f"{name}_positions")(x)
    for i in range(num_layers):
        block = TransformerBlock(
            num_heads, 4 * hidden_dim, dropout=dropout, name=f"{name}_block{i}"
        )
        x = block(x, mask)
    x = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)
    return end(name, "frames_transformer", inputs, x, mask)


def _frames(name: str, modality: Video, encoder: Any, hidden_dim: int) -> tuple[dict, Any, Any]:
    """Returns `(inputs, vectors (B, N, D), mask (B, N))`."""
    inputs, pixels, mask = begin(name, modality)
    frame = f"{name}_frame"
    model = encoders.get(encoder, frame, modality.picture)
    merged = {
        frame: MergeItems(name=f"{name}_merge")(pixels),
        f"{frame}_mask": MergeItems(name=f"{name}_merge_mask")(mask),
    }
    tokens = model(merged)["tokens"]  # (B * N, grid, width)
    joined = keras.layers.Reshape((tokens.shape[1] * tokens.shape[2],), name=f"{name}_grid")(tokens)
    joined = keras.layers.Dense(hidden_dim, name=f"{name}_join")(joined)
    return inputs, SplitItems(modality.frames, name=f"{name}_split")(joined), mask
