"""The tokenizer of a keras-hub model, from the spec of a Text, in the graph."""

import base64
from typing import Any

import keras
import tensorflow as tf

from mmkeras.core import Text


class PretrainedTokenizer(tf.Module):
    """UTF-8 (B,) -> ragged int32 ids (B, None), cut to the length of the spec.

    The pieces are keras-hub's own; the ids of start and end, where the tokenizer has them, stand
    around them, and count in the length: what is cut is cut before the end. An empty text has no
    ids at all: it is absent. A byte that the vocabulary lacks becomes id 0.
    """

    def __init__(self, modality: Text) -> None:
        """Rebuilds the tokenizer.

        Args:
            modality: a spec whose `tokenizer` is a description (see `mk.encoders.pretrained`).

        Raises:
            ImportError: keras-hub is not there.
        """
        super().__init__()
        self.modality = modality
        self.pieces = _rebuild(modality)
        # keras-hub returns Python lists outside of a graph.
        self.split = tf.function(
            self.pieces.tokenize, input_signature=[tf.TensorSpec((None,), tf.string)]
        )

    def tokenize(self, raw: Any) -> Any:
        """Tokenizes a batch."""
        about = self.modality.tokenizer
        ends = [about[key] for key in ("start", "end")]
        room = self.modality.length - sum(end is not None for end in ends)
        ids = tf.maximum(tf.cast(self.split(raw), tf.int32), 0)[:, : max(room, 0)]
        count = tf.shape(raw)[0]
        start, end = (
            [] if end is None else [tf.RaggedTensor.from_tensor(tf.fill((count, 1), end))]
            for end in ends
        )
        whole = tf.concat([*start, ids, *end], axis=1)
        lengths = tf.where(tf.strings.length(raw) > 0, whole.row_lengths(), 0)
        return tf.RaggedTensor.from_tensor(whole.to_tensor(), lengths=lengths)


def _rebuild(modality: Text) -> Any:
    try:
        import keras_hub  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "The tokenizer of a keras-hub model needs keras-hub: pip install keras-hub."
        ) from error
    about = modality.tokenizer
    tokenizer = keras.saving.deserialize_keras_object(about["config"])
    if about.get("proto") is not None:
        tokenizer.set_proto(base64.b64decode(about["proto"]))
    elif about.get("merges") is not None:
        vocabulary = {token: i for i, token in enumerate(modality.vocabulary)}
        tokenizer.set_vocabulary_and_merges(vocabulary, list(about["merges"]))
    else:
        tokenizer.set_vocabulary(list(modality.vocabulary))
    return tokenizer
