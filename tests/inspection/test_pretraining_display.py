"""The picture of a pretraining run shows what its history says."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from tawt_sklearn import TimeAwareEncoder, TripletSequencer
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.inspection import PretrainingDisplay

plt = pytest.importorskip("matplotlib.pyplot")
plt.switch_backend("Agg")


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture
def history() -> pd.DataFrame:
    """Four epochs of two parts, with rows held out."""
    falling = np.array([4.0, 2.0, 1.5, 1.0])
    return pd.DataFrame(
        {
            "epoch": [1, 2, 3, 4],
            "train_masked_value": falling,
            "valid_masked_value": falling + 0.2,
            "train_masked_summary": falling / 2,
            "valid_masked_summary": falling / 2 + 0.1,
            "effective_rank": [3.0, 9.0, 14.0, 17.0],
            "alignment": [0.9, 0.7, 0.5, 0.4],
            "uniformity": [-1.0, -2.0, -2.5, -3.0],
            "train_loss": falling * 1.5,
            "valid_loss": falling * 1.5 + 0.3,
            "seconds": 1.0,
        }
    )


def curves(axes) -> dict[str, np.ndarray]:
    """Heights of the lines of a panel, by label and style."""
    return {
        line.get_label() + line.get_linestyle(): line.get_ydata()
        for line in axes.get_lines()
        if not line.get_label().startswith("_child")
    }


def test_the_left_panel_has_every_part_full_and_its_held_out_twin_dashed(history):
    loss = PretrainingDisplay(history=history).plot().axes_[0]
    drawn = curves(loss)
    assert set(drawn) == {
        *("all-", "masked_value-", "masked_summary-"),
        *("_all, held out--", "_masked_value, held out--", "_masked_summary, held out--"),
    }
    np.testing.assert_array_equal(drawn["all-"], history["train_loss"])
    np.testing.assert_array_equal(drawn["_masked_value, held out--"], history["valid_masked_value"])
    named = [text.get_text() for text in loss.get_legend().get_texts()]
    assert named == ["all", "masked_value", "masked_summary"]
    assert "dashed" in loss.get_title()


def test_a_part_and_its_held_out_twin_have_the_same_colour_and_parts_differ(history):
    lines = PretrainingDisplay(history=history).plot().axes_[0].get_lines()
    colours = [line.get_color() for line in lines]
    assert colours[::2] == colours[1::2]
    assert len(set(colours)) == 3


def test_a_single_part_is_drawn_once(history):
    history = history.drop(columns=["train_masked_summary", "valid_masked_summary"])
    loss = PretrainingDisplay(history=history).plot().axes_[0]
    assert set(curves(loss)) == {"masked_value-", "_masked_value, held out--"}


def test_the_right_panel_shows_rank_alignment_and_uniformity_and_names_collapse(history):
    _, rank, views = PretrainingDisplay(history=history).plot().axes_
    np.testing.assert_array_equal(curves(rank)["effective rank-"], history["effective_rank"])
    np.testing.assert_array_equal(curves(views)["alignment-"], history["alignment"])
    np.testing.assert_array_equal(curves(views)["uniformity-"], history["uniformity"])
    assert "collapsed" in rank.get_title()
    for axes, collapsed in ((rank, 1.0), (views, 0.0)):
        (dotted,) = [line for line in axes.get_lines() if line.get_linestyle() == ":"]
        assert set(dotted.get_ydata()) == {collapsed}
        low, high = axes.get_ylim()
        assert low < collapsed < high  # in sight


def test_passes_without_held_out_rows_leave_a_gap(history):
    later = history.drop(columns=[c for c in history if c.startswith("valid_")])
    joined = pd.concat([history, later.assign(epoch=later["epoch"] + 4)], ignore_index=True)
    drawn = curves(PretrainingDisplay(history=joined).plot().axes_[0])
    assert np.isfinite(drawn["all-"]).all()
    np.testing.assert_array_equal(np.isnan(drawn["_all, held out--"]), [False] * 4 + [True] * 4)


def test_two_axes_are_used_as_they_are(history):
    figure, panels = plt.subplots(1, 2)
    display = PretrainingDisplay(history=history).plot(ax=panels)
    assert display.figure_ is figure
    assert list(display.axes_[:2]) == list(panels)


def test_one_axes_makes_room_for_both_panels(history):
    figure, (mine, other) = plt.subplots(1, 2)
    display = PretrainingDisplay(history=history).plot(ax=other)
    assert display.figure_ is figure
    assert mine not in list(display.axes_)
    places = [axes.get_position() for axes in display.axes_[:2]]
    assert mine.get_position().x1 < places[0].x0 < places[0].x1 < places[1].x0


@pytest.mark.parametrize("ax", [3, [1, 2, 3], []])
def test_what_is_no_axes_is_refused(history, ax):
    with pytest.raises(ValueError, match=r"Expected ax to be matplotlib Axes.*Got"):
        PretrainingDisplay(history=history).plot(ax=ax)


def test_axes_that_cannot_be_split_are_refused(history):
    axes = plt.figure().add_axes((0.1, 0.1, 0.8, 0.8))
    with pytest.raises(ValueError, match="Pass two of them"):
        PretrainingDisplay(history=history).plot(ax=axes)


def test_a_history_of_something_else_is_refused(history):
    with pytest.raises(DataError, match=r"Got a frame without alignment.*from_estimator"):
        PretrainingDisplay(history=history.drop(columns="alignment"))
    with pytest.raises(DataError, match="Got list"):
        PretrainingDisplay(history=[1.0, 2.0])


def test_without_matplotlib_the_message_says_what_to_install(history, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install \"tawt_sklearn\[plot\]\""):
        PretrainingDisplay(history=history).plot()


def test_an_encoder_is_drawn_alone_or_at_the_end_of_a_pipeline():
    X, _ = make_icu_stays(60, random_state=0)
    encoder = TimeAwareEncoder(
        d_model=8, n_heads=2, n_layers=1, max_epochs=2, min_steps=0, random_state=0, device="cpu"
    )
    pipeline = make_pipeline(TripletSequencer(), encoder).fit(X)
    for fitted in (pipeline, pipeline[-1]):
        display = PretrainingDisplay.from_estimator(fitted)
        loss, rank, _ = display.axes_
        np.testing.assert_array_equal(curves(loss)["all-"], encoder.history_["train_loss"])
        np.testing.assert_array_equal(
            curves(rank)["effective rank-"], encoder.history_["effective_rank"]
        )
        assert len(display.history) == 2


def test_an_encoder_that_is_not_fitted_is_refused():
    with pytest.raises(NotFittedError):
        PretrainingDisplay.from_estimator(TimeAwareEncoder())


def test_an_estimator_that_is_no_encoder_is_refused():
    fitted = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(DataError, match=r"Expected a TimeAwareEncoder.*Got LogisticRegression"):
        PretrainingDisplay.from_estimator(fitted)
