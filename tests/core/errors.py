"""`says`: an error of a type whose text holds every given part (rule, received value, way out)."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def says(kind: type[Exception], *parts: str) -> Iterator[None]:
    with pytest.raises(kind) as caught:
        yield
    text = str(caught.value)
    assert caught.type is kind, f"{caught.type.__name__} instead of {kind.__name__}: {text}"
    for part in parts:
        assert part in text, f"{part!r} is not in: {text}"
