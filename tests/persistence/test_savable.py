"""Estimators saved and loaded: what comes back gives what went in."""

from __future__ import annotations

import os
import pickle
import zipfile
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

import tawt_sklearn
from tawt_sklearn import EventSummarizer, TripletSequencer
from tawt_sklearn.exceptions import DataWarning, SaveFileError
from tawt_sklearn.persistence import registry
from tawt_sklearn.persistence.codec import decode, encode
from tawt_sklearn.persistence.hints import check_hints, fits
from tawt_sklearn.persistence.savable import Savable
from tawt_sklearn.tokens.statics import StaticEncoder

from .builders import save_file


def through_file(estimator, path):
    assert estimator.save(path) is None
    return type(estimator).load(path)


# ---- the estimators of tokens ------------------------------------------------------------------


def test_a_loaded_sequencer_does_what_the_saved_one_does(sequencer, X, path):
    loaded = through_file(sequencer, path)
    assert loaded.get_params() == sequencer.get_params()
    assert set(vars(loaded)) == set(vars(sequencer))
    assert loaded.vocabulary_ == sequencer.vocabulary_
    assert loaded.vocabulary_.to_json() == sequencer.vocabulary_.to_json()
    assert not loaded.vocabulary_.counts.flags.writeable
    pd.testing.assert_frame_equal(loaded.report_, sequencer.report_)
    pd.testing.assert_series_equal(loaded.summary_, sequencer.summary_)
    assert loaded.unused_rules_ == sequencer.unused_rules_ and loaded._seen == sequencer._seen
    np.testing.assert_array_equal(loaded.feature_names_in_, sequencer.feature_names_in_)
    tokens, expected = loaded.transform(X), sequencer.transform(X)
    pd.testing.assert_frame_equal(tokens, expected)
    assert tokens["events"].events.flat("value").tobytes() == (
        expected["events"].events.flat("value").tobytes()
    )
    pd.testing.assert_frame_equal(
        loaded.inverse_transform(tokens), sequencer.inverse_transform(expected)
    )


@pytest.mark.parametrize(
    "params",
    [
        {"value_scaling": "quantile", "clip": np.float32(3), "time_origin": "end"},
        {"value_scaling": None, "categorical_codes": {"HR", "Temp"}, "min_count": np.int64(2)},
        {"codes": {"HR": {"range": [20, None], "label": "Puls"}}, "categorical_codes": None},
        {"max_events": 5, "categorical_codes": np.array(["HR"])},
    ],
)
@pytest.mark.filterwarnings("ignore::tawt_sklearn.exceptions.DataWarning")
def test_sequencers_with_all_kinds_of_parameters(X, path, params):
    sequencer = TripletSequencer(**params).fit(X)
    loaded = through_file(sequencer, path)
    assert repr(loaded) == repr(sequencer)
    assert loaded.vocabulary_ == sequencer.vocabulary_
    pd.testing.assert_frame_equal(loaded.transform(X), sequencer.transform(X))
    pd.testing.assert_frame_equal(clone(loaded).fit_transform(X), sequencer.transform(X))


@pytest.mark.parametrize("raw", [True, False])
def test_a_loaded_summarizer_does_what_the_saved_one_does(sequencer, X, path, raw):
    X = X if raw else sequencer.transform(X)
    X = X.assign(sex=np.where(np.arange(len(X)) % 3 == 0, "F", "M"))
    summarizer = EventSummarizer(windows={None: ["mean", "count"], 12.0: ["sd"]}).fit(X)
    loaded = through_file(summarizer, path)
    assert set(vars(loaded)) == set(vars(summarizer))
    assert loaded.windows == summarizer.windows and loaded.codes_ == summarizer.codes_
    assert loaded.get_feature_names_out().tolist() == summarizer.get_feature_names_out().tolist()
    pd.testing.assert_frame_equal(loaded.transform(X), summarizer.transform(X))
    loaded.set_params(sparse=True)
    assert loaded.transform(X).shape == (len(X), len(loaded.feature_names_out_))


def test_a_summarizer_of_plain_numbers_has_no_feature_names(path):
    X = np.arange(12.0).reshape(4, 3)
    loaded = through_file(EventSummarizer().fit(X), path)
    assert loaded.n_features_in_ == 3 and not hasattr(loaded, "feature_names_in_")
    pd.testing.assert_frame_equal(loaded.transform(X), EventSummarizer().fit_transform(X))


@pytest.mark.parametrize("cls", [TripletSequencer, EventSummarizer])
def test_an_estimator_that_is_not_fitted_is_none_afterwards(cls, X, path):
    loaded = through_file(cls(min_count=7), path)
    assert loaded.min_count == 7
    with pytest.raises(NotFittedError):
        loaded.transform(X)


def test_a_loaded_estimator_is_pickled_cloned_and_saved_again(sequencer, X, path):
    loaded = through_file(sequencer, path)
    first = path.read_bytes()
    again = pickle.loads(pickle.dumps(loaded))
    pd.testing.assert_frame_equal(again.transform(X), sequencer.transform(X))
    assert not hasattr(clone(loaded), "vocabulary_")
    loaded.save(path)
    assert path.read_bytes() == first
    make_pipeline(loaded, EventSummarizer()).fit(X)


def test_settings_of_scikit_learn_come_along(sequencer, path):
    chosen = clone(sequencer).set_output(transform="pandas")
    assert through_file(chosen, path)._sklearn_output_config == {"transform": "pandas"}


def test_static_encoders_are_saved_within_other_classes():
    frame = pd.DataFrame({"age": [60.0, 70.0, np.nan], "sex": ["F", "M", "F"], 3: [1, 2, 3]})
    for encoder in (StaticEncoder(clip=None).fit(frame), StaticEncoder()):
        loaded = decode(*encode(encoder))
        assert vars(loaded).keys() == vars(encoder).keys() and loaded.clip == encoder.clip
    loaded, encoder = decode(*encode(StaticEncoder().fit(frame))), StaticEncoder().fit(frame)
    for left, right in zip(loaded.transform(frame), encoder.transform(frame), strict=True):
        np.testing.assert_array_equal(left, right)
    node, arrays = encode(encoder)
    del node["state"]["levels_"]
    with pytest.raises(SaveFileError, match="StaticEncoder"):
        decode(node, arrays)


# ---- files of the wrong kind -------------------------------------------------------------------


def test_load_takes_whatever_estimator_the_file_holds(sequencer, summarizer, path):
    for estimator in (sequencer, summarizer):
        estimator.save(path)
        loaded = tawt_sklearn.load(path, device="cpu")
        assert type(loaded) is type(estimator)


def test_load_of_another_class_names_both(sequencer, path):
    sequencer.save(path)
    with pytest.raises(
        SaveFileError,
        match=r"Expected a EventSummarizer\. Got a file that holds a TripletSequencer; "
        r"use TripletSequencer\.load",
    ):
        EventSummarizer.load(path)


def test_only_estimators_are_loaded_and_only_by_their_own_classes(sequencer, path):
    node, arrays = encode(sequencer._seen)
    path.write_bytes(save_file({"estimator": node}, arrays))
    with pytest.raises(SaveFileError, match="no estimator"):
        tawt_sklearn.load(path)

    class Mine(TripletSequencer):
        pass

    with pytest.raises(TypeError, match="Mine"):
        Mine().save(path)
    for cls in (Mine, Savable):
        with pytest.raises(TypeError, match="pickle for a subclass of yours"):
            cls.load(path)


def state_of(estimator) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    node, arrays = encode(estimator)
    return {"estimator": node}, arrays


def test_parameters_that_an_older_release_lacked_take_their_defaults(sequencer, X, path):
    document, arrays = state_of(sequencer)
    del document["estimator"]["state"]["params"]["items"]["clip"]
    path.write_bytes(save_file(document, arrays))
    assert TripletSequencer.load(path).clip == 5.0


def test_parameters_and_attributes_that_the_class_lacks_are_refused(sequencer, path):
    for part, name in (("params", "new"), ("fitted", "fit"), ("fitted", "__class__")):
        document, arrays = state_of(sequencer)
        document["estimator"]["state"][part]["items"][name] = 1
        path.write_bytes(save_file(document, arrays))
        with pytest.raises(SaveFileError, match=rf"{name}.*written by another version"):
            TripletSequencer.load(path)


def test_attributes_of_another_type_are_refused(sequencer, path):
    document, arrays = state_of(sequencer)
    document["estimator"]["state"]["fitted"]["items"]["unused_rules_"] = [1]
    path.write_bytes(save_file(document, arrays))
    with pytest.raises(SaveFileError, match=r"unused_rules_ .*to be list\[str\]. Got list"):
        TripletSequencer.load(path)
    broken = clone(sequencer)
    broken.report_ = "a table"
    with pytest.raises(SaveFileError, match="report_ of TripletSequencer to be DataFrame"):
        broken.save(path)


# ---- an estimator of its own -------------------------------------------------------------------


class Example(Savable, BaseEstimator):
    """One with all that the mixin offers."""

    _saved_private = ("_rate",)
    _unsavable_params = ("callbacks",)

    def __init__(self, callbacks=None, model=None, size=1):
        self.callbacks = callbacks
        self.model = model
        self.size = size

    def fit(self, X, y=None, sample_weight=None):
        self.total_, self._rate, self._scratch = float(np.sum(X)), 0.5, object()
        return self

    @classmethod
    def _from_saved(cls, state, device):
        estimator = super()._from_saved(state, device)
        estimator.device_ = str(device)
        return estimator


@pytest.fixture(autouse=True)
def _example_in_the_table(monkeypatch):
    place = f"{Example.__module__}:{Example.__qualname__}"
    monkeypatch.setitem(registry.TABLE, "Example", place)
    real = registry.class_of
    monkeypatch.setattr(registry, "class_of", lambda n: Example if n == "Example" else real(n))


def test_private_attributes_are_saved_where_they_are_named(path):
    loaded = through_file(Example().fit([1, 2]), path)
    assert loaded.total_ == 3.0 and loaded._rate == 0.5 and not hasattr(loaded, "_scratch")
    assert loaded.device_ == "auto" and Example.load(path, device="cpu").device_ == "cpu"


def test_estimators_within_estimators(sequencer, path):
    example = Example(model=sequencer, callbacks=[1])
    loaded = through_file(example, path)
    assert loaded.model.vocabulary_ == sequencer.vocabulary_ and loaded.callbacks == [1]


def test_parameters_that_cannot_be_saved(path):
    example = Example(callbacks=[print]).fit([1])
    with pytest.warns(DataWarning, match="callbacks is not saved") as caught:
        example.save(path)
    assert caught[0].filename == __file__
    assert Example.load(path).callbacks is None and example.callbacks == [print]
    os.remove(path)
    example = Example(model=[{"a": print}])
    with pytest.raises(TypeError, match=r"params\.model\[0\]\.a: builtins\.builtin_function"):
        example.save(path)
    assert not path.exists()


def test_requests_of_metadata_come_along(path):
    with sklearn.config_context(enable_metadata_routing=True):
        example = Example().set_fit_request(sample_weight="weight")
        loaded = through_file(example, path)
        requests = loaded.get_metadata_routing().fit.requests
        assert requests == {"sample_weight": "weight"}
        assert not hasattr(through_file(Example(), path), "_metadata_request")


# ---- habits ------------------------------------------------------------------------------------


def test_a_file_is_readable_without_this_library(sequencer, path):
    sequencer.save(path)
    with zipfile.ZipFile(path) as file:
        text = file.read("document.json").decode()
    assert '"class":"TripletSequencer"' in text and '"min_count":3' in text
    assert "pickle" not in text and "tawt_sklearn.tokens" not in text


@pytest.mark.parametrize(
    "value, hint, expected",
    [
        (1, float, True),
        (np.float32(1), float, True),
        ("1", float, False),
        (np.bool_(True), bool, True),
        (1, bool, False),
        (None, int | None, True),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        ((1, "a"), tuple[int, str], True),
        ((1, 2), tuple[int, str], False),
        ((1, 2), tuple[int, ...], True),
        ({"a": [1]}, dict[str, list[int]], True),
        ({"a": ["1"]}, dict[str, list[int]], False),
        (object(), Any, True),
        (np.ones(1), np.ndarray, True),
        ([1.0], np.ndarray, False),
    ],
)
def test_values_are_compared_with_annotations(value, hint, expected):
    assert fits(value, hint) is expected


def test_annotations_that_cannot_be_read_say_nothing():
    class Odd:
        value: NoSuchName  # noqa: F821

    check_hints(Odd, {"value": 1, "other": 2})


def test_every_entry_of_the_table_is_a_class_and_found_again():
    for name in registry.TABLE:
        if name != "Example":
            assert registry.name_of(registry.class_of(name)) == name
