"""The distribution of the latents of the training subjects, from which new ones are drawn."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from tawt_sklearn.synthesis.stated import ridge

CANDIDATES = (1, 2, 4, 8, 16)
"""Numbers of components that are tried."""


@dataclass(frozen=True)
class LatentDensity:
    """What is stated of a history, by ridge regression, and a mixture of normals around that.

    Fitted after training: the latents of the data do not fill the standard normal distribution of
    the training objective, and drawing from what they do fill gives better samples (Ghosh et al.,
    "From Variational to Deterministic Autoencoders", 2020).  None of them is drawn itself.

    Attributes
    ----------
    slope : (F, d) float64
        Of the columns of :class:`Stated`.
    weight : (K,) float64
    mean : (K, d) float64
    root : (K, d, d) float64
        Cholesky factors of the covariances.
    """

    slope: NDArray[np.float64]
    weight: NDArray[np.float64]
    mean: NDArray[np.float64]
    root: NDArray[np.float64]

    @classmethod
    def fit(cls, z: NDArray, stated: NDArray, random: np.random.RandomState) -> LatentDensity:
        """Learn from latents (n, d) that were drawn from their posteriors, and what is stated of
        their histories (n, F).
        """
        z = np.asarray(z, np.float64)
        n, d = z.shape
        slope = ridge(stated, z).T
        rest = z - stated @ slope
        best = None
        for k in CANDIDATES:
            if k > 1 and n < 10 * k * d:  # too few for so many parameters
                break
            mixture = GaussianMixture(k, reg_covar=1e-3, random_state=random)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                mixture.fit(rest if n > 1 else np.repeat(rest, 2, axis=0))
            bic = mixture.bic(rest)
            if best is None or bic < best[0]:
                best = bic, mixture
        assert best is not None
        found = best[1]
        return cls(slope, found.weights_, found.means_, np.linalg.cholesky(found.covariances_))

    def draw(self, stated: NDArray, random: np.random.RandomState) -> NDArray[np.float64]:
        """New latents (n, d) of histories of which so much is stated (n, F)."""
        n = len(stated)
        of = random.choice(len(self.weight), size=n, p=self.weight / self.weight.sum())
        noise = random.standard_normal((n, self.mean.shape[1]))
        rest = self.mean[of] + np.einsum("nij,nj->ni", self.root[of], noise)
        return stated @ self.slope + rest

    def log_prob(self, z: NDArray, stated: NDArray) -> NDArray[np.float64]:
        """Log-density of latents (n, d) where so much is stated (n, F)."""
        rest = np.asarray(z, np.float64) - stated @ self.slope
        away = rest[:, np.newaxis] - self.mean  # (n, K, d)
        white = np.einsum("kij,nkj->nki", np.linalg.inv(self.root), away)
        size = np.log(np.einsum("kii->ki", self.root)).sum(1)
        d = self.mean.shape[1]
        each = -0.5 * (white**2).sum(-1) - size - 0.5 * d * np.log(2 * np.pi)
        return logsumexp(each + np.log(self.weight), axis=1)
