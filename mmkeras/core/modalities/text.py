"""Sentences."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mmkeras.core import checks
from mmkeras.core.modality import Modality


@dataclass(frozen=True)
class Text(Modality):
    """A sentence: UTF-8 -> int32 token ids (L,), 0 = padding, 1 = unknown.

    Args:
        length: number of tokens L; longer texts are cut, shorter ones padded and masked.
        tokenizer: "words" (lower-cased runs of letters and digits; TensorFlow core ops only),
            "wordpiece" (tensorflow_text), or the description of a keras-hub tokenizer, as
            `mk.encoders.pretrained(...).modality()` makes it; the vocabulary is then its own.
        vocabulary_size: largest vocabulary that is learnt, special tokens included.
        vocabulary: the tokens by id; learnt from the training rows when None. The first two must
            be "[PAD]" and "[UNK]" (with a keras-hub tokenizer, whatever it has there).
    """

    kind: ClassVar[str] = "text"

    length: int = 32
    tokenizer: str | dict[str, Any] = "words"
    vocabulary_size: int = 10_000
    vocabulary: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Checks and normalises the arguments."""
        self._whole("length")
        self._whole("vocabulary_size", 3)
        if isinstance(self.tokenizer, Mapping):
            self._check_pretrained()
            return
        checks.one_of("tokenizer", self.tokenizer, ("words", "wordpiece"))
        if self.vocabulary is not None:
            self._set("vocabulary", tuple(self.vocabulary))
            if self.vocabulary[:2] != ("[PAD]", "[UNK]"):
                raise ValueError(
                    "`vocabulary` must start with '[PAD]', '[UNK]'. "
                    f"Received: {self.vocabulary[:2]}. Put the two in front."
                )
            if len(set(self.vocabulary)) != len(self.vocabulary):
                twice = [t for t, n in Counter(self.vocabulary).items() if n > 1]
                raise ValueError(
                    f"`vocabulary` must hold each token once. Received twice: {twice[:5]}. "
                    "Drop the repetitions."
                )

    def _check_pretrained(self) -> None:
        if "config" not in self.tokenizer or not self.vocabulary:
            raise ValueError(
                "A keras-hub tokenizer needs its description and its vocabulary. Received: "
                f"tokenizer with {sorted(self.tokenizer)}, vocabulary={self.vocabulary!r}. Use "
                "mk.encoders.pretrained(...).modality(length=...), which gives both."
            )
        self._set("tokenizer", dict(self.tokenizer))
        self._set("vocabulary", tuple(self.vocabulary))

    shape = property(lambda self: (self.length,), doc="(L,).")
    dtype = property(lambda self: "int32", doc="Token ids.")
    mask_shape = property(lambda self: (self.length,), doc="(L,): True at real tokens.")
    adapted = property(lambda self: self.vocabulary is not None, doc="Has its vocabulary.")
