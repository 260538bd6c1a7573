"""Synthetic subjects: a variational transformer that writes histories event by event."""

from tawt_sklearn.synthesis.synthesizer import SequenceSynthesizer

__all__ = ["SequenceSynthesizer"]
