"""How the members of an estimator are trained: from its parameters and what was read to a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from tawt_sklearn.estimators._additive import CURVES_SHARE
from tawt_sklearn.estimators._architecture import architecture, beside
from tawt_sklearn.estimators._ensemble import Ensemble
from tawt_sklearn.estimators._panel_preparation import PanelPreparation
from tawt_sklearn.estimators._preparation import Preparation
from tawt_sklearn.estimators._pretrained import Continued, Pretrained
from tawt_sklearn.estimators._summary import SUMMARY_RATE, learn_summary, no_summary, summary_of
from tawt_sklearn.estimators._together import require_same
from tawt_sklearn.objectives.steps import StepTarget
from tawt_sklearn.objectives.supervised import NumericTarget, Target
from tawt_sklearn.training.dataset import RowDataset
from tawt_sklearn.training.device import resolve_device
from tawt_sklearn.training.distributed import joined
from tawt_sklearn.training.net import EventNet
from tawt_sklearn.training.processes import Processes
from tawt_sklearn.training.trainer import Beginning, Recipe

EARLY_STOPPING_FLOOR = 10_000
"""Below this many labels ``early_stopping="auto"`` trains on all of them for a fixed number of
steps: on 2,700 stays of PhysioNet 2012 holding a tenth out gained nothing (AUROC .845 both ways,
3 folds), and a smaller hold-out is noisier still.  Gradient boosting in scikit-learn draws the
same line."""


ENOUGH_LABELS = 800
"""With fewer, fine-tuning takes steps that are smaller in proportion: on PhysioNet 2012 full steps
cost .005 to .02 AUROC at 80 labels, against the linear model that they start from, and a tenth of
them gained .005 less at 400 (3 random halves, one encoder)."""


@dataclass(frozen=True)
class Ready:
    """What a fit works on, once everything that was given has been checked."""

    preparation: Preparation | PanelPreparation
    target: Target
    data: RowDataset
    pretrained: Pretrained | Continued | None = None

    def require_same(self, processes: Processes) -> None:
        """Of several processes that train together all must have learned the same."""
        require_same(
            processes,
            rows=self.data.content(),
            labels=self.target,
            vocabulary_or_scaling=self.preparation,
        )


class PlansTraining:
    """Of a supervised estimator: its parameters as a plan of training.

    Stands before ``BaseEstimator`` among its bases.
    """

    n_summary_members: int | str
    nets_: list[EventNet]

    if TYPE_CHECKING:  # the estimators' own __init__ sets the parameters

        def __getattr__(self, name: str) -> Any: ...

    def _plan(
        self,
        ready: Ready,
        device: torch.device,
        *,
        has_validation: bool,
        going_on: bool,
        done: int = 0,
    ) -> Ensemble:
        """How the parameters say that the members are to be trained.

        ``done`` is the number of epochs that the members have been trained already.
        """
        hold_out = self.early_stopping
        if hold_out == "auto":
            n_labels = len(ready.data)
            if isinstance(ready.target, StepTarget):
                n_labels = int(ready.target.strata(ready.data.target).sum())
            hold_out = has_validation or n_labels >= EARLY_STOPPING_FLOOR
        recipe = Recipe(
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            warmup_fraction=self.warmup_fraction,
            max_grad_norm=self.max_grad_norm,
            accumulate_steps=self.accumulate_steps,
            precision=self.precision,
            compiled=self.compile,
            patience=self.patience,
            scoring=self.scoring,
            n_average=self.n_average,
            stop_early=bool(hold_out),
            callbacks=tuple(self.callbacks or ()),
            net_params=dict(self.net_params or {}),
            summary_learning_rate=SUMMARY_RATE * self.learning_rate,
            **{
                "learning_rate": self.learning_rate,
                "min_steps": self.min_steps,
                **self._gently(ready),
            },
        )
        model: dict[str, Any] = {
            "prior": ready.target.prior.tolist(),
            "code_dropout": self._hidden(self.code_dropout, 0.2, ready),
            "window_dropout": self._hidden(self.window_dropout, 0.3, ready),
            "head_dropout": self._head_dropout,
            "per_step": isinstance(ready.target, StepTarget),
        }
        if ready.pretrained is None:
            model["backbone"] = architecture(self, ready.preparation)
            model |= beside(self, ready.preparation)
        else:
            model |= ready.pretrained.model(self.dropout, float(self.modality_dropout))
            if isinstance(ready.target, NumericTarget):
                # Ridge weights are large and cancel each other, which dropout would break.
                model["head_dropout"] = 0.0
        head_only = ready.pretrained is not None and self.fine_tune == "head"
        if not head_only:
            model |= self._summary(model["backbone"], ready, going_on)
        return Ensemble(
            model=model,
            target=ready.target,
            recipe=recipe,
            # The head alone is solved exactly: members would be the same.
            seeds=self._seeds(done, 1 if head_only else self.n_ensemble),
            device=device,
            validation_fraction=self.validation_fraction
            if hold_out and not has_validation and not head_only
            else 0.0,
            n_jobs=self.n_jobs,
            title=type(self).__name__ if self.verbose else None,
            pretrained=ready.pretrained,
            head_only=head_only,
            staged=self.modalities is not None and self.modality_training == "staged",
        )

    def _summary(self, backbone: dict[str, Any], ready: Ready, going_on: bool) -> dict[str, Any]:
        """Keywords of the head that sees statistics side by side; none where there is none."""
        share = CURVES_SHARE if self.additive_head else None
        if going_on:
            before = summary_of(self.nets_[0])
            if "summary" not in before:
                return before
            known = before.get("curves_share")  # which left-out rows may have chosen
            if share is None or known is None:
                known = share
            return {**before, "curves_share": known}
        if isinstance(ready.target, StepTarget):
            return no_summary(self.n_summary_members)
        return learn_summary(
            self.n_summary_members, self._head_dropout, share, backbone, ready.data
        )

    @property
    def _head_dropout(self) -> float:
        return min(0.9, 1.5 * self.dropout)

    def _hidden(self, asked: float | str, usual: float, ready: Ready) -> float:
        """Share that is hidden in training."""
        if asked != "auto":
            return float(asked)
        return 0.0 if isinstance(ready.target, StepTarget) else usual

    def _gently(self, ready: Ready) -> dict[str, Any]:
        """What of the recipe is different where the network has been pretrained."""
        if ready.pretrained is None:
            return {}
        share = min(1.0, len(ready.data) / ENOUGH_LABELS)
        rate = self.encoder_learning_rate
        if isinstance(ready.target, StepTarget):  # whose head starts from nothing
            return {
                "encoder_learning_rate": share * (self.learning_rate if rate is None else rate),
                "gradual": self.fine_tune == "gradual",
            }
        return {
            "learning_rate": share * self.learning_rate,
            "encoder_learning_rate": share * (self.learning_rate if rate is None else rate),
            "gradual": self.fine_tune == "gradual",
            "min_steps": 0,
        }

    def _seeds(self, turn: int, n_members: int) -> list[int]:
        """Seeds of the members, the same in all processes; other ones every turn."""
        random = check_random_state(self.random_state)
        if turn and isinstance(self.random_state, Integral):
            random = np.random.RandomState([int(self.random_state), turn])
        device = resolve_device(self.device)
        seeds = random.randint(2**31 - 1, size=n_members).tolist()
        return joined(device).told(seeds, "the seeds of the members")

    def _beginnings(self, plan: Ensemble, *, optimizer: bool) -> Sequence[Beginning]:
        """The members of the last fit as the starting points of this one."""
        nets = self.nets_
        if len(nets) == 1 and plan.pretrained is not None:
            nets = nets * len(plan.seeds)  # of a head alone there is one
        if len(nets) != len(plan.seeds):
            raise ValueError(
                f"Expected n_ensemble={len(self.nets_)}, the number of members of the last fit, to "
                f"go on with them. Got {len(plan.seeds)}. Set warm_start=False to start anew."
            )
        before, now = self.nets_[0].module.keywords["backbone"], plan.model["backbone"]
        shapes = now.keys() - {"dropout"}
        changed = sorted(name for name in shapes if now[name] != before.get(name))
        n_members = summary_of(self.nets_[0]).get("n_summary_members", 0)
        if self.n_summary_members not in ("auto", n_members):
            changed.append("n_summary_members")
        fusion = plan.model.get("fusion")
        if fusion != self.nets_[0].module.keywords.get("fusion"):
            changed.append("fusion")
        if changed:
            raise ValueError(
                "Expected the architecture of the last fit to go on with its networks. Got other "
                f"values of {', '.join(changed)}. Set warm_start=False to start anew."
            )
        return [Beginning.after(net) if optimizer else Beginning(net.weights()) for net in nets]
