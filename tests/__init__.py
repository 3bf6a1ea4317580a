"""Tests, mirroring mmkeras/; `contract.py` is the shared harness."""

import pytest

pytest.register_assert_rewrite("tests.contract")
