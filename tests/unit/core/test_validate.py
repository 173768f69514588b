"""Numbers of microseconds: exact, however long the duration is."""

from __future__ import annotations

from fractions import Fraction

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from kaiju_app._core.validate import product

pytestmark = pytest.mark.pure


@given(st.integers(0, 10**18), st.floats(0, 1e9, allow_subnormal=False) | st.integers(0, 10**9))
@example(1_000_000, 0.0078125)  # 7812.5: halves go to the even number, as round() does it.
@example(1_000_000, 0.0234375)
def test_a_product_is_that_of_fractions(whole: int, number: float) -> None:
    assert product(whole, number) == round(whole * Fraction(number))
