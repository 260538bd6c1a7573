"""The test suite that pandas publishes for extension arrays, run on the events column.

Left out, with the reason:

Whole classes
    BaseParsingTests: read_csv would need histories written out in full in CSV cells; cells hold
        the short form for people. Parquet is the file format, JSON round-trips too.
    Dim2CompatTests, NDArrayBacked2DTests: for arrays that can have two axes.

Single tests, because histories have no order (``test_no_order`` checks the error instead)
    TestMethods: argsort, argsort_missing, argsort_missing_array, argmin_argmax,
        argmin_argmax_empty_array, argmin_argmax_all_na, argreduce_series, nargsort, sort_values,
        sort_values_missing, sort_values_frame, sort_inplace, sort_inplace_descending,
        sort_inplace_na_position, rank, rank_method, rank_missing, searchsorted, combine_le;
        is_monotonic_increasing and is_monotonic_decreasing (both are always False).
    TestMethods: value_counts and value_counts_with_normalize sort their result by label; they are
        replaced by tests that compare in order of counts.
    TestGroupby: extension_agg, extension_transform, extension_apply group by histories and sort
        the groups. Replaced by the same with ``sort=False``; extension_no_sort runs as it is.

Single tests, because histories are not numbers
    TestArithmetic: divmod_series_array needs an array of twos.
    TestMethods: diff needs subtraction.
    TestReduce: reduce_frame is for reductions that give a number; there are none.
    TestPlotting: plot_on_y_axis; that it raises TypeError is checked instead.

The suite itself marks getitem_series_integer_with_missing_raises as failing for most arrays.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pandas._testing as tm
import pytest

# The fixtures that the suite asks for; those that describe the data are replaced below.  Before
# pandas 3.1 some of them were in the conftest of all of pandas' tests only.
from pandas.conftest import (
    all_arithmetic_operators,  # noqa: F401
    all_boolean_reductions,  # noqa: F401
    all_numeric_accumulations,  # noqa: F401
    all_numeric_reductions,  # noqa: F401
    comparison_op,  # noqa: F401
    using_nan_is_na,  # noqa: F401
)
from pandas.tests.extension import base
from pandas.tests.extension.conftest import *  # noqa: F403

from tawt_sklearn.events import EventsArray, EventsDtype

ONE = [(0.5, "hr", 80.0)]
TWO = [(0.5, "hr", 80.0), (2.0, "temp", 37.5)]
THREE = [(1.0, "hr", np.nan), (1.0, "temp", 36.25), (4.0, "gcs", 15.0)]
NO_ORDER = "Event histories have no order"


def histories(rows: list[list[tuple[float, str, float]] | None]) -> EventsArray:
    """Array of rows given as lists of (time, code, value); None is a missing row."""
    events = [event for row in rows for event in row or ()]
    codes = sorted({code for _, code, _ in events})
    return EventsArray.from_flat(
        time=[time for time, _, _ in events],
        code=[codes.index(code) for _, code, _ in events],
        value=[value for _, _, value in events],
        offsets=np.cumsum([0, *(len(row or ()) for row in rows)]),
        codes=codes,
        isna=[row is None for row in rows],
    )


@pytest.fixture
def dtype():
    return EventsDtype("h")


@pytest.fixture
def data():
    return histories([ONE, TWO, [], THREE, *([(float(i), "hr", 60.0 + i)] for i in range(6))])


@pytest.fixture
def data_missing():
    return histories([None, TWO])


@pytest.fixture
def data_for_sorting():
    return histories([TWO, THREE, ONE])


@pytest.fixture
def data_missing_for_sorting():
    return histories([TWO, None, ONE])


@pytest.fixture
def data_for_grouping():
    return histories([TWO, TWO, None, None, ONE, ONE, TWO, THREE])


class TestAccumulate(base.BaseAccumulateTests):
    pass


class TestArithmetic(base.BaseArithmeticOpsTests):
    test_divmod_series_array = None


class TestCasting(base.BaseCastingTests):
    pass


class TestComparison(base.BaseComparisonOpsTests):
    pass


class TestConstructors(base.BaseConstructorsTests):
    pass


class TestDtype(base.BaseDtypeTests):
    pass


class TestGetitem(base.BaseGetitemTests):
    pass


class TestGroupby(base.BaseGroupbyTests):
    test_groupby_extension_agg = None
    test_groupby_extension_transform = None
    test_groupby_extension_apply = None

    @pytest.fixture
    def groups(self, data_for_grouping):
        frame = pd.DataFrame({"A": [1, 1, 2, 2, 3, 3, 1, 4], "B": data_for_grouping})
        return frame.groupby("B", sort=False, group_keys=False)

    def test_unsorted_agg(self, groups, data_for_grouping):
        expected = pd.DataFrame({"B": data_for_grouping.take([0, 4, 7]), "A": [1.0, 3.0, 4.0]})
        tm.assert_frame_equal(groups.mean().reset_index(), expected)

    def test_unsorted_transform(self, groups):
        expected = pd.Series([3, 3, np.nan, np.nan, 2, 2, 3, 1], name="A")
        tm.assert_series_equal(groups.A.transform(len), expected)

    def test_unsorted_apply(self, groups, groupby_apply_op):
        groups.apply(groupby_apply_op)
        groups.A.apply(groupby_apply_op)


class TestIndex(base.BaseIndexTests):
    pass


class TestInterface(base.BaseInterfaceTests):
    pass


class TestMethods(base.BaseMethodsTests):
    test_argsort = None
    test_argsort_missing = None
    test_argsort_missing_array = None
    test_argmin_argmax = None
    test_argmin_argmax_empty_array = None
    test_argmin_argmax_all_na = None
    test_argreduce_series = None
    test_nargsort = None
    test_sort_values = None
    test_sort_values_missing = None
    test_sort_values_frame = None
    test_sort_inplace = None
    test_sort_inplace_descending = None
    test_sort_inplace_na_position = None
    test_rank = None
    test_rank_method = None
    test_rank_missing = None
    test_is_monotonic_increasing = None
    test_is_monotonic_decreasing = None
    test_searchsorted = None
    test_combine_le = None
    test_diff = None

    @pytest.mark.parametrize(
        "ordering",
        [
            lambda s: s.array.argsort(),
            lambda s: s.array.argmin(),
            lambda s: s.array.argmax(),
            lambda s: s.argsort(),
            lambda s: s.sort_values(),
            lambda s: s.idxmax(),
            lambda s: s.rank(),
            lambda s: s.searchsorted(s.iloc[0]),
            lambda s: s.combine(s, lambda left, right: left <= right),
            lambda s: s.to_frame("A").assign(B=1).groupby("A").sum(),
            # Arrays of pandas 3.1 can be sorted in place.
            *([lambda s: s.array.sort()] if hasattr(EventsArray, "sort") else []),
        ],
    )
    def test_no_order(self, data, ordering):
        with pytest.raises(TypeError, match=NO_ORDER):
            ordering(pd.Series(data))

    def test_no_order_among_several_keys(self, data):
        frame = pd.DataFrame({"A": data, "B": 1})
        with pytest.raises(TypeError, match="not ordered"):
            frame.sort_values(["B", "A"])

    @pytest.mark.parametrize("dropna", [True, False])
    def test_value_counts(self, data_for_grouping, dropna):
        rows = data_for_grouping
        counts = rows.value_counts(dropna=dropna)
        kept = rows.take([0, 4, 7]) if dropna else rows.take([0, 2, 4, 7])
        assert counts.tolist() == ([3, 2, 1] if dropna else [3, 2, 2, 1])
        assert counts.index.array.equals(kept)

    def test_value_counts_with_normalize(self, data):
        shares = pd.Series(data).value_counts(normalize=True)
        assert shares.index.array.equals(data)
        np.testing.assert_allclose(shares.astype("float64"), 0.1)


class TestMissing(base.BaseMissingTests):
    pass


if hasattr(base, "BasePlottingTests"):  # the suite has them since pandas 3.1

    class TestPlotting(base.BasePlottingTests):
        def test_plot_on_y_axis(self, plot_data, **kwargs):
            with pytest.raises(TypeError, match="no numeric data to plot"):
                super().test_plot_on_y_axis(plot_data, **kwargs)


class TestPrinting(base.BasePrintingTests):
    pass


class TestReduce(base.BaseReduceTests):
    test_reduce_frame = None


class TestReshaping(base.BaseReshapingTests):
    pass


class TestSetitem(base.BaseSetitemTests):
    pass


class TestUnary(base.BaseUnaryOpsTests):
    pass
