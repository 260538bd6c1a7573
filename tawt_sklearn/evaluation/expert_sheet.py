"""Can an expert who looks at them tell synthetic subjects from real ones?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from tawt_sklearn.evaluation import expert_page
from tawt_sklearn.evaluation._frames import Histories, read_histories
from tawt_sklearn.evaluation.measure import LEVEL, RandomState, generator
from tawt_sklearn.exceptions import DataError

KINDS = ("real", "synthetic")


@dataclass(frozen=True)
class ExpertScore:
    """How well someone told synthetic subjects from real ones.

    Attributes
    ----------
    accuracy : float
        Share of right answers: .5 is guessing.
    low, high : float
        Exact (Clopper-Pearson) 95 % interval of the accuracy.
    kappa : float
        Cohen's kappa of answers and truth: 0 is guessing, 1 is always right.
    n : int
        Number of subjects.
    """

    accuracy: float
    low: float
    high: float
    kappa: float
    n: int

    def __repr__(self) -> str:
        return (
            f"ExpertScore(accuracy {self.accuracy:.2f} [{self.low:.2f}, {self.high:.2f}], kappa "
            f"{self.kappa:.2f}, {self.n} subjects)"
        )


def expert_sheet(
    real: Any, synthetic: Any, *, n: int = 10, random_state: RandomState = None
) -> ExpertSheet:
    """Mix real and synthetic subjects for an expert to tell apart.

    Parameters
    ----------
    real, synthetic : DataFrame or array
        One row per subject; anything :func:`~tawt_sklearn.as_events` takes.  Subjects without
        events are left out, as there is nothing to see of them.
    n : int, default=10
        Subjects of each kind.
    random_state : int, RandomState, Generator or None, default=None
        Drives which subjects are taken and their order.

    Returns
    -------
    ExpertSheet

    Raises
    ------
    DataError
        Fewer than `n` subjects with events on a side, tokenised events, static columns that
        differ.

    References
    ----------
    Choi et al., "Generating Multi-label Discrete Patient Records using Generative Adversarial
    Networks", 2017 (medGAN), had a physician rate real and synthetic records.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> from tawt_sklearn.evaluation import expert_sheet, independent_marginals
    >>> X, _ = make_icu_stays(60, random_state=0)
    >>> sheet = expert_sheet(X, independent_marginals(X, random_state=0), n=5, random_state=0)
    >>> sheet.to_html("sheet.html")  # doctest: +SKIP
    >>> sheet.score(dict.fromkeys(range(1, 11), "real"))
    ExpertScore(accuracy 0.50 [0.19, 0.81], kappa 0.00, 10 subjects)
    """
    if isinstance(n, bool) or not (isinstance(n, int | np.integer) and n > 0):
        raise DataError(f"Expected n to be a number of subjects above 0. Got {n!r}.")
    rng = generator(random_state)
    sides = read_histories(real, synthetic, names=KINDS)
    chosen = [_chosen(one, int(n), kind, rng) for one, kind in zip(sides, KINDS, strict=True)]
    order = rng.permutation(2 * n)
    kinds = np.repeat(KINDS, n)[order]
    shown = [(int(side), int(row)) for side, rows in enumerate(chosen) for row in rows]
    subjects = expert_page.read_subjects(sides, [shown[k] for k in order])
    number = pd.RangeIndex(1, 2 * n + 1, name="number")
    return ExpertSheet(subjects, pd.Series(kinds, number, dtype="str", name="kind"))


def _chosen(histories: Histories, n: int, name: str, rng: np.random.Generator) -> np.ndarray:
    """Rows of n subjects with events, drawn at random."""
    some = np.flatnonzero(histories.lengths > 0)
    if len(some) < n:
        raise DataError(
            f"Expected at least n={n} subjects with events in {name}. Got {len(some)}. Lower n or "
            "give more subjects."
        )
    return rng.permutation(some)[:n]


class ExpertSheet:
    """Numbered subjects, half of them synthetic, and the key that says which.

    Use :func:`expert_sheet` to make one.  Neither the page nor the representation of this object
    gives the key away.

    Parameters
    ----------
    subjects : Subjects
        What is shown, in order.
    key : Series of str (2 n,)
        ``"real"`` or ``"synthetic"``, by number from 1.

    Attributes
    ----------
    key : Series
        Keep it from whoever rates the sheet.
    """

    def __init__(self, subjects: expert_page.Subjects, key: pd.Series) -> None:
        self._subjects = subjects
        self.key = key

    def to_html(self, path: str | Path) -> Path:
        """Write the sheet as one page that needs nothing else; the key is not in it.

        Parameters
        ----------
        path : str or Path

        Returns
        -------
        Path

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        path = Path(path)
        path.write_text(expert_page.page(self._subjects), encoding="utf-8")
        return path

    def score(self, answers: Any) -> ExpertScore:
        """Compare answers with the key.

        Parameters
        ----------
        answers : mapping or Series of str by number, or sequence of str in order
            ``"real"`` or ``"synthetic"`` for every number; upper and lower case are the same.

        Returns
        -------
        ExpertScore

        Raises
        ------
        DataError
            Numbers without an answer, unknown numbers, other words.
        """
        given = _by_number(answers, len(self.key))
        lacking = [number for number in self.key.index if number not in given.index]
        unknown = [number for number in given.index if number not in self.key.index]
        if lacking or unknown or given.index.has_duplicates:
            what = f"no answer for {lacking[:5]}" if lacking else f"unknown numbers {unknown[:5]}"
            if not lacking and not unknown:
                what = f"two answers for {given.index[given.index.duplicated()].tolist()[:5]}"
            raise DataError(
                f"Expected one answer for each number from 1 to {len(self.key)}. Got {what}."
            )
        words = given.map(lambda word: word.strip().lower() if isinstance(word, str) else word)
        if not (right := words.isin(KINDS)).all():
            number = words.index[~right][0]
            raise DataError(
                f"Expected every answer to be 'real' or 'synthetic'. Got {given[number]!r} for "
                f"number {number}."
            )
        words = words.reindex(self.key.index)
        n_right, n = int((words == self.key).sum()), len(self.key)
        exact = binomtest(n_right, n).proportion_ci(LEVEL, method="exact")
        return ExpertScore(
            accuracy=n_right / n,
            low=float(exact.low),
            high=float(exact.high),
            kappa=float(cohen_kappa_score(self.key.tolist(), words.tolist())),
            n=n,
        )

    def __repr__(self) -> str:
        return f"ExpertSheet({len(self.key)} subjects)"


def _by_number(answers: Any, n: int) -> pd.Series:
    """Answers with their numbers."""
    if isinstance(answers, pd.Series | Mapping):
        given = pd.Series(answers, dtype=object)
        try:
            given.index = pd.Index([int(number) for number in given.index])
        except (TypeError, ValueError) as error:
            raise DataError(
                f"Expected the numbers of the sheet as keys. Got {list(given.index[:5])}."
            ) from error
        return given
    if isinstance(answers, str) or not hasattr(answers, "__len__"):
        raise DataError(
            "Expected answers by number, such as {1: 'real', 2: 'synthetic', ...}, or a sequence "
            f"of {n} in the order of the sheet. Got {type(answers).__name__}."
        )
    if len(answers) != n:
        raise DataError(f"Expected one answer for each of {n} subjects. Got {len(answers)}.")
    return pd.Series(list(answers), range(1, n + 1), dtype=object)
