"""A sheet is blind, and answers are scored against its key."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

from tawt_sklearn.evaluation import expert_sheet
from tawt_sklearn.evaluation.expert_page import MAX_EVENTS
from tawt_sklearn.exceptions import DataError

from .frames import frame_of, global_random_state, random_frame

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def sheet():
    return expert_sheet(random_frame(0, 40), random_frame(1, 40), n=5, random_state=0)


@pytest.fixture(scope="module")
def page(sheet, tmp_path_factory) -> str:
    return sheet.to_html(tmp_path_factory.mktemp("sheet") / "sheet.html").read_text("utf-8")


def flipped(word: str) -> str:
    return {"real": "synthetic", "synthetic": "real"}[word]


def tagged(tag: str, n: int = 12) -> pd.DataFrame:
    """Subjects whose events say where they come from."""
    return frame_of(*([(1.0, "from", tag), (2.0, "which", f"{tag} {k}")] for k in range(n)))


# ---- what is shown ------------------------------------------------------------------------------


def test_the_key_numbers_as_many_real_as_synthetic_subjects(sheet):
    assert list(sheet.key.index) == list(range(1, 11))
    assert sheet.key.value_counts().to_dict() == {"real": 5, "synthetic": 5}
    assert sheet.key.tolist() != ["real"] * 5 + ["synthetic"] * 5


def test_the_key_tells_where_each_subject_on_the_page_comes_from(tmp_path):
    sheet = expert_sheet(tagged("north"), tagged("south"), n=3, random_state=1)
    page = sheet.to_html(tmp_path / "sheet.html").read_text("utf-8")
    seen = set()
    for number, kind in sheet.key.items():
        section = page.partition(f'id="history-{number}"')[2].partition("</section>")[0]
        (who,) = re.findall(r"(?:north|south) \d+", section)
        assert who.startswith({"real": "north", "synthetic": "south"}[kind])
        seen.add(who)
    assert len(seen) == 6  # nobody twice


def test_neither_the_page_nor_the_representation_gives_the_key_away(sheet, page):
    sections = page.split("<section")[1:]
    assert len(sections) == 10
    without_drawings = [re.sub(r'src="[^"]*"', "", section) for section in sections]
    for section in without_drawings:  # both words the same number of times, as choices
        assert section.count("synthetic") == section.count("real") == 2
        assert section.index('value="real"') < section.index('value="synthetic"')
    assert "real" not in repr(sheet) and "synthetic" not in repr(sheet)
    assert not hasattr(sheet, "_repr_html_")


def test_only_the_order_differs_when_sides_are_swapped(tmp_path):
    X, Y = random_frame(0, 20, static=False), random_frame(1, 20, static=False)
    pages = [
        expert_sheet(*pair, n=1, random_state=0).to_html(tmp_path / "p.html").read_text("utf-8")
        for pair in ((X, Y), (X.set_axis(range(900, 920)), Y))
    ]
    assert pages[0] == pages[1]  # indices of rows are not shown


def test_times_count_from_the_first_event_and_digits_are_those_of_all(tmp_path):
    late = frame_of([(1000.0, "hr", 71.123456), (1001.5, "hr", 80.0)])
    early = frame_of([(0.0, "hr", 70.0), (1.5, "hr", 80.0)])
    page = expert_sheet(late, early, n=1, random_state=0).to_html(tmp_path / "p.html")
    text = page.read_text("utf-8")
    assert "1000" not in text and "71.1234" not in text
    assert text.count('<td class="number">1.5</td>') == 2 and "71.12" in text


def test_the_page_needs_nothing_from_elsewhere_and_escapes_names(tmp_path):
    X = frame_of(*([(0.0, "<i>&", "<script>alert(1)</script>")] for _ in range(3)))
    page = expert_sheet(X, X, n=2, random_state=0).to_html(tmp_path / "p.html").read_text("utf-8")
    assert "<script" not in page and "<i>" not in page and "&lt;i&gt;&amp;" in page
    assert "http" not in page and "url(" not in page
    assert page.count("data:image/svg+xml;base64,") == 4
    assert page.count('type="radio"') == 8


def test_long_histories_are_cut_and_the_page_says_so(tmp_path):
    X = frame_of([(float(t), "hr", float(t % 7)) for t in range(MAX_EVENTS + 5)])
    page = expert_sheet(X, X, n=1, random_state=0).to_html(tmp_path / "p.html").read_text("utf-8")
    assert page.count("and 5 further events") == 2
    assert page.count(f"{MAX_EVENTS + 5} events</summary>") == 2


def test_panels_and_statics(tmp_path, page):
    assert "age: " in page and "sex: " in page
    panel = np.random.default_rng(0).normal(size=(6, 2, 5))
    made = expert_sheet(panel[:3], panel[3:], n=2, random_state=0)
    assert "channel_1" in made.to_html(tmp_path / "p.html").read_text("utf-8")


def test_the_same_seed_gives_the_same_sheet(tmp_path):
    state = global_random_state()
    frames = random_frame(0, 9), random_frame(1, 9)
    sheets = [expert_sheet(*frames, n=1, random_state=3) for _ in range(2)]
    pages = [sheet.to_html(tmp_path / "p.html").read_text("utf-8") for sheet in sheets]
    pd.testing.assert_series_equal(sheets[0].key, sheets[1].key)
    assert pages[0] == pages[1]
    keys = {tuple(expert_sheet(*frames, n=4, random_state=k).key) for k in range(9)}
    assert len(keys) > 5
    assert len(expert_sheet(*frames, n=2).key) == 4 and global_random_state() == state


@pytest.mark.parametrize("n", [0, -1, 2.5, True, "all"])
def test_a_number_of_subjects_is_needed(n):
    with pytest.raises(DataError, match="Expected n to be a number of subjects above 0. Got"):
        expert_sheet(random_frame(0, 9), random_frame(1, 9), n=n)


def test_too_few_subjects_with_events():
    empty = frame_of([(0.0, "hr", 1.0)], [], [])
    with pytest.raises(DataError, match="at least n=2 subjects with events in synthetic. Got 1"):
        expert_sheet(frame_of([(0.0, "hr", 1.0)], [(0.0, "hr", 1.0)]), empty, n=2)


# ---- scores -------------------------------------------------------------------------------------


def test_all_right_and_all_wrong(sheet):
    right = sheet.score(sheet.key)
    assert (right.accuracy, right.kappa, right.high, right.n) == (1.0, 1.0, 1.0, 10)
    wrong = sheet.score(sheet.key.map(flipped))
    assert (wrong.accuracy, wrong.kappa, wrong.low) == (0.0, -1.0, 0.0)


def test_kappa_and_the_interval_are_those_of_the_formulas(sheet):
    answers = sheet.key.copy()
    answers.iloc[[0, 3, 4]] = answers.iloc[[0, 3, 4]].map(flipped)
    score = sheet.score(answers)
    assert score.accuracy == pytest.approx(0.7)
    said_real = (answers == "real").mean()
    by_chance = 0.5 * said_real + 0.5 * (1 - said_real)
    assert score.kappa == pytest.approx((0.7 - by_chance) / (1 - by_chance))
    # Clopper & Pearson by way of the beta distribution.
    assert score.low == pytest.approx(beta.ppf(0.025, 7, 4))
    assert score.high == pytest.approx(beta.ppf(0.975, 8, 3))


def test_one_answer_for_all_is_guessing(sheet):
    score = sheet.score(["real"] * 10)
    assert (score.accuracy, score.kappa) == (0.5, 0.0)


def test_answers_come_in_any_order_form_and_case(sheet):
    wanted = sheet.score(sheet.key)
    shuffled = sheet.key.sample(frac=1, random_state=0)
    for answers in (
        shuffled,
        shuffled.to_dict(),
        {str(number): word for number, word in shuffled.items()},
        sheet.key.tolist(),
        np.array(sheet.key),
        tuple(f" {word.upper()}" for word in sheet.key),
    ):
        assert sheet.score(answers) == wanted


def test_wrong_answers_are_refused(sheet):
    good = sheet.key.to_dict()
    for answers, message in (
        ({**good, 3: "fake"}, "Expected every answer to be 'real' or 'synthetic'. Got 'fake' for"),
        ({**good, 3: None}, "Got None for number 3"),
        ({k: v for k, v in good.items() if k != 4}, r"from 1 to 10. Got no answer for \[4\]"),
        ({**good, 11: "real"}, r"Got unknown numbers \[11\]"),
        (pd.concat([sheet.key, sheet.key[:1]]), r"Got two answers for \[1\]"),
        ({"first": "real"}, r"Expected the numbers of the sheet as keys. Got \['first'\]"),
        (["real"] * 9, "Expected one answer for each of 10 subjects. Got 9"),
        ("real", "Expected answers by number.*Got str"),
        (3, "Expected answers by number.*Got int"),
    ):
        with pytest.raises(DataError, match=message):
            sheet.score(answers)
