"""What the figures of a report are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tawt_sklearn.evaluation._frames import Histories, read_histories
from tawt_sklearn.evaluation.measure import Measure
from tawt_sklearn.evaluation.report_columns import Cohort, Column


@dataclass(frozen=True, eq=False)
class Comparison:
    """One generator beside the real subjects.

    Attributes
    ----------
    cohort : Cohort
    column : Column
        The generator.
    measures : dict of dict of Measure
        Of all columns.
    embed : fitted transformer or None
    """

    cohort: Cohort
    column: Column
    measures: dict[str, dict[str, Measure]]
    embed: Any = None

    @property
    def name(self) -> str:
        return self.column.name

    @property
    def own(self) -> dict[str, Measure]:
        """Measures of this generator."""
        return self.measures[self.name]

    @cached_property
    def histories(self) -> tuple[Histories, Histories]:
        """Real and synthetic subjects."""
        first, second = read_histories(
            self.column.real, self.column.frame, names=("real", "synthetic")
        )
        return first, second

    def frequent(self, keep: np.ndarray, limit: int) -> list[int]:
        """Ids of the most frequent codes of a mask (V,), most frequent in the real data first."""
        counts = [np.bincount(one.code, minlength=len(one.codes)) for one in self.histories]
        order = np.lexsort((-counts[1], -counts[0]))
        return [int(k) for k in order if keep[k] and counts[0][k] + counts[1][k]][:limit]
