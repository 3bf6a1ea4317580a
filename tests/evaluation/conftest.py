"""One trained model for all tests of this folder."""

import pytest

from tests.evaluation import trained as made


@pytest.fixture(scope="session")
def trained():
    return made.trained()
