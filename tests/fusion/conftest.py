"""Fusions of aligned sequences are tested with such."""

import pytest

from tests.fusion.inputs import LENGTHS

ALIGNED = ("memory_fusion",)


@pytest.fixture(autouse=True)
def _aligned(request, monkeypatch):
    """Makes the sequences of the inputs equally long for a fusion that takes no others."""
    parameters = getattr(getattr(request.node, "callspec", None), "params", {})
    if parameters.get("name") in ALIGNED:
        for modality in ("image", "text"):
            monkeypatch.setitem(LENGTHS, modality, 3)
