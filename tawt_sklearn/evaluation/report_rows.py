"""The rows of a report: where each number comes from, and how it is to be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

from tawt_sklearn.evaluation.measure import Measure

Figures = tuple[float, float, float]
"""A number and its interval."""


@dataclass(frozen=True)
class Row:
    """One number of every column.

    Attributes
    ----------
    name : str
    measure : str
        Key of the measure that it is taken from.
    good : str
        What is good.
    reading : str
        What the number says, in a sentence.
    reference : str
        Which references pass and fail.
    pick : callable
        Takes the measure and returns the number with its interval.
    group : str
        Heading that it stands under.
    """

    name: str
    measure: str
    good: str
    reading: str
    reference: str
    pick: Callable[[Measure], Figures]
    group: str


def _headline(measure: Measure) -> Figures:
    return measure.value, measure.low, measure.high


def _detail(name: str) -> Callable[[Measure], Figures]:
    def pick(measure: Measure) -> Figures:
        return (nan if measure.details is None else float(measure.details[name])), nan, nan

    return pick


def _worst_ks(measure: Measure) -> Figures:
    if measure.details is None:
        return nan, nan, nan
    kinds = measure.details.index.get_level_values("kind")
    numbers = measure.details[(kinds == "number") & (measure.details["n_real"] > 0)]
    return float(numbers["ks"].max()), nan, nan


def _likelihood(measure: Measure) -> Figures:
    if measure.details is None or "likelihood" not in measure.details.index:
        return nan, nan, nan
    return float(measure.details.loc["likelihood", "auc"]), nan, nan


LOOKS, WORKS, HIDES = "Does it look real?", "Is it of use?", "Does it protect its subjects?"

_FAILS = "The independent marginals fail it, the copy passes."

ROWS = (
    Row(
        "discriminator AUC",
        "discriminator",
        "near .5",
        "How often a classifier that sees features of the subjects ranks a synthetic subject above "
        "a held-out real one: at .5 it cannot tell them apart, at 1 it always can.",
        "The independent marginals fail it. A copy passes, or nearly does: that says nothing "
        "against this measure, but shows that it must not stand alone.",
        _headline,
        LOOKS,
    ),
    Row(
        "discriminator AUC (embedding)",
        "discriminator_embedding",
        "near .5",
        "The same for a classifier that sees the embeddings of the encoder that was given.",
        _FAILS,
        _headline,
        LOOKS,
    ),
    Row(
        "TRTR",
        "trtr",
        "",
        "Score of a model trained on real and tested on real subjects: what is possible. It is "
        "the same for all generators, and measured on half of the subjects for the hold-out.",
        "No reference fails it; it is what TSTR is compared with.",
        _headline,
        WORKS,
    ),
    Row(
        "TSTR",
        "tstr",
        "near TRTR",
        "Score of a model trained on synthetic and tested on real subjects. That of the hold-out "
        "learns from half of the test subjects, which may be more or fewer than the others have.",
        "The independent marginals fail it: their labels belong to nothing.",
        _headline,
        WORKS,
    ),
    Row(
        "TRTR - TSTR",
        "utility_gap",
        "near 0",
        "What a model loses by learning from synthetic subjects. Differences as large as that of "
        "the hold-out are chance.",
        "The independent marginals fail it.",
        _headline,
        WORKS,
    ),
    Row(
        "mean KS",
        "marginals",
        "near 0",
        "Largest difference of the distribution functions of the values of a code, mean over the "
        "codes with numbers.",
        "No reference fails it: the independent marginals pass, so that it proves little.",
        _headline,
        LOOKS,
    ),
    Row(
        "worst KS",
        "marginals",
        "near 0",
        "The same for the code that is farthest off.",
        "No reference fails it, as above.",
        _worst_ks,
        LOOKS,
    ),
    Row(
        "KS of gaps",
        "intervals",
        "near 0",
        "Largest difference of the distribution functions of the time between successive "
        "measurements.",
        "No reference fails it by much: the independent marginals have the right gaps.",
        _headline,
        LOOKS,
    ),
    Row(
        "KS of lengths",
        "intervals",
        "near 0",
        "The same for the number of events of a subject.",
        "No reference fails it: the independent marginals have the right lengths.",
        _detail("length_ks"),
        LOOKS,
    ),
    Row(
        "co-measurement difference",
        "missingness",
        "near 0",
        "Largest difference in how often two codes are measured at the same time, or one is at "
        "all, as a share of all times.",
        _FAILS,
        _headline,
        LOOKS,
    ),
    Row(
        "autocorrelation error",
        "autocorrelation",
        "near 0",
        "How far the correlation of a value with the one before of the same code is off, mean over "
        "the codes.",
        _FAILS,
        _headline,
        LOOKS,
    ),
    Row(
        "bigram TV",
        "transitions",
        "near 0",
        "Share of the pairs of successive codes that would have to be others.",
        _FAILS,
        _headline,
        LOOKS,
    ),
    Row(
        "correlation error",
        "correlation",
        "near 0",
        "How far the rank correlations between the subjects' means of two codes are off, mean over "
        "the pairs.",
        _FAILS,
        _headline,
        LOOKS,
    ),
    Row(
        "membership AUC",
        "membership",
        "near .5",
        "How often an attacker who goes by the distance to the nearest synthetic subject ranks a "
        "training subject above another real one: .5 is guessing.",
        "The copy fails it, the independent marginals pass.",
        _headline,
        HIDES,
    ),
    Row(
        "membership AUC (likelihood)",
        "membership",
        "near .5",
        "The same for an attacker who has the generator itself, and asks it how likely a subject "
        "is. This is the strongest attack here.",
        "It needs a generator, which the references are not.",
        _likelihood,
        HIDES,
    ),
    Row(
        "DCR share",
        "dcr",
        "near .5",
        "Share of synthetic subjects that are nearer to a training than to a held-out subject.",
        "The copy fails it, with a share near 1. The independent marginals, who are far from "
        "everybody, may be off .5 too, although they remember nobody.",
        _headline,
        HIDES,
    ),
    Row(
        "NNAA privacy loss",
        "nnaa",
        "near 0",
        "How much better synthetic subjects hide among training than among held-out subjects.",
        "The copy fails it.",
        _headline,
        HIDES,
    ),
    Row(
        "exact copies",
        "dcr",
        "0",
        "Share of synthetic subjects with exactly the events of a training subject.",
        "The copy fails it, with a share near 1. Subjects with one or two events may be equal by "
        "chance: see the hold-out.",
        _detail("copies_of_train"),
        HIDES,
    ),
)
"""In the order of the table."""

LABELS = ("trtr", "tstr", "utility_gap")
"""Measures that need labels."""
