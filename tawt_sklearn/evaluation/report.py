"""Everything that can be measured and drawn of synthetic data, beside its references."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from tawt_sklearn.evaluation import report_page
from tawt_sklearn.evaluation._comparison import Comparison
from tawt_sklearn.evaluation._plots import new_figure, style
from tawt_sklearn.evaluation.measure import (
    Measure,
    RandomState,
    check_bootstrap,
    generator,
    seed,
)
from tawt_sklearn.evaluation.report_columns import Cohort, Column, read_columns
from tawt_sklearn.evaluation.report_figures import DRAWINGS
from tawt_sklearn.evaluation.report_measures import measure_columns, table_of
from tawt_sklearn.exceptions import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class SynthesisReport:
    """All measures of synthetic event histories, each beside three references.

    A measure says little on its own.  Each is therefore taken of three further sets of subjects:

    - ``real hold-out``, half of the test subjects compared with the other half: what a perfect
      generator would get;
    - ``subject bootstrap``, training subjects drawn with replacement: a copy, which looks real and
      must fail privacy;
    - ``independent marginals``, where nothing goes together: must fail fidelity.

    Use :meth:`from_frames` to make one.

    Parameters
    ----------
    cohort : Cohort
        Real subjects.
    columns : list of Column
        Generators, then references.
    measures : dict of dict of Measure
        By column, then by name.
    embed : fitted transformer or None
    n_bootstrap : int
        Resamples behind the intervals.

    Attributes
    ----------
    table_ : DataFrame of float64
        A row per measure, a column per generator and reference.
    measures_ : dict of dict of Measure
        The same with intervals and details: ``measures_["synthetic"]["marginals"]``.  What cannot
        be measured is NaN and has the reason in ``extra["undefined"]``.
    generators_ : list of str
        Names of the columns.

    Notes
    -----
    Generators and the last two references are compared with all test subjects.  References have
    as many subjects as the synthetic data.  All columns share one seed.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> from tawt_sklearn.evaluation import SynthesisReport, subject_bootstrap
    >>> X, y = make_icu_stays(200, random_state=0)
    >>> copies = subject_bootstrap(X[:100], random_state=1)
    >>> report = SynthesisReport.from_frames(
    ...     X[:100], X[100:], copies, n_bootstrap=0, random_state=0)
    >>> report.table_.loc["DCR share"].round(1).tolist()[::2]
    [1.0, 1.0]
    >>> report.to_html("report.html")  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        cohort: Cohort,
        columns: list[Column],
        measures: dict[str, dict[str, Measure]],
        embed: Any = None,
        n_bootstrap: int = 0,
    ) -> None:
        self.cohort = cohort
        self.columns = columns
        self.embed = embed
        self.n_bootstrap = n_bootstrap
        self.measures_ = measures
        self.generators_ = [column.name for column in columns]
        self.table_: pd.DataFrame = table_of(measures)

    @classmethod
    def from_frames(
        cls,
        train: Any,
        test: Any,
        synthetic: Any,
        *,
        y_train: Any = None,
        y_test: Any = None,
        y_synthetic: Any = None,
        name: str = "synthetic",
        embed: Any = None,
        log_prob: Callable[[pd.DataFrame], Any] | None = None,
        further: Mapping[str, Any] | None = None,
        n_bootstrap: int = 100,
        random_state: RandomState = None,
    ) -> Self:
        """Measure synthetic subjects.

        Parameters
        ----------
        train, test, synthetic : DataFrame or array
            One row per subject; anything :func:`~tawt_sklearn.as_events` takes.  The generator
            has learned from `train` and has not seen `test`, which has 20 subjects or more.
        y_train, y_test, y_synthetic : array-like (B,), default=None
            Labels or numbers to predict, all or none; without them the rows of TSTR are left out.
        name : str, default="synthetic"
            Name of the generator.
        embed : fitted transformer, default=None
            Such as a :class:`~tawt_sklearn.TimeAwareEncoder`: its embeddings are drawn, and a
            discriminator of them is a further row.
        log_prob : callable, default=None
            Takes a frame and returns the log-likelihood of each subject under the generator, for
            the strongest attack, a further row.
        further : mapping of str to frame or (frame, labels), default=None
            Further generators, each a column.
        n_bootstrap : int, default=100
            Resamples of subjects behind the intervals, 0 for none.
        random_state : int, RandomState, Generator or None, default=None
            Drives the references, the halves of the test subjects and all measures.

        Returns
        -------
        SynthesisReport

        Raises
        ------
        DataError
            Too few test subjects, some of the labels only, names that clash, and what the
            measures refuse: static columns that differ, tokenised events.
        """
        n_bootstrap = check_bootstrap(n_bootstrap)
        rng = generator(random_state)
        cohort, columns = read_columns(
            train,
            test,
            synthetic,
            labels=(y_train, y_test, y_synthetic),
            name=name,
            further=further,
            log_prob=log_prob,
            random_state=seed(rng),
        )
        measures = measure_columns(
            cohort, columns, embed=embed, n_bootstrap=n_bootstrap, random_state=seed(rng)
        )
        return cls(
            cohort=cohort,
            columns=columns,
            measures=measures,
            embed=embed,
            n_bootstrap=n_bootstrap,
        )

    def plot(self, kind: str, *, generator: str | None = None, figure: Any = None) -> Figure:
        """Draw one figure.

        Parameters
        ----------
        kind : str
            ``"numbers"``, ``"categories"``, ``"times"``, ``"presence"``, ``"co_measurement"``,
            ``"correlation"``, ``"autocorrelation"``, ``"transitions"``, ``"embeddings"``,
            ``"betrayals"``, ``"utility"``, ``"distances"`` or ``"membership"``.
        generator : str, default=None
            Column that is drawn beside the real subjects, the first one by default; references
            can be drawn too.
        figure : matplotlib Figure or SubFigure, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        matplotlib Figure
            Not one of pyplot's: show it by naming it last in a cell, or ``savefig`` it.

        Raises
        ------
        DataError
            Another kind or generator, or data that have nothing of the kind, such as no labels.
        ImportError
            matplotlib is not installed.
        """
        if kind not in DRAWINGS:
            raise DataError(f"Expected kind to be one of {list(DRAWINGS)}. Got {kind!r}.")
        of = self._comparison(generator)
        with style():
            drawn = new_figure() if figure is None else figure
            height = DRAWINGS[kind].draw(drawn, of)
            if figure is None:
                drawn.set_figheight(height)
        return drawn

    def to_html(self, path: str | Path, *, generator: str | None = None) -> Path:
        """Write the whole report as one page that needs nothing else.

        Parameters
        ----------
        path : str or Path
            The folder must exist; an older file is replaced.
        generator : str, default=None
            Column that the figures draw, the first one by default.

        Returns
        -------
        Path
            Where it is.

        Raises
        ------
        DataError
            No such generator.
        ImportError
            matplotlib is not installed.
        """
        path = Path(path)
        path.write_text(report_page.page(self, self._comparison(generator)), encoding="utf-8")
        return path

    def _comparison(self, name: str | None) -> Comparison:
        name = self.generators_[0] if name is None else name
        for column in self.columns:
            if column.name == name:
                return Comparison(self.cohort, column, self.measures_, self.embed)
        raise DataError(f"Expected generator to be one of {self.generators_}. Got {name!r}.")

    def __repr__(self) -> str:
        return f"SynthesisReport({len(self.table_)} measures of {', '.join(self.generators_)})"

    def _repr_html_(self) -> str:
        return report_page.fragment(self)
