"""A report has every measure beside its references, and a page that needs nothing else."""

from __future__ import annotations

import base64
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from tawt_sklearn.evaluation import (
    SynthesisReport,
    distance_to_closest_record,
    independent_marginals,
    marginal_fidelity,
    report_page,
    subject_bootstrap,
)
from tawt_sklearn.evaluation.report_figures import DRAWINGS
from tawt_sklearn.evaluation.report_rows import ROWS
from tawt_sklearn.exceptions import DataError

from .frames import frame_of

pytest.importorskip("matplotlib")

REFERENCES = ["real hold-out", "subject bootstrap", "independent marginals"]
LABEL_ROWS = ["TRTR", "TSTR", "TRTR - TSTR"]
NAME = 'mine <b>&"it\'s"$x$'
"""Markup, quotes and what could be taken for a formula."""


class Page(HTMLParser):
    """What a page links to, what can be linked to, and which tags are open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.links, self.sources, self.tags, self.open = [], [], [], [], []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if "href" in attrs else []
        self.sources += [attrs["src"]] if "src" in attrs else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def subjects(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Subjects with a level, seen in two codes measured together; the label is its sign."""
    rng = np.random.default_rng(seed)
    histories, levels = [], rng.normal(size=n)
    for level in levels:
        times = rng.exponential(2.0, rng.integers(4, 9)).cumsum().round(2)
        histories.append(
            [
                (time, code, round(float(size * (level + 0.2 * rng.normal())), 2))
                for time in times
                for code, size in (("hr", 10), ("bp", -20))
            ]
            + [(times[-1], "ward", "icu" if level > 0.5 else "home")]
        )
    static = pd.DataFrame(
        {"age": rng.integers(20, 90, n).astype(float), "sex": ["F", "M"] * (n // 2)}
    )
    return frame_of(*histories, static=static), (levels > 0).astype(int)


@pytest.fixture(scope="module")
def cohort():
    (train, y_train), (test, y_test) = subjects(50, 0), subjects(60, 1)
    return train, test.set_axis(range(100, 160)), y_train, y_test


@pytest.fixture(scope="module")
def report(cohort) -> SynthesisReport:
    train, test, y_train, y_test = cohort
    rng = np.random.default_rng(0)
    made = independent_marginals(train, 40, random_state=0)
    copies = subject_bootstrap(train, 40, random_state=0)
    return SynthesisReport.from_frames(
        train,
        test,
        made,
        y_train=y_train,
        y_test=y_test,
        y_synthetic=rng.permutation(y_train)[:40],
        name=NAME,
        log_prob=lambda X: -X["events"].events.lengths.astype(float),
        further={"copies": copies},
        n_bootstrap=0,
        random_state=0,
    )


@pytest.fixture(scope="module")
def page(report, tmp_path_factory) -> str:
    return report.to_html(tmp_path_factory.mktemp("report") / "report.html").read_text("utf-8")


def small(n: int, seed: int, code: str = "hr", *, text: bool = False) -> pd.DataFrame:
    """Subjects with one code, of numbers or of texts only."""
    rng = np.random.default_rng(seed)
    return frame_of(
        *(
            [
                (float(t), code, str(rng.choice(["a", "b"])) if text else round(rng.normal(), 2))
                for t in range(rng.integers(2, 6))
            ]
            for _ in range(n)
        )
    )


def unlabelled_report() -> SynthesisReport:
    frames = [small(20, seed) for seed in range(3)]
    return SynthesisReport.from_frames(*frames, n_bootstrap=2, random_state=3)


@pytest.fixture(scope="module")
def unlabelled() -> SynthesisReport:
    return unlabelled_report()


# ---- numbers ------------------------------------------------------------------------------------


def test_the_table_has_a_row_per_measure_and_a_column_per_generator_and_reference(report):
    assert list(report.table_.columns) == [NAME, "copies", *REFERENCES]
    without_embedding = [row.name for row in ROWS if "embedding" not in row.name]
    assert list(report.table_.index) == without_embedding
    assert (report.table_.dtypes == np.float64).all()
    assert set(report.measures_) == set(report.table_.columns)


def test_references_pass_and_fail_what_they_are_for(report):
    held_out, copy, nothing = (report.table_[name] for name in REFERENCES)
    assert copy["DCR share"] > 0.95 and copy["exact copies"] > 0.9
    assert copy["membership AUC"] > 0.7 and copy["NNAA privacy loss"] > 0.2
    assert nothing["discriminator AUC"] > 0.9 > 0.8 > held_out["discriminator AUC"]
    assert nothing["TRTR - TSTR"] > 0.1
    assert nothing["autocorrelation error"] > 3 * held_out["autocorrelation error"]
    assert held_out["exact copies"] < 0.1
    assert report.table_.loc["exact copies", "copies"] > 0.9


def test_numbers_are_those_of_the_measures(report, cohort):
    train, test, *_ = cohort
    made = report.columns[0].frame
    of = report.measures_[NAME]
    alone = marginal_fidelity(test, made, n_bootstrap=0)
    assert report.table_.loc["mean KS", NAME] == alone.value == of["marginals"].value
    assert report.table_.loc["worst KS", NAME] == alone.details.loc["number", "ks"].max()
    dcr = distance_to_closest_record(train, test, made, n_bootstrap=0).details
    assert report.table_.loc["exact copies", NAME] == dcr["copies_of_train"]
    gap = report.table_.loc["TRTR"] - report.table_.loc["TSTR"]
    assert gap.isna().tolist() == [False, True, False, False, False]  # copies have no labels
    pd.testing.assert_series_equal(report.table_.loc["TRTR - TSTR"], gap, check_names=False)


def test_the_hold_out_is_one_half_of_the_test_subjects_beside_the_other(report, cohort):
    (column,) = [one for one in report.columns if one.name == "real hold-out"]
    assert len(column.frame) == len(column.real) == len(cohort[1]) // 2
    both = [*column.frame.index, *column.real.index]
    assert sorted(both) == sorted(cohort[1].index)


def test_references_have_as_many_subjects_as_the_synthetic_data(report):
    sizes = {column.name: len(column.frame) for column in report.columns}
    assert sizes["subject bootstrap"] == sizes["independent marginals"] == sizes[NAME] == 40


def test_labels_go_with_their_subjects_in_the_copy(report, cohort):
    (column,) = [one for one in report.columns if one.name == "subject bootstrap"]
    events = dict(zip(map(repr, cohort[0]["events"]), cohort[2], strict=True))
    labels = [events[repr(history)] for history in column.frame["events"]]
    unique = len(events) == len(cohort[0])
    assert not unique or (labels == column.y).all()
    assert list(column.frame.columns) == list(cohort[0].columns)


def test_the_likelihood_is_asked_for_the_generator_it_belongs_to(report):
    row = report.table_.loc["membership AUC (likelihood)"]
    assert np.isfinite(row[NAME]) and row.drop(NAME).isna().all()


def test_without_labels_their_rows_are_left_out(unlabelled):
    assert not set(LABEL_ROWS) & set(unlabelled.table_.index)
    assert "tstr" not in unlabelled.measures_["synthetic"]
    with pytest.raises(DataError, match="no labels: pass y_train"):
        unlabelled.plot("utility")
    assert "TSTR" not in unlabelled._repr_html_()


def test_the_same_seed_gives_the_same_report(unlabelled):
    again = unlabelled_report()
    pd.testing.assert_frame_equal(unlabelled.table_, again.table_)
    first, second = (one.measures_["synthetic"]["marginals"] for one in (unlabelled, again))
    assert np.isfinite(first.low) and (first.low, first.high) == (second.low, second.high)
    assert " to " in again._repr_html_()


def test_a_generator_that_has_collapsed_and_data_without_numbers_still_get_a_page(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(report_page, "as_svg", lambda figure: b"")  # drawn, but not rendered
    train, test = small(20, 0, text=True), small(20, 1, text=True)
    made = train.iloc[[0] * 20].reset_index(drop=True)
    report = SynthesisReport.from_frames(train, test, made, n_bootstrap=0, random_state=0)
    assert np.isnan(report.table_.loc["discriminator AUC", "synthetic"])
    assert np.isnan(report.table_.loc["mean KS", "synthetic"])
    assert report.table_.loc["exact copies", "synthetic"] == 1.0
    text = report.to_html(tmp_path / "page.html").read_text("utf-8")
    assert "Not measured:" in text
    left_out = text.partition("Not drawn:")[2]
    for title in ("Numbers", "Autocorrelation", "Correlation between", "Use for", "What betrays"):
        assert f"<li>{title}" in left_out and f"{title}</a>" not in text
    assert "Texts</a>" in text and "Without labels" in text


def test_data_without_texts_have_no_picture_of_them(unlabelled):
    assert np.isfinite(unlabelled.table_.loc["mean KS", "synthetic"])
    with pytest.raises(DataError, match="no texts: neither codes nor static columns have any"):
        unlabelled.plot("categories")
    assert unlabelled.plot("numbers").axes[0].get_title().startswith("hr: KS 0.")


# ---- what is refused ----------------------------------------------------------------------------


def test_labels_of_some_frames_only_are_refused(cohort):
    train, test, y_train, y_test = cohort
    with pytest.raises(DataError, match=r"or none of them. Got \['y_train', 'y_test'\] only"):
        SynthesisReport.from_frames(train, test, train, y_train=y_train, y_test=y_test)
    with pytest.raises(DataError, match=r"each of the 50 subjects as y_synthetic. Got shape"):
        SynthesisReport.from_frames(
            train, test, train, y_train=y_train, y_test=y_test, y_synthetic=y_test
        )
    with pytest.raises(DataError, match=r"further\['more'\] has labels. Got none"):
        SynthesisReport.from_frames(train, test, train, further={"more": (train, y_train)})
    with pytest.raises(DataError, match="pair of a frame and its labels. Got a tuple of 3"):
        SynthesisReport.from_frames(train, test, train, further={"more": (train, y_train, 1)})


@pytest.mark.parametrize("name", ["real hold-out", "", 3])
def test_names_that_would_be_confused_are_refused(name, cohort):
    with pytest.raises(DataError, match=r"name.*Got"):
        SynthesisReport.from_frames(cohort[0], cohort[1], cohort[0], name=name)
    with pytest.raises(DataError, match="Got 'synthetic' again"):
        SynthesisReport.from_frames(
            cohort[0], cohort[1], cohort[0], further={"synthetic": cohort[0]}
        )


def test_what_the_measures_refuse_is_refused_by_name(cohort):
    train, test, *_ = cohort
    with pytest.raises(DataError, match="at least 20 test subjects.*Got 10"):
        SynthesisReport.from_frames(train, test[:10], train)
    with pytest.raises(DataError, match=r"in further\['other'\]"):
        SynthesisReport.from_frames(train, test, train, further={"other": train.assign(more=1)})
    with pytest.raises(DataError, match="Expected n_bootstrap"):
        SynthesisReport.from_frames(train, test, train, n_bootstrap=-1)


# ---- figures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DRAWINGS)
def test_every_figure_can_be_drawn_into_a_part_of_another(kind, report):
    from matplotlib.figure import Figure

    whole = Figure(layout="constrained")
    left, _ = whole.subfigures(1, 2)
    assert report.plot(kind, figure=left) is left
    drawn = [axes for axes in left.axes if axes.axison]
    assert drawn and all(
        axes.get_xlabel()
        or axes.images
        or axes.get_ylabel()
        or axes.get_title()
        or axes.get_yticks().size
        for axes in drawn
    )
    assert whole.axes == left.axes


def test_a_figure_shows_the_generator_asked_for(report):
    figure = report.plot("numbers", generator="copies")
    labels = {label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]}
    assert labels == {"real", "copies"}
    with pytest.raises(DataError, match="Expected generator to be one of.*Got 'other'"):
        report.plot("numbers", generator="other")
    with pytest.raises(DataError, match="Expected kind to be one of.*Got 'pie'"):
        report.plot("pie")


def test_distribution_functions_are_those_of_the_data(report, cohort):
    figure = report.plot("times", generator="real hold-out")
    lines = {line.get_label(): line for line in figure.axes[1].get_lines()}
    lengths = report._comparison("real hold-out").histories[0].lengths
    x, y = lines["real"].get_data()
    for at in (lengths.min(), np.median(lengths), lengths.max()):
        assert y[x <= at][-1] == pytest.approx(np.mean(lengths <= at))
    assert figure.axes[0].get_xscale() == "log"
    assert "hours" in figure.axes[0].get_xlabel()


def test_of_many_codes_the_most_frequent_are_drawn_and_the_title_says_so():
    rng = np.random.default_rng(0)
    frames = [
        frame_of(
            *(
                [
                    (float(t), f"code {k:02d}", 1.0 + t)
                    for t in range(1)
                    for k in range(30)
                    if k < 20 or rng.random() < 0.5
                ]
                for _ in range(20)
            )
        )
        for _ in range(3)
    ]
    report = SynthesisReport.from_frames(*frames, n_bootstrap=0, random_state=0)
    figure = report.plot("numbers")
    assert "the 12 most frequent of 30 codes" in figure.get_suptitle()
    assert {axes.get_title()[:7] for axes in figure.axes} <= {f"code {k:02d}" for k in range(20)}
    assert "the 25 most frequent of 30 codes" in report.plot("co_measurement").get_suptitle()


def test_panels():
    rng = np.random.default_rng(0)
    panel = rng.normal(size=(60, 2, 6)).cumsum(axis=2)
    panel[rng.random(panel.shape) < 0.1] = np.nan
    report = SynthesisReport.from_frames(
        panel[:20], panel[20:40], panel[40:], n_bootstrap=0, random_state=0
    )
    assert 0 <= report.table_.loc["mean KS", "synthetic"] < 0.5
    assert "steps" in report.plot("times").axes[0].get_xlabel()
    assert report.plot("numbers").axes[0].get_title().startswith("channel_")


def test_an_encoder_gives_a_discriminator_and_the_picture():
    class Lengths:
        """As an encoder: a row of numbers per subject."""

        def transform(self, X):
            lengths = X["events"].events.lengths.astype(float)
            return np.stack([lengths, np.sqrt(lengths), lengths % 3], axis=1)

    train, test = small(20, 0), small(20, 1)
    report = SynthesisReport.from_frames(
        train, test, train, embed=Lengths(), n_bootstrap=0, random_state=0
    )
    assert report.table_.loc["discriminator AUC (embedding)"].between(0, 1).all()
    assert "by their embeddings" in report.plot("embeddings").get_suptitle()


def test_without_matplotlib_the_table_is_there_and_the_message_says_what_to_install(
    report, monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "<table>" in report._repr_html_()
    for draw in (lambda: report.plot("times"), lambda: report.to_html(tmp_path / "page.html")):
        with pytest.raises(ImportError, match=r"pip install \"tawt_sklearn\[plot\]\""):
            draw()


def test_settings_of_the_user_neither_matter_nor_change(report):
    import matplotlib

    with matplotlib.rc_context({"font.size": 31.0, "axes.facecolor": "black"}):
        figure = report.plot("times")
        assert matplotlib.rcParams["font.size"] == 31.0
    assert figure.axes[0].get_facecolor() == (1.0, 1.0, 1.0, 1.0)


# ---- the page -----------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_elsewhere(page):
    read = Page(page)
    assert not read.open
    assert not {"script", "link", "iframe"} & set(read.tags)
    assert "http" not in page and "@import" not in page and "url(" not in page
    assert all(source.startswith("data:image/svg+xml;base64,") for source in read.sources)
    assert len(read.sources) == len(DRAWINGS)
    for source in read.sources:
        drawing = base64.b64decode(source.partition(",")[2]).decode("utf-8")
        assert drawing.startswith("<?xml") and "<script" not in drawing


def test_the_contents_lead_to_every_section_and_figure(page):
    read = Page(page)
    assert read.links and all(link.startswith("#") for link in read.links)
    assert len(read.ids) == len(set(read.ids))
    assert {link[1:] for link in read.links} == set(read.ids)
    assert {f"figure-{kind}" for kind in DRAWINGS} <= set(read.ids)


def test_names_are_escaped(page, report):
    assert "mine <b>" not in page and "mine &lt;b&gt;&amp;" in page
    assert NAME in Page(page).text
    assert "mine <b>" not in report._repr_html_()


def test_the_page_has_every_measure_a_way_to_read_it_and_what_privacy_means(page, report):
    text = Page(page).text
    for row in report.table_.index:
        assert text.count(row) >= 2
    for row in ROWS:
        assert (row.reading in text) == (row.name in report.table_.index)
    for name in REFERENCES:
        assert name in text
    assert "cannot prove that there is none" in text and "differential privacy" in text
    assert f"{report.table_.loc['DCR share', NAME]:.3f}" in text


def test_the_page_can_be_read_by_day_and_by_night_and_by_ear(page):
    assert "prefers-color-scheme: dark" in page
    assert len(re.findall(r'<img alt="[^"]{20,}"', page)) == len(DRAWINGS)
    assert '<html lang="en">' in page


def test_a_page_of_another_generator_draws_that_one(report):
    of = report._comparison("copies")
    assert f"compare {of.name} with" in report_page._sizes(report, of)
    drawings = [report_page._svg(DRAWINGS["times"].draw, of) for _ in range(2)]
    assert drawings[0] == drawings[1]  # without dates and random ids
