"""TimeAwareClassifier: what it learns, what it returns, that it repeats itself."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from tawt_sklearn import EventSummarizer, TimeAwareClassifier, TripletSequencer, nest_events
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.exceptions import DataWarning


def test_probabilities_labels_and_scores_agree(X, y, quick):
    clf = quick().fit(X, y)
    p = clf.predict_proba(X)
    assert p.shape == (len(X), 2) and p.dtype == np.float64
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_array_equal(clf.predict(X), clf.classes_[p.argmax(1)])
    np.testing.assert_allclose(clf.decision_function(X), np.log(p[:, 1] / p[:, 0]), rtol=1e-6)
    np.testing.assert_allclose(clf.predict_log_proba(X), np.log(p))
    assert clf.score(X, y) == pytest.approx((clf.predict(X) == y).mean())


def test_many_classes_with_names(X, quick):
    labels = np.array(["red", "green", "blue"])[np.arange(len(X)) % 3]
    clf = quick().fit(X, labels)
    assert clf.classes_.tolist() == ["blue", "green", "red"]
    assert clf.predict_proba(X).shape == clf.decision_function(X).shape == (len(X), 3)
    assert set(clf.predict(X)) <= set(clf.classes_)


def test_history_has_a_row_for_each_member_and_epoch(X, y, quick):
    clf = quick(max_epochs=3, n_ensemble=2, early_stopping=True).fit(X, y)
    assert clf.history_["member"].tolist() == [0, 0, 0, 1, 1, 1]
    assert {"epoch", "train_loss", "valid_loss", "valid_score", "seconds"} <= set(clf.history_)
    assert clf.n_iter_ == 3
    assert clf.history_.notna().all(axis=None)


def test_below_the_floor_nothing_is_held_out(X, y, quick):
    assert "valid_loss" not in quick().fit(X, y).history_


def test_few_labels_get_a_floor_of_steps(X, y, quick):
    clf = quick(max_epochs=2, min_steps=50, batch_size=64).fit(X.iloc[:40], y.iloc[:40])
    assert clf.n_iter_ == 13  # 40 rows in batches of 10 are 4 steps an epoch


def test_early_stopping_stops(X, y, quick):
    noise = np.random.default_rng(0).integers(0, 2, len(X))
    clf = quick(max_epochs=60, patience=2, early_stopping=True, learning_rate=0.01)
    assert clf.fit(X, noise).n_iter_ < 60


def test_early_stopping_stops_where_nothing_changes(X, y, quick):
    clf = quick(max_epochs=30, patience=2, early_stopping=True, learning_rate=1e-12)
    assert clf.fit(X, y).n_iter_ == 3


def test_a_callback_stops_training_in_the_way_of_skorch(X, y, quick):
    class Enough(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    assert quick(callbacks=[Enough()], max_epochs=9).fit(X, y).n_iter_ == 1


@pytest.mark.parametrize("scoring", ["roc_auc", "average_precision", "neg_log_loss"])
def test_any_scorer_can_watch(X, y, quick, scoring):
    assert (
        quick(early_stopping=True, scoring=scoring).fit(X, y).history_["valid_score"].notna().all()
    )


def test_the_same_seed_gives_the_same_result(X, y, quick):
    first, second, other = quick().fit(X, y), quick().fit(X, y), quick(random_state=1).fit(X, y)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert not np.allclose(first.predict_proba(X), other.predict_proba(X))


def test_members_do_not_depend_on_n_jobs(X, y, quick):
    one = quick(n_ensemble=2).fit(X, y)
    two = quick(n_ensemble=2, n_jobs=2).fit(X, y)
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))


def test_members_do_not_depend_on_the_kind_of_workers(X, y, quick):
    """Nested parallel calls run in threads, which share torch's random state."""
    one = quick(n_ensemble=3).fit(X, y)
    with parallel_config(backend="threading"):
        threads = quick(n_ensemble=3, n_jobs=3).fit(X, y)
    np.testing.assert_array_equal(one.predict_proba(X), threads.predict_proba(X))


def test_members_have_callbacks_of_their_own(X, y, quick):
    class Count(Callback):
        def initialize(self):
            self.epochs_ = getattr(self, "epochs_", 0)
            return self

        def on_epoch_end(self, net, **kwargs):
            self.epochs_ += 1

    counter = Count()
    nets = quick(n_ensemble=2, callbacks=[counter]).fit(X, y).nets_
    assert [dict(net.callbacks_)["Count"].epochs_ for net in nets] == [2, 2]


def test_global_random_state_and_threads_are_untouched(X, y, quick):
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    threads = torch.get_num_threads()
    quick(early_stopping=True).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert torch.get_num_threads() == threads


def test_shuffled_rows_give_shuffled_predictions(X, y, quick):
    clf = quick().fit(X, y)
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_allclose(
        clf.predict_proba(X.iloc[order]), clf.predict_proba(X)[order], atol=1e-5
    )
    np.testing.assert_allclose(clf.predict_proba(X.iloc[:1]), clf.predict_proba(X)[:1], atol=1e-5)


def test_raw_frames_and_tokenised_frames_give_the_same(X, y, quick):
    sequencer = TripletSequencer()
    tokens = sequencer.fit_transform(X)
    raw, tokenised = quick().fit(X, y), quick().fit(tokens, y)
    np.testing.assert_array_equal(raw.predict_proba(X), tokenised.predict_proba(tokens))
    own = quick(sequencer=TripletSequencer(max_events=20))
    with pytest.warns(DataWarning):
        own.fit(X, y)
        p = own.predict_proba(X)
    assert not np.allclose(p, raw.predict_proba(X))


@pytest.mark.parametrize("patching", ["time", "feature"])
def test_other_patchings(X, y, quick, patching):
    assert quick(patching=patching).fit(X, y).predict_proba(X).shape == (len(X), 2)


def test_the_sinusoidal_time_encoding_is_not_trained(X, y, quick):
    clf = quick(time_encoding="sinusoidal").fit(X, y)
    encoding = clf.nets_[0].module_.backbone.temporal_patches.time_encoding
    assert not encoding.frequency.requires_grad
    learned = quick().fit(X, y).nets_[0].module_.backbone.temporal_patches.time_encoding
    assert not torch.equal(learned.frequency, encoding.frequency)


def test_more_codes_than_feature_patches(X, y, quick):
    clf = quick(max_feature_patches=3).fit(X, y)
    order = np.arange(len(X))[::-1]
    np.testing.assert_allclose(
        clf.predict_proba(X.iloc[order]), clf.predict_proba(X)[order], atol=1e-5
    )
    np.testing.assert_allclose(clf.predict_proba(X.iloc[:1]), clf.predict_proba(X)[:1], atol=1e-5)


def test_a_pickle_holds_no_patients_and_no_state_of_the_optimizer(X, y, quick):
    clf = quick(early_stopping=True, validation_fraction=0.5).fit(X, y)
    (net,) = clf.nets_
    assert net.train_split is None and not net.optimizer_.state
    without = quick(max_epochs=clf.n_iter_).fit(X, y)
    size = len(pickle.dumps(clf))
    assert size < 1.05 * len(pickle.dumps(without))
    weights = sum(p.nbytes for p in net.module_.parameters())
    scales = 2 * sum(b.nbytes for b in net.module_.summary.buffers(recurse=False))
    assert size < weights + scales + 80_000  # preparation and history


def test_pickling_and_cloning(X, y, quick):
    clf = quick(early_stopping=True, verbose=0).fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    with pytest.raises(NotFittedError):
        clone(clf).predict(X)


def test_it_is_silent_by_default_and_shows_a_bar_when_asked(X, y, quick, capfd):
    quick().fit(X, y)
    assert capfd.readouterr() == ("", "")
    quick(verbose=1, early_stopping=True).fit(X, y)
    shown = capfd.readouterr().err
    assert "TimeAwareClassifier" in shown and "loss=" in shown and "valid=" in shown


def test_callbacks_and_net_params_reach_the_net(X, y, quick):
    class Count(Callback):
        def on_train_begin(self, net, **kwargs):
            self.epochs_ = 0

        def on_epoch_end(self, net, **kwargs):
            self.epochs_ += 1

    counter = Count()
    net_params = {"optimizer": torch.optim.SGD, "optimizer__fused": False}
    clf = quick(callbacks=[("count", counter)], net_params=net_params).fit(X, y)
    assert counter.epochs_ == clf.n_iter_ == 2
    assert isinstance(clf.nets_[0].optimizer_, torch.optim.SGD)


def test_numpy_numbers_as_parameters(X, y, quick):
    given = {"d_model": 8, "n_heads": 2, "n_windows": 4, "batch_size": 16, "n_average": 2}
    numbers = {name: np.int64(value) for name, value in given.items()}
    np.testing.assert_array_equal(
        quick(**numbers).fit(X, y).predict_proba(X), quick(**given).fit(X, y).predict_proba(X)
    )


@pytest.mark.parametrize("names", [range(4), pd.MultiIndex.from_product([["a"], range(4)])])
def test_names_that_are_no_strings(X, y, quick, names):
    p = quick().fit(X, y).predict_proba(X)
    other = X.set_axis(names, axis=1)
    np.testing.assert_array_equal(quick().fit(other, y).predict_proba(other), p)


def test_a_series_of_histories_is_a_frame_of_one_column(X, y, quick):
    clf = quick().fit(X["events"], y)
    assert clf.feature_names_in_.tolist() == ["events"] and clf.n_features_in_ == 1
    p = clf.predict_proba(X["events"])
    for same in (X[["events"]], X["events"].array):
        np.testing.assert_array_equal(clf.predict_proba(same), p)


def test_a_clock_that_starts_far_away(quick):
    """Hours since 1970 are as good as hours since admission, and float32 does not blur them."""
    rng = np.random.default_rng(0)
    n, E = 60, 1200
    events = pd.DataFrame(
        {
            "subject_id": np.repeat(np.arange(n), E // n),
            "time": np.sort(rng.integers(0, 48 * 1024, (n, E // n)) / 1024).ravel(),
            "code": rng.choice(["a", "b"], E),
            "value": rng.normal(size=E),
        }
    )
    clf = quick(sequencer=TripletSequencer(time_origin="zero"), min_steps=30)
    p = []
    for shift in (2.0**19, 2.0**20, -(2.0**20)):
        X = nest_events(events.assign(time=events["time"] + shift))
        p.append(clf.fit(X, np.arange(n) % 2).predict_proba(X)[:, 1])
    np.testing.assert_allclose(p[0], p[1], atol=1e-4)
    np.testing.assert_allclose(p[0], p[2], atol=1e-4)
    assert len(np.unique(p[0])) == n


def test_events_after_the_stated_end(X, y, quick):
    early = X.assign(events=X["events"].array._replace(end=np.full(len(X), -1e5)))
    assert np.isfinite(quick().fit(X, y).predict_proba(early)).all()


def test_an_empty_history_is_predicted(X, y, quick):
    clf = quick().fit(X, y)
    empty = X.assign(events=X["events"].events.until(-1.0))
    p = clf.predict_proba(empty)
    assert np.isfinite(p).all()


def test_it_learns_what_only_the_time_axis_shows():
    """A code that rises in one class and falls in the other, with the same values in both."""
    rng = np.random.default_rng(0)
    n, T = 240, 10
    y = np.arange(n) % 2
    values = np.sort(rng.normal(size=(n, T)), axis=1)
    values[y == 0] = values[y == 0, ::-1]
    events = pd.DataFrame(
        {
            "subject_id": np.repeat(np.arange(n), T),
            "time": np.sort(rng.uniform(0, 24, (n, T)), axis=1).ravel(),
            "code": "lactate",
            "value": values.ravel(),
        }
    )
    X = nest_events(events)
    clf = TimeAwareClassifier(
        d_model=16, n_heads=2, max_epochs=10, min_steps=100, n_ensemble=1, random_state=0
    )
    clf.fit(X.iloc[:160], y[:160])
    assert roc_auc_score(y[160:], clf.predict_proba(X.iloc[160:])[:, 1]) > 0.97


@pytest.mark.slow
def test_it_finds_what_aggregates_without_order_cannot():
    """The simulated cohort's trend shows on the time axis only: boosting on order-free
    aggregates of the same stays cannot see it."""
    X, y = make_icu_stays(3000, random_state=0)
    clf = TimeAwareClassifier(random_state=0, n_jobs=2).fit(X.iloc[:2000], y.iloc[:2000])
    reached = roc_auc_score(y[2000:], clf.predict_proba(X.iloc[2000:])[:, 1])
    order_free = make_pipeline(
        EventSummarizer(statistics=("count", "mean", "sd", "min", "max")),
        HistGradientBoostingClassifier(learning_rate=0.05, random_state=0),
    ).fit(X.iloc[:2000], y.iloc[:2000])
    blind = roc_auc_score(y[2000:], order_free.predict_proba(X.iloc[2000:])[:, 1])
    assert reached > blind + 0.02
