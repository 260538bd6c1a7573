"""Pictures of what estimators have learned; they need matplotlib (``tawt_sklearn[plot]``)."""

from tawt_sklearn.inspection.pretraining import PretrainingDisplay

__all__ = ["PretrainingDisplay"]
