"""A pretrained encoder whose vocabulary grows, without any change to what it says of old data."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal, Self

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from tawt_sklearn.estimators._preparation import Preparation
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens._atomic import restored_on_failure
from tawt_sklearn.tokens.sequencer import TripletSequencer
from tawt_sklearn.tokens.vocabulary import N_SPECIAL, Vocabulary
from tawt_sklearn.training.pretraining import PretrainingNet

INITS = ("mean", "random", "similar")


def add_codes(encoder: Any, codes: Any, init: str, like: Mapping[Any, Any] | None) -> None:
    """Grow the sequencer and the network of a fitted encoder in place."""
    if init not in INITS:
        raise ValueError(f"Expected init to be one of {', '.join(INITS)}. Got {init!r}.")
    if like is not None and not isinstance(like, Mapping):
        raise TypeError(
            'Expected like to map new codes to known ones, such as {"new": "old"}. Got '
            f"{type(like).__name__}."
        )
    before = _of_events(encoder)
    sequencer = before.sequencer
    if isinstance(codes, TripletSequencer):
        grown = _grown_outside(codes, before)
    elif sequencer is None:
        raise DataError(
            "Expected the TripletSequencer that made the tokens, as the histories came tokenised "
            "in fit. Got codes. Call sequencer.add_codes(codes) first, then "
            "encoder.add_codes(sequencer)."
        )
    else:
        sequencer = deepcopy(sequencer).add_codes(codes)
        grown = sequencer.vocabulary_
    if len(grown) == len(before.vocabulary):
        return
    source = _sources(before.vocabulary, grown, init, like or {})
    net = _grown_net(encoder.net_, before.vocabulary, grown, source)
    encoder.net_ = net
    encoder.preparation_ = replace(before, sequencer=sequencer, vocabulary=grown)


def rename_codes(encoder: Any, names: Mapping[Any, Any]) -> None:
    """Give codes of a fitted encoder other names in place."""
    before = _of_events(encoder)
    sequencer = before.sequencer
    if sequencer is not None:
        sequencer = deepcopy(sequencer).rename_codes(names)
    renamed = before.vocabulary.renamed(names)
    encoder.preparation_ = replace(before, sequencer=sequencer, vocabulary=renamed)


def _of_events(encoder: Any) -> Preparation:
    """What an encoder of event histories has learned before its network."""
    if not isinstance(encoder.preparation_, Preparation):
        raise DataError(
            "Expected an encoder of event histories, which have codes. Got one of panels, whose "
            "channels are what they were in fit. Pretrain another encoder."
        )
    return encoder.preparation_


def _grown_outside(sequencer: TripletSequencer, before: Preparation) -> Vocabulary:
    """The vocabulary of a sequencer that the user has grown."""
    if before.sequencer is not None:
        raise DataError(
            "Expected codes: this encoder has tokenised the histories itself. Got a "
            "TripletSequencer. Pass what you would pass to its add_codes."
        )
    grown = getattr(sequencer, "vocabulary_", None)
    if grown is None or not grown.extends(before.vocabulary):
        raise DataError(
            "Expected the fitted TripletSequencer that made the tokens of fit, after its "
            "add_codes. Got one whose vocabulary does not begin with that of fit."
        )
    return grown


def _sources(
    before: Vocabulary, grown: Vocabulary, init: str, like: Mapping[Any, Any]
) -> list[int | str]:
    """For each new code a token to be like, or ``"mean"`` or ``"random"``."""
    new = grown.codes[len(before) :]
    wanted = {grown.as_code(code): grown.as_code(known) for code, known in like.items()}
    if odd := [code for code in wanted if code not in new]:
        raise DataError(
            f"Expected like to say what new codes are similar to. Got {odd[0]!r}, which is not "
            f"among the {len(new)} new codes."
        )
    if odd := [known for known in wanted.values() if known not in before.token_of]:
        raise DataError(
            f"Expected codes in like that the encoder has learned. Got {odd[0]!r}, which it does "
            "not know."
        )
    if init == "similar" and (odd := [code for code in new if code not in wanted]):
        raise DataError(
            'Expected like to name a known code for every new one with init="similar". Got none '
            f'for {len(odd)} codes, such as {odd[0]!r}. Name it, or take init="mean".'
        )
    return [before.token_of[wanted[code]] if code in wanted else init for code in new]


def _grown_net(
    net: PretrainingNet, before: Vocabulary, grown: Vocabulary, source: list[int | str]
) -> PretrainingNet:
    """The same network with room for more codes."""
    model = dict(net.module.keywords)
    places = net.module_.backbone.places
    model["backbone"] = {
        **model["backbone"],
        "n_codes": grown.n_tokens,
        "n_categories": grown.n_categories,
        "n_fixed_codes": places.n_fixed,
    }
    model["category_offsets"] = grown.category_offsets.tolist()
    return PretrainingNet.made(
        model,
        lambda fresh: grown_weights(net.weights(), fresh, source),
        list(net.history),
        net.module_device,
        seed=len(grown),
        precision=net.precision,
    )


def grown_weights(
    old: Mapping[str, Tensor], fresh: Mapping[str, Tensor], source: list[int | str]
) -> dict[str, Tensor]:
    """Weights of a network that has more codes.

    Tables with a row for each code (or category) get further rows; the rest stays.

    Parameters
    ----------
    old, fresh : mappings of names to tensors
        Of the network that was, and of a new one with more rows.
    source : list
        For each new code the token that it starts like, or ``"mean"`` or ``"random"``.
    """
    weights = {}
    for name, tensor in fresh.items():
        known = old.get(name)
        if known is None or name.endswith("category_offsets"):
            weights[name] = tensor
        elif known.shape == tensor.shape:
            weights[name] = known
        else:
            table = tensor.clone()
            table[: len(known)] = known
            if "category" not in name:
                _begin_rows(table, known, source)
            weights[name] = table
    return weights


def _begin_rows(table: Tensor, known: Tensor, source: list[int | str]) -> None:
    """Fill the rows after the known ones; random ones are random already."""
    real = known[N_SPECIAL:] if len(known) > N_SPECIAL else known
    with torch.no_grad():
        for row, start in zip(range(len(known), len(table)), source, strict=False):
            if start == "mean":
                table[row] = real.mean(0)
            elif isinstance(start, int) and start < len(known):
                table[row] = known[start]


class GrowsVocabulary:
    """Of an encoder: its methods that change which codes it knows, and what they are called."""

    def add_codes(
        self,
        codes: Any,
        init: Literal["mean", "random", "similar"] = "mean",
        like: Mapping[Any, Any] | None = None,
    ) -> Self:
        """Let the network know further codes.

        Embeddings and predictions of histories without the new codes stay what they are until
        training goes on (:meth:`partial_fit`, or fine-tuning); estimators that were fine-tuned
        before have a network of their own and are not touched.

        Parameters
        ----------
        codes : mapping of codes to settings, histories, or TripletSequencer
            As for :meth:`TripletSequencer.add_codes <tawt_sklearn.TripletSequencer.add_codes>`.
            Where the histories came tokenised: the sequencer that made them, after its own
            ``add_codes``.
        init : {"mean", "random", "similar"}, default="mean"
            What the network starts from for a new code: the mean of the codes it knows, random
            numbers, or what it knows of a similar code.
        like : mapping of new codes to known ones, optional
            Similar codes.  With ``init="similar"`` all new codes need one; otherwise those that
            have one start from it.

        Returns
        -------
        self

        Raises
        ------
        DataError
            A code that is known already, or settings that do not say what a code is.
        """
        check_is_fitted(self)
        with restored_on_failure(self):
            add_codes(self, codes, init, like)
        return self

    def rename_codes(self, names: Mapping[Any, Any]) -> Self:
        """Give codes other names, as a change of coding system does; nothing else changes.

        Codes that are no longer used need nothing: they just do not occur.

        Parameters
        ----------
        names : mapping of known codes to new names

        Returns
        -------
        self
        """
        check_is_fitted(self)
        with restored_on_failure(self):
            rename_codes(self, names)
        return self
