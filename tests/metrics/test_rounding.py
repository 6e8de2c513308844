"""locust_tcp/metrics/rounding.py."""

import math

from hypothesis import given
from hypothesis import strategies as st

from locust_tcp.metrics.rounding import pack, three_digits, unpack

times = st.floats(min_value=0.001, max_value=1e6)  # milliseconds: from a microsecond to a quarter of an hour


@given(times)
def test_three_significant_digits_are_kept(milliseconds: float) -> None:
    rounded = three_digits(milliseconds)
    assert math.isclose(rounded, milliseconds, rel_tol=0.00501)
    assert float(f"{rounded:.3g}") == rounded


@given(times, times)
def test_rounding_keeps_the_order_and_is_done_once(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert three_digits(low) <= three_digits(high)
    assert three_digits(three_digits(one)) == three_digits(one)


def test_the_number_of_buckets_is_bounded() -> None:
    # From a microsecond to 1000 seconds there are nine powers of ten; below it one bucket each 10 ns.
    steps = {three_digits(10 ** (exponent / 10_000)) for exponent in range(-30_000, 60_000)}
    assert len(steps) <= 9 * 900 + 1
    assert {three_digits(nanoseconds / 1e6) for nanoseconds in range(1000)} == {
        hundredth / 1e5 for hundredth in range(101)
    }


@given(st.dictionaries(st.floats(0, 1e6).map(three_digits), st.integers(1, 10**9)))
def test_a_packed_histogram_is_unpacked_as_it_was(histogram: dict[float, int]) -> None:
    packed = pack(histogram)
    assert isinstance(packed, list)
    assert all(type(number) is int and number >= 0 for number in packed)
    assert unpack(packed) == histogram


def test_other_times_are_not_packed() -> None:
    assert pack({0.12345: 1}) == {0.12345: 1}
    assert unpack({0.12345: 1}) == {0.12345: 1}
    for wrong in ([10**6, 1], ["a", 1], [None, None], 5, None):
        assert unpack(wrong) == wrong
