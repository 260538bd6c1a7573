"""The figures of a report: what they are called, what they show, and who draws them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tawt_sklearn.evaluation import figures_matrices as matrices
from tawt_sklearn.evaluation import figures_subjects as subjects
from tawt_sklearn.evaluation import figures_values as values
from tawt_sklearn.evaluation._comparison import Comparison


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Attributes
    ----------
    title : str
    caption : str
        What is seen, and what would be bad.
    draw : callable
        Takes a figure and what is compared, draws, and returns the height that it needs in inches;
        raises :class:`DataError` where the data have nothing to draw.
    """

    title: str
    caption: str
    draw: Callable[[Any, Comparison], float]


DRAWINGS = {
    "numbers": Drawing(
        "Numbers",
        "Share of the values up to each value. The two lines should lie on each other. Axes end at "
        "the middle 99 % of the values.",
        values.draw_numbers,
    ),
    "categories": Drawing(
        "Texts",
        "Share of each text among those of its code. The two bars should be of one length.",
        values.draw_categories,
    ),
    "times": Drawing(
        "Gaps, lengths and spans",
        "Share of the gaps between successive times (logarithmic), of the subjects by number of "
        "events, and by time from the first event to the last. Jumps of the real line, such as at "
        "one hour, should be there in the other too.",
        values.draw_times,
    ),
    "presence": Drawing(
        "Presence of codes",
        "Share of subjects with at least one event of a code, and the difference (synthetic less "
        "real). Missing measurements should be missing for as many.",
        matrices.draw_presence,
    ),
    "co_measurement": Drawing(
        "Measured together",
        "Share of all times at which both codes are measured. Panels of measurements are bright "
        "squares; where they are absent from the synthetic data, the difference is blue.",
        matrices.draw_co_measurement,
    ),
    "correlation": Drawing(
        "Correlation between subjects",
        "Spearman correlation between the subjects' means of two codes. White cells of the first "
        "two have no correlation or too few subjects; the difference should be pale.",
        matrices.draw_correlation,
    ),
    "autocorrelation": Drawing(
        "Autocorrelation",
        "Correlation of a number with those 1, 2 and 3 before it of the same code and subject, "
        "around the mean over all subjects. A flat line at 0 means that values do not remember.",
        matrices.draw_autocorrelation,
    ),
    "transitions": Drawing(
        "What follows what",
        "Share of all pairs of successive events that are of the row's code and then of the "
        "column's, events at one time sorted by code.",
        matrices.draw_transitions,
    ),
    "embeddings": Drawing(
        "Subjects side by side",
        "Every mark is a subject, in the two directions in which real subjects differ most. Look "
        "on the left for real subjects that no synthetic one covers, on the right for synthetic "
        "subjects where no real ones are.",
        subjects.draw_embeddings,
    ),
    "betrayals": Drawing(
        "What betrays the synthetic subjects",
        "Features by which synthetic and real subjects can be told apart, each on its own, with "
        "its means. These are the first to be mended.",
        subjects.draw_betrayals,
    ),
    "utility": Drawing(
        "Use for prediction",
        "Score on real test subjects of models that learned from real training subjects and from "
        "each of the others. The hold-out is tested on half of the subjects only.",
        subjects.draw_utility,
    ),
    "distances": Drawing(
        "Distance to the closest record",
        "How far synthetic subjects are from the nearest training and the nearest held-out "
        "subject. A line for training subjects that lies to the left of the other, above all a "
        "peak at 0, means that subjects have been remembered.",
        subjects.draw_distances,
    ),
    "membership": Drawing(
        "Membership attacks",
        "Share of training subjects that an attacker finds against the share of others who are "
        "accused wrongly. Lines above the dotted one leak; at the left of the second panel, where "
        "only the surest guesses count, leaks do most harm.",
        subjects.draw_membership,
    ),
}
"""By the name that :meth:`SynthesisReport.plot` takes."""
