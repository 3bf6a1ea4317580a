"""Results that are a dict to programs and a table to readers."""

from collections.abc import Sequence
from typing import Any


class Shown(dict):
    """A dict whose `print` is the text it was given.

    Args:
        content: of the dict.
        text: what `str` returns.
    """

    def __init__(self, content: dict, text: str) -> None:
        """Keeps both."""
        super().__init__(content)
        self.text = text

    def __str__(self) -> str:
        """The text."""
        return self.text


def columns(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Returns rows of cells as lines, columns aligned."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
