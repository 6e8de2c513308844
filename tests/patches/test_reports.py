"""locust_tcp/patches/reports.py: the rounding, and that Locust is still what the module rests on."""

import importlib.util
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locust_tcp.metrics.rounding import three_digits
from locust_tcp.patches import reports
from tests import upstream

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


@given(st.floats(min_value=0.0, max_value=99_999.0))
def test_a_time_fits_into_its_column_of_the_console(milliseconds: float) -> None:
    cell = reports._cell(milliseconds)
    assert len(cell) <= 6
    assert float(cell) == three_digits(milliseconds)


# What upstream.digest says of each function that reports.py replaces, calls, or whose way of
# doing things it counts on. If one differs, read what has changed upstream, see to reports.py, and
# put the new one here.
UPSTREAM = {
    "locust.stats:bucket_response_time": "24a169d73d87952177c7bc88e8c23e5c",
    "locust.stats:calculate_response_time_percentile": "3fb52dcc666725822726ecf8cac7da30",
    "locust.stats:update_stats_history": "bd105ceab1e7a8cf86d895263f0c10aa",
    "locust.stats:get_stats_summary": "c92f07b7f25737ef101bb652c0c47e56",
    "locust.stats:get_percentile_stats_summary": "4b7e716662d1b4a10d04cbc3c4131fa3",
    "locust.stats:StatsEntry._log_response_time": "494b295b80497165af6dbb914a7f1aaa",
    "locust.stats:StatsEntry.get_response_time_percentile": "c6031ce7cf30009b286f9e82e882b548",
    "locust.stats:StatsEntry.get_current_response_time_percentile": "1aeb4885dc5c334e90fffd79827c9f4f",
    "locust.stats:StatsEntry.median_response_time": "c413b571512be214a2834179a0cd168d",
    "locust.stats:StatsEntry.to_dict": "4dfce1ec00956a380cca7b595e6b11a4",
    "locust.stats:StatsEntry.to_string": "23868690d1d12ef59451b2394d6116bc",
    "locust.stats:StatsEntry.percentile": "f92edbfa197dc906f001e029ca7b0535",
    "locust.stats:StatsCSV._percentile_fields": "80a98540443c18995c21ccab8eacdeb5",
    "locust.stats:StatsCSV.requests_csv": "5fa903a16d4d805c32a4c84393dd78a2",
    "locust.stats:StatsCSVFileWriter.close_files": "bbac080feb23a3846cfcfd3fc08778ea",
    "locust.stats:StatsCSVFileWriter.stats_writer": "b8b395a5f877eeabf92624efa68dadfa",
    "locust.runners:MasterRunner.quit": "79b05b94ee3b9c30378d0a539f17b280",
    "locust.html:get_html_report": "8c9e26dc159f2edd45d29c71d5097e01",
}


@pytest.mark.parametrize("name", UPSTREAM)
def test_locust_is_still_what_the_reports_rest_on(name: str) -> None:
    assert upstream.digest(name) == UPSTREAM[name]


@pytest.mark.parametrize(("page", "columns"), [("assets/*.js", 2), ("report.html", 3)])
def test_the_pages_script_still_rounds_where_we_undo_it(page: str, columns: int) -> None:
    spec = importlib.util.find_spec("locust")
    assert spec and spec.origin
    (script,) = (Path(spec.origin).parent / "webui/dist").glob(page)
    text = script.read_text()
    changed = reports.unrounded(text)
    assert len(text) == len(changed)
    assert sum(old != new for old, new in zip(text, changed, strict=True)) == columns
