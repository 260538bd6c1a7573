"""Figures of whole subjects: who is like whom, what betrays, what leaks, what is of use."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.decomposition import PCA

from tawt_sklearn.evaluation._comparison import Comparison
from tawt_sklearn.evaluation._frames import read_histories
from tawt_sklearn.evaluation._neighbours import Space, nearest
from tawt_sklearn.evaluation._plots import (
    GREY,
    OTHER,
    REAL,
    SYNTHETIC,
    heading,
    legend_above,
    line,
    nothing,
    shown,
)
from tawt_sklearn.evaluation.measure import Measure
from tawt_sklearn.evaluation.report_columns import COPY, REFERENCES

MAX_DOTS = 1000
"""Subjects of each kind in a scatter plot."""

MAX_FEATURES = 12
"""Features that betray the synthetic data."""

HELD_OUT, TRAIN = "held-out", "training"


def draw_embeddings(figure: Any, of: Comparison) -> float:
    """Subjects in the two main directions of the real ones."""
    real, made, what = _points(of)
    if min(len(real), real.shape[1]) < 2:
        raise nothing("fewer than two real subjects or features.")
    scale = real.std(axis=0)
    kept = scale > 1e-12
    if kept.sum() < 2:
        raise nothing("real subjects who are all alike.")
    center = real[:, kept].mean(axis=0)
    real, made = ((side[:, kept] - center) / scale[kept] for side in (real, made))
    project = PCA(2, svd_solver="full").fit(real)
    rng = np.random.default_rng(0)
    dots = []
    for side in (real, made):
        chosen = rng.permutation(len(side))[:MAX_DOTS]
        dots.append(project.transform(side[np.sort(chosen)]))
    low, high = np.quantile(np.vstack(dots), [0.002, 0.998], axis=0)
    room = 0.05 * (high - low) + 1e-9
    inside = [((side >= low - room) & (side <= high + room)).all(axis=1) for side in dots]
    outside = sum(int((~one).sum()) for one in inside)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    styles: list[dict[str, Any]] = [
        {"color": REAL, "marker": "o", "label": "real"},
        {"color": SYNTHETIC, "marker": "x", "linewidths": 0.8, "label": of.name},
    ]
    for one, order in zip(axes, ([0, 1], [1, 0]), strict=True):
        for k in order:
            at = dots[k][inside[k]]
            one.scatter(at[:, 0], at[:, 1], s=9, alpha=0.55, rasterized=True, **styles[k])
        one.set_title(f"{'real' if order[1] == 0 else shown(of.name)} in front")
        one.set_xlabel(f"component 1 ({project.explained_variance_ratio_[0]:.0%} of variance)")
    axes[0].set_ylabel(f"component 2 ({project.explained_variance_ratio_[1]:.0%})")
    for handle in axes[0].legend(loc="upper right", framealpha=0.9).legend_handles:
        handle.set_alpha(1.0)
    far = f"; {outside} far away not shown" if outside else ""
    heading(figure, f"Subjects by their {what}: {len(dots[0])} real, {len(dots[1])} synthetic{far}")
    return 4.2


def draw_betrayals(figure: Any, of: Comparison) -> float:
    """Features that tell synthetic subjects from real ones, with their means."""
    details = of.own["discriminator"].details
    if details is None or details.empty:
        raise nothing(f"a discriminator that is undefined. {_why(of.own['discriminator'])}")
    top = details.iloc[:MAX_FEATURES]
    place = np.arange(len(top))
    axes = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1))
    auc = top["auc"].to_numpy()
    axes[0].barh(place, auc - 0.5, left=0.5, color=GREY, height=0.7)
    axes[0].axvline(0.5, color="black", linewidth=0.8)
    axes[0].set_xlim(0, 1)
    axes[0].set_xlabel("AUC of the feature alone\n(right of .5: larger in synthetic subjects)")
    axes[0].set_yticks(place, [shown(name, 34) for name in top.index], fontsize=8)
    axes[0].invert_yaxis()
    largest = top[["real_mean", "synthetic_mean"]].abs().max(axis=1).to_numpy()
    largest = np.where(largest > 0, largest, 1.0)
    for name, colour, label, hatch, shift in (
        ("real_mean", REAL, "real", None, -0.2),
        ("synthetic_mean", SYNTHETIC, of.name, "////", 0.2),
    ):
        means = top[name].to_numpy()
        length = np.nan_to_num(means / largest)
        axes[1].barh(
            place + shift, length, 0.38, color=colour, label=label, hatch=hatch, edgecolor="white"
        )
        for at, mean, end in zip(place, means, length, strict=True):
            text = f"{mean:.3g}" if np.isfinite(mean) else "none"
            axes[1].text(max(end, 0.0) + 0.02, at + shift, text, va="center", fontsize=7)
    axes[1].set_xlim(
        min(
            0.0,
            float(np.nanmin(top[["real_mean", "synthetic_mean"]].to_numpy() / largest[:, None])),
        )
        * 1.05,
        1.25,
    )
    axes[1].set_xticks([])
    axes[1].set_xlabel("mean, each pair on a scale of its own")
    legend_above(figure, axes[1])
    heading(figure, f"What betrays: the first {len(top)} of {len(details)} features")
    return 1.4 + 0.31 * len(top)


def draw_distances(figure: Any, of: Comparison) -> float:
    """Distances to the nearest training and the nearest held-out subject."""
    learned, held_out, made = read_histories(
        of.cohort.train, of.column.real, of.column.frame, names=("train", "test", "synthetic")
    )
    space = Space.of(learned)
    points = [space.points(one) for one in (learned, held_out, made)]
    n = min(len(learned), len(held_out))
    rng = np.random.default_rng(0)
    # Of equally many, or the larger group would have nearer neighbours by number alone.
    near = {
        kind: nearest(points[2], side[rng.permutation(len(side))[:n]])[0]
        for kind, side in ((TRAIN, points[0]), (HELD_OUT, points[1]))
    }
    axes = figure.subplots()
    edges = np.linspace(0.0, max(np.quantile(np.concatenate([*near.values()]), 0.99), 1e-9), 41)
    for (kind, distance), colour, dashes in zip(
        near.items(), (SYNTHETIC, REAL), ("-", (0, (4, 1.5))), strict=True
    ):
        counts, _ = np.histogram(distance, edges)
        axes.stairs(
            counts / len(distance),
            edges,
            color=colour,
            linestyle=dashes,
            linewidth=1.6,
            label=f"to the nearest {kind} subject",
        )
    axes.set(
        xlabel="distance between features of subjects (standard deviations, Euclidean)",
        ylabel="share of synthetic subjects",
    )
    axes.set_xlim(0, edges[-1])
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    share = of.own["dcr"].value
    heading(
        figure,
        f"Distance to the closest record: {share:.0%} nearer to a training subject "
        f"(among {n} of each kind)",
    )
    return 3.2


def draw_membership(figure: Any, of: Comparison) -> float:
    """How many training subjects attacks find, for how many false accusations."""
    names = ("train", "test", "synthetic")
    attacks = []
    copy = of.measures.get(COPY, {}).get("membership")
    learned, held_out, made = read_histories(
        of.cohort.train, of.column.real, of.column.frame, names=names
    )
    space = Space.of(learned)
    points = [space.points(one) for one in (learned, held_out, made)]
    near = tuple(-nearest(points[k], points[2])[0] for k in (0, 1))
    attacks.append(
        (f"{of.name}, distance: AUC {of.own['membership'].value:.3f}", near, line(real=False))
    )
    said = of.own["membership"].extra.get("log_prob")
    if said is not None:
        auc = of.own["membership"].details.loc["likelihood", "auc"]
        attacks.append(
            (f"{of.name}, likelihood: AUC {auc:.3f}", said, {"color": REAL, "linewidth": 1.6})
        )
    panels = figure.subplots(1, 2)
    floor = 1.0 / max(len(held_out), 2)
    for axes in panels:
        for label, (members, others), look in attacks:
            fpr, tpr = _roc(members, others)
            axes.plot(fpr, tpr, label=label, drawstyle="steps-post", **look)
        diagonal = np.geomspace(floor, 1, 30)
        axes.plot(diagonal, diagonal, color=GREY, linewidth=0.9, linestyle=":", label="guessing")
        axes.set_xlabel("share of others accused")
    panels[0].set_ylabel("share of training subjects found")
    panels[0].set_title("all thresholds")
    panels[0].legend(loc="lower right", frameon=False)
    panels[1].set(xscale="log", yscale="log", xlim=(floor, 1), ylim=(floor, 1.1))
    panels[1].set_title("few false accusations, on logarithmic axes")
    known = "" if copy is None or of.name == COPY else f" (a copy: AUC {copy.value:.3f})"
    heading(figure, f"Membership attacks{known}")
    return 3.8


def draw_utility(figure: Any, of: Comparison) -> float:
    """Scores of models that learned from each kind of data, on real subjects."""
    scores = {name: of_one.get("tstr") for name, of_one in of.measures.items()}
    known = {
        name: score
        for name, score in scores.items()
        if score is not None and np.isfinite(score.value)
    }
    if not known:
        raise nothing("no labels: pass y_train, y_test and y_synthetic.")
    real = next(of_one["trtr"] for of_one in of.measures.values())
    axes = figure.subplots()
    rows = [("real training subjects", real, GREY), *((n, s, None) for n, s in known.items())]
    for at, (name, score, colour) in enumerate(rows):
        colour = colour or (OTHER if name in REFERENCES else SYNTHETIC)
        axes.barh(at, score.value, 0.62, color=colour)
        if np.isfinite(score.low):
            axes.plot([score.low, score.high], [at, at], color="black", linewidth=1.4)
        end = max(score.high if np.isfinite(score.high) else score.value, score.value, 0.0)
        axes.text(end + 0.012, at, f"{score.value:.3f}", va="center", fontsize=8)
    axes.axvline(real.value, color=GREY, linestyle=":", linewidth=1.2)
    axes.set_yticks(range(len(rows)), [shown(name, 28) for name, *_ in rows])
    axes.invert_yaxis()
    lowest = min(0.0, *(score.value for _, score, _ in rows))
    axes.set_xlim(lowest * 1.1, 1.1 if max(s.value for _, s, _ in rows) <= 1 else None)
    axes.set_xlabel("score on real test subjects (line: 95 % interval; dotted: TRTR)")
    heading(figure, "Models that learned from ...")
    return 1.2 + 0.36 * len(rows)


def _points(of: Comparison) -> tuple[np.ndarray, np.ndarray, str]:
    """Real and synthetic subjects in one space, and what it is called."""
    if of.embed is None:
        real, made = of.histories
        space = Space.of(real)
        return space.points(real), space.points(made), "features"
    sides = []
    for frame in (of.column.real, of.column.frame):
        part = of.embed.transform(frame)
        dense = part.toarray() if hasattr(part, "toarray") else np.asarray(part)
        sides.append(np.nan_to_num(dense.astype(np.float64)))
    return sides[0], sides[1], "embeddings"


def _roc(members: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates at every threshold, from none to all accused."""
    thresholds = np.unique(np.concatenate([members, others]))[::-1]
    rates = [
        1.0 - np.searchsorted(np.sort(side), thresholds, "left") / len(side)
        for side in (others, members)
    ]
    return np.r_[0.0, rates[0]], np.r_[0.0, rates[1]]


def _why(measure: Measure) -> str:
    return str(measure.extra.get("undefined", ""))
