"""Sentences."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mmkeras.core import checks
from mmkeras.core.modality import Modality

TOKENIZERS = ("bytes", "characters", "wordpiece", "words")


@dataclass(frozen=True)
class Text(Modality):
    """A sentence: UTF-8 -> int32 token ids (L,), 0 = padding, 1 = unknown.

    Args:
        length: number of tokens L; longer texts are cut, shorter ones padded and masked.
        tokenizer: "words" (lower-cased runs of letters and digits), "characters" (code points as
            they are, white space and controls as one space each) or "bytes" (of UTF-8; nothing to
            learn), all three with TensorFlow's core ops only, "wordpiece" (tensorflow_text), or the
            description of a keras-hub tokenizer, as `mk.encoders.pretrained(...).modality()` makes
            it; the vocabulary is then its own.
        vocabulary_size: largest vocabulary that is learnt, special tokens included.
        vocabulary: the tokens by id; learnt from the training rows when None. The first two must
            be "[PAD]" and "[UNK]", the next "[SEP]" when there are segments and "[MASK]" with
            `mask_token` (with a keras-hub tokenizer, whatever it has there).
        segments: parts of a text, separated by a tab, e.g. question and paragraph; each ends with
            the token "[SEP]" (id 2) when there are several, as in BERT.
        mask_token: whether the vocabulary has "[MASK]", for masked language modelling
            (`mk.objectives.MaskedText`); it stands after the other special tokens. A keras-hub
            tokenizer may have it of itself.
        augment: training only, e.g. `{"word_dropout": {"rate": 0.1}}`; see
            `mmkeras.data.augment` for the list and arguments.
        max_bytes: a longer text is unreadable; it is not split.
    """

    kind: ClassVar[str] = "text"
    augmentations: ClassVar[tuple[str, ...]] = (
        "character_noise",
        "swap",
        "synonyms",
        "word_dropout",
    )

    length: int = 32
    tokenizer: str | dict[str, Any] = "words"
    vocabulary_size: int = 10_000
    vocabulary: tuple[str, ...] | None = None
    segments: int = 1
    mask_token: bool = False
    augment: dict[str, dict] = field(default_factory=dict)
    max_bytes: int = 2**16

    def __post_init__(self) -> None:
        """Checks and normalises the arguments."""
        for name, minimum in (
            ("length", 1),
            ("segments", 1),
            ("vocabulary_size", 3),
            ("max_bytes", 1),
        ):
            self._whole(name, minimum)
        self._check_augment()
        if isinstance(self.tokenizer, Mapping):
            self._check_pretrained()
            return
        checks.one_of("tokenizer", self.tokenizer, TOKENIZERS)
        if self.tokenizer == "bytes" and self.vocabulary is None:
            self._set("vocabulary", (*self.special, *(f"<{byte:02X}>" for byte in range(256))))
        if self.vocabulary is not None:
            self._set("vocabulary", tuple(self.vocabulary))
            self._check_vocabulary()

    def _check_vocabulary(self) -> None:
        held = self.vocabulary[: len(self.special)]
        if held != self.special:
            wanted = ", ".join(map(repr, self.special))
            raise ValueError(
                f"`vocabulary` must start with {wanted}. Received: {held}. Put them in front."
            )
        if len(set(self.vocabulary)) != len(self.vocabulary):
            twice = [t for t, n in Counter(self.vocabulary).items() if n > 1]
            raise ValueError(
                f"`vocabulary` must hold each token once. Received twice: {twice[:5]}. "
                "Drop the repetitions."
            )
        if self.tokenizer == "bytes" and len(self.vocabulary) != len(self.special) + 256:
            raise ValueError(
                "The vocabulary of bytes must hold 256 of them. Received: "
                f"{len(self.vocabulary)} tokens. Leave `vocabulary` out."
            )

    @property
    def special(self) -> tuple[str, ...]:
        """The tokens that come first in the vocabulary."""
        found = ("[PAD]", "[UNK]", "[SEP]") if self.segments > 1 else ("[PAD]", "[UNK]")
        return (*found, "[MASK]") if self.mask_token else found

    def _check_pretrained(self) -> None:
        if self.segments > 1:
            raise ValueError(
                "A keras-hub tokenizer takes one segment. Received: "
                f"segments={self.segments}. Leave `segments` out."
            )
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
