"""Several networks for one estimator: trained from different seeds, asked together."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed, effective_n_jobs
from numpy.typing import NDArray
from skorch.callbacks import Callback

from tawt_sklearn.estimators._additive import CURVES_SHARE, learn_curves
from tawt_sklearn.estimators._interruption import warn_interrupted
from tawt_sklearn.estimators._modalities import named_by_content
from tawt_sklearn.estimators._pretrained import Continued, Pretrained
from tawt_sklearn.estimators._staged import after_own_stage, with_own_weights
from tawt_sklearn.estimators._summary import (
    EVEN,
    KEYWORDS,
    LEFT_OUT,
    best_share,
    no_summary,
    with_summary_head,
)
from tawt_sklearn.exceptions import DataError, TrainingWarning
from tawt_sklearn.nn.additive import Curves
from tawt_sklearn.nn.model import DualPatchPredictor
from tawt_sklearn.objectives.steps import StepTarget
from tawt_sklearn.objectives.supervised import Target
from tawt_sklearn.training.checkpoint import fingerprint
from tawt_sklearn.training.dataset import RowDataset
from tawt_sklearn.training.distributed import joined
from tawt_sklearn.training.net import EventNet, decisions
from tawt_sklearn.training.processes import AllInterruptedError, OtherStoppedError
from tawt_sklearn.training.seeding import isolated_torch
from tawt_sklearn.training.trainer import Beginning, Recipe, holdout, train, untrained

FEWEST_ROWS = 30
"""With fewer no third of them is left out."""


@dataclass(frozen=True)
class Ensemble:
    """How the members are trained; they differ in their seed and in what is held out.

    Attributes
    ----------
    model : dict
        Keywords of :class:`DualPatchPredictor`.
    target : Target
    recipe : Recipe
    seeds : sequence of int
        One for each member.
    device : torch.device
    validation_fraction : float
        Share of the labels that each member holds out; 0 for none.
    n_jobs : int, optional
        Ignored where several processes train together: each member is trained by all of them.
    checkpoint_dir : Path, optional
    title : str, optional
        What progress bars are called; None shows none.
    pretrained : Pretrained or Continued, optional
        Where members start, with a linear model on its embeddings as the head.
    head_only : bool
        Whether that is all.
    staged : bool
        Whether the network of each modality learns alone first.
    """

    model: dict[str, Any]
    target: Target
    recipe: Recipe
    seeds: Sequence[int]
    device: torch.device
    validation_fraction: float
    n_jobs: int | None = None
    checkpoint_dir: Path | None = None
    title: str | None = None
    pretrained: Pretrained | Continued | None = None
    head_only: bool = False
    staged: bool = False

    def train(
        self,
        data: RowDataset,
        held_out: RowDataset | None = None,
        *,
        beginnings: Sequence[Beginning | None] | None = None,
        watchers: Sequence[Callback] = (),
    ) -> list[EventNet]:
        """Train all members; Ctrl-C ends the training with those there are.

        Parameters
        ----------
        held_out : RowDataset, optional
            Validation data for all members, in place of what each would hold out.
        beginnings : sequence of Beginning, optional
            Where the members start.
        watchers : sequence of skorch callbacks
            One for each member; followed only where members are trained one after the other.

        Warns
        -----
        TrainingWarning
            If training was interrupted, or ``n_jobs`` is ignored.
        """
        curves = self._curves(data)  # first, as there is nothing yet that Ctrl-C could lose
        starts = beginnings or [None] * len(self.seeds)
        jobs = [
            (seed, self._label(k), self._own_recipe(), start)
            for k, (seed, start) in enumerate(zip(self.seeds, starts, strict=True))
        ]
        n_processes = joined(self.device).number
        if effective_n_jobs(self.n_jobs) > 1 and len(jobs) > 1:
            if n_processes == 1:
                return self._with(curves, self._side_by_side(data, held_out, jobs))
            warnings.warn(
                f"Expected n_jobs=1 where {n_processes} processes train together. Got n_jobs="
                f"{self.n_jobs}, which is ignored: members are trained one after the other, each "
                "by all processes.",
                TrainingWarning,
                stacklevel=4,  # the caller of fit
            )
        watched = [(*job, w) for job, w in zip(jobs, watchers or [None] * len(jobs), strict=True)]
        return self._with(curves, list(self._one_by_one(data, held_out, watched)))

    def _curves(self, data: RowDataset) -> Curves | None:
        """Of the additive model, which is the same for all members; it takes all rows at once."""
        asked = self.model.get("curves_share") and self.model.get("summary") is not None
        if not asked or self.recipe.incremental:
            return None
        return joined(self.device).first(
            lambda: learn_curves(self.model, self.target, data), "the additive model"
        )

    def _with(self, curves: Curves | None, nets: list[EventNet]) -> list[EventNet]:
        if curves is None:
            return nets
        return [net.add_curves(curves, self.model["curves_share"]) for net in nets]

    def with_own_share(self, data: RowDataset) -> Self:
        """The same with what the head for statistics and its curves should weigh, or without them.

        A network that is not kept learns from two thirds of the rows, and the others say.  Where
        they give curves a share but none to the second head, that stays for its columns.

        Raises
        ------
        KeyboardInterrupt
            Nothing is there to be kept yet.
        """
        if self.model.get("summary") is None:
            return self
        seed, strata = self.seeds[0], self.target.strata(data.target)
        if len(data) < FEWEST_ROWS or np.bincount(strata).max() < 1 / LEFT_OUT:
            return self
        inside, out = holdout(strata, LEFT_OUT, np.random.RandomState(seed))
        kept, others = data.subset(inside), data.subset(out)
        net = self._scout(kept, others)
        judge = partial(best_share, self.target, others.target, others.weight)
        with isolated_torch(seed, self.device, n_threads=1):
            both = net.of_both_heads(others)
        share = joined(self.device).told(judge(both, EVEN), "what the heads weigh")
        by_curves = self.model["curves_share"]
        if by_curves is not None:
            curves, by_curves = self._curves(kept), 0.0
            if curves is not None:
                with isolated_torch(seed, self.device, n_threads=1):
                    own = net.add_curves(curves, 1.0).decision(others)
                by_networks = (1 - share) * both[0] + share * both[1]
                by_curves = judge(np.stack([by_networks, own]), CURVES_SHARE)
            by_curves = joined(self.device).told(by_curves, "what the curves weigh")
        if share or by_curves:
            weighed = {"summary_share": share, "curves_share": by_curves}
            return replace(self, model=self.model | weighed)
        without = {name: value for name, value in self.model.items() if name not in KEYWORDS}
        return replace(self, model=without | no_summary(self.model["n_summary_members"]))

    def _scout(self, data: RowDataset, others: RowDataset) -> EventNet:
        """A network of some rows that is not kept.

        Raises
        ------
        KeyboardInterrupt
        """
        scout = replace(
            self,
            recipe=replace(self.recipe, callbacks=(), compiled=False),
            validation_fraction=0.0,
            checkpoint_dir=None,
        )
        label = None if self.title is None else f"{self.title}, weighing its heads"
        judges = others if self.recipe.stop_early else None
        with warnings.catch_warnings():
            # That the estimator was fitted as far as it came; nothing is, here.
            warnings.filterwarnings("ignore", "Training was interrupted", TrainingWarning)
            net = scout._train_member(data, judges, self.seeds[0], label, scout.recipe, None)
        if net.interrupted_:
            raise KeyboardInterrupt("Training was ended before the first member was there.")
        return net

    def _side_by_side(
        self, data: RowDataset, held_out: RowDataset | None, jobs: list[Any]
    ) -> list[EventNet]:
        """In worker processes; Ctrl-C leaves the members that are complete."""
        nets: list[EventNet] = []
        workers = Parallel(n_jobs=self.n_jobs, return_as="generator")
        try:
            for net in workers(delayed(self._train_member)(data, held_out, *job) for job in jobs):
                nets.append(net)
        except KeyboardInterrupt:
            if not nets:
                raise
            warn_interrupted(f"{len(nets)} of {len(jobs)} members, which are complete")
        return nets

    def was_interrupted(self, nets: Sequence[EventNet]) -> bool:
        """Whether Ctrl-C ended the training that led to these members."""
        return len(nets) < len(self.seeds) or any(net.interrupted_ for net in nets)

    def _one_by_one(
        self, data: RowDataset, held_out: RowDataset | None, jobs: list[Any]
    ) -> Iterator[EventNet]:
        for done, job in enumerate(jobs):
            try:
                net = self._train_member(data, held_out, *job)
            except (KeyboardInterrupt, OtherStoppedError) as error:
                known = isinstance(error, AllInterruptedError | OtherStoppedError)
                if not done or not (known or joined(self.device).number == 1):
                    raise  # nothing to keep yet, or the other processes go on
                warn_interrupted(f"{done} of {len(jobs)} members, which are complete")
                return
            yield net
            if net.interrupted_:
                member = f"member {done + 1} of {len(jobs)}, " if len(jobs) > 1 else ""
                warn_interrupted(
                    f"{member}epoch {len(net.history)} of {net.max_epochs}, with the average of "
                    "the best checkpoints so far"
                )
                return

    def _own_recipe(self) -> Recipe:
        """Members must not share callbacks; a single one takes the user's own."""
        return self.recipe if len(self.seeds) == 1 else deepcopy(self.recipe)

    def _label(self, member: int) -> str | None:
        if self.title is None or len(self.seeds) == 1:
            return self.title
        return f"{self.title} {member + 1}/{len(self.seeds)}"

    def _train_member(
        self,
        data: RowDataset,
        held_out: RowDataset | None,
        seed: int,
        label: str | None,
        recipe: Recipe,
        beginning: Beginning | None,
        watcher: Callback | None = None,
    ) -> EventNet:
        """One member, from its seed."""
        if held_out is None and self.validation_fraction:
            strata = self.target.strata(data.target)
            kept, out = holdout(strata, self.validation_fraction, np.random.RandomState(seed))
            data, held_out = data.subset(kept), data.subset(out)
            if isinstance(self.target, StepTarget):
                self.target.require_labels(data.target, held_out.target)
        make_module = partial(DualPatchPredictor, **self.model)
        if beginning is None and self.pretrained is not None:
            if isinstance(self.target, StepTarget):
                with isolated_torch(seed, self.device, n_threads=1):
                    beginning = self.pretrained.beginning_of_steps(make_module().state_dict())
            else:
                beginning = self.pretrained.beginning(data, self.target, seed)
                beginning = with_summary_head(beginning, make_module, seed, self.device)
        if beginning is None and self.staged:
            beginning = after_own_stage(
                make_module, self.model, self.target, data, held_out, recipe, seed, self.device
            )
        elif beginning is None:
            modalities = self.model.get("modalities")
            beginning = with_own_weights(make_module, modalities, seed, self.device)
        if self.head_only and beginning is not None:
            with isolated_torch(seed, self.device, n_threads=1):
                return untrained(
                    make_module,
                    self.target,
                    data,
                    held_out,
                    beginning,
                    self.device,
                    self.recipe.precision,
                ).prepare_for_prediction()
        checkpoint = None
        if self.checkpoint_dir is not None:
            start = beginning and {name: w.numpy() for name, w in beginning.weights.items()}
            share = beginning and beginning.share
            model = named_by_content(self.model)
            settings = [replace(recipe, callbacks=()), model, self.target, seed, start, share]
            settings += [str(self.device), *joined(self.device).as_setting]
            name = fingerprint(settings, data, held_out)
            checkpoint = self.checkpoint_dir / f"{name}.tawt"
        with isolated_torch(seed, self.device, n_threads=1):
            net = train(
                make_module,
                self.target,
                data,
                held_out,
                recipe,
                seed=seed,
                device=self.device,
                label=label,
                beginning=beginning,
                checkpoint=checkpoint,
                watcher=watcher,
            )
        return net.prepare_for_prediction()


def with_curves_of(before: EventNet, nets: list[EventNet]) -> list[EventNet]:
    """Nets that went on from one with an additive model, with the same one."""
    built = before.module.keywords
    if built.get("curves") is None:
        return nets
    return [net.add_curves(built["curves"], built["curves_share"]) for net in nets]


def scores_of(
    nets: list[EventNet], data: RowDataset, at_once: int | str = "auto"
) -> NDArray[np.float64]:
    """Scores of every member (n_members, n, K), ``at_once`` rows at a time.

    Raises
    ------
    DataError
        Scores that are no numbers, rather than handing them on.
    """
    with isolated_torch(0, nets[0].module_device, n_threads=1):
        scores = decisions(nets, data, at_once)
    lost = ~np.isfinite(scores).reshape(len(nets), len(data), -1).all(axis=(0, 2))
    if lost.any():
        raise DataError(
            f"Expected finite scores. Got others for {int(lost.sum())} rows, the first at "
            f"position {int(lost.argmax())}: their times or values are too large for single "
            "precision. Compare them with those of the training data."
        )
    return scores


def history_of(nets: list[EventNet], before: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row for each member and epoch, after those of earlier fits."""
    columns = {
        "train_loss": "train_loss",
        "valid_loss": "valid_loss",
        "valid_score": "valid_score",
        "dur": "seconds",
    }
    done = {} if before is None else before.groupby("member")["epoch"].max().to_dict()
    rows = [
        {
            "member": member,
            "epoch": done.get(member, 0) + epoch["epoch"],
            **{new: epoch[old] for old, new in columns.items() if old in epoch},
        }
        for member, net in enumerate(nets)
        for epoch in net.history
    ]
    history = pd.DataFrame(rows)
    return history if before is None else pd.concat([before, history], ignore_index=True)
