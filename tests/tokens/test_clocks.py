from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens.clocks import (
    SECONDS,
    as_times,
    calendar_fields,
    to_clock,
    to_local_seconds,
)

HALF_PAST_SIX = pd.Timestamp("2024-07-01 06:30", tz="UTC")


@pytest.mark.parametrize("unit", SECONDS)
@pytest.mark.parametrize("resolution", ["s", "ms", "us", "ns"])
def test_dates_are_counted_from_1970_in_utc(unit, resolution):
    column = pd.Series([HALF_PAST_SIX, pd.NaT]).dt.as_unit(resolution)
    expected = HALF_PAST_SIX.timestamp() / SECONDS[unit]
    for zone in ("UTC", "Asia/Kolkata"):
        np.testing.assert_allclose(to_clock(column.dt.tz_convert(zone), unit), [expected, np.nan])
    np.testing.assert_allclose(to_clock(column.dt.tz_localize(None), unit), [expected, np.nan])


def test_the_clock_on_the_wall_follows_its_zone_and_summer_time():
    column = pd.Series([HALF_PAST_SIX, pd.Timestamp("2024-01-01 06:30", tz="UTC")])
    fields = calendar_fields(
        to_local_seconds(column.dt.tz_convert("America/New_York"), "zoned datetime", None, "t")
    )
    assert fields["hour"].tolist() == [2.5, 1.5]
    assert fields["weekday"].tolist() == [0, 0] and fields["month"].tolist() == [6, 0]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([datetime.datetime(2024, 1, 1), None], "datetime"),
        ([datetime.date(2024, 1, 1), None], "datetime"),
        ([HALF_PAST_SIX, None], "zoned datetime"),
        ([datetime.timedelta(hours=1), None], "time difference"),
        ([1, 2.5], "number"),
        ([None, None], "number"),
    ],
)
def test_objects_are_looked_into(values, kind):
    assert as_times(pd.Series(values, dtype=object), "t")[1] == kind


def test_dates_of_pyarrow():
    pytest.importorskip("pyarrow")
    column = pd.Series([HALF_PAST_SIX, pd.NaT])
    for plain in (column, column.dt.tz_localize(None)):
        # A copy, as pandas 3.0 makes zero out of the NaT of the original.
        arrow = plain.copy().convert_dtypes(dtype_backend="pyarrow")
        assert isinstance(arrow.dtype, pd.ArrowDtype)
        assert as_times(arrow, "t")[1] == as_times(plain, "t")[1]
        np.testing.assert_array_equal(to_clock(arrow, "h"), to_clock(plain, "h"))


def test_dates_of_several_zones_are_refused():
    mixed = [HALF_PAST_SIX, HALF_PAST_SIX.tz_localize(None)]
    with pytest.raises(DataError, match="'t' holds dates of several kinds"):
        as_times(pd.Series(mixed, dtype=object), "t")
