"""Bad input gets an error that says what came and what to do, and leaves nothing behind."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from tawt_sklearn import TripletSequencer, nest_events
from tawt_sklearn.exceptions import (
    DataError,
    DataWarning,
    DeviceError,
    NotNestedError,
    TrainingError,
)
from tawt_sklearn.training.dataset import EventDataset


def fitted_attributes(estimator) -> list[str]:
    return [name for name in vars(estimator) if name.endswith("_") and not name.startswith("_")]


def refuses(clf, X, y, error, message):
    """``fit`` raises with this message, and the estimator is as unfitted as before."""
    with pytest.raises(error, match=message):
        clf.fit(X, y)
    assert fitted_attributes(clf) == []
    with pytest.raises(NotFittedError):
        clf.predict(X)


def test_a_long_table_with_labels_per_subject(X, y, quick):
    long = X["events"].events.to_long()
    refuses(quick(), long, y, NotNestedError, "nest_events")


def test_labels_of_another_length(X, y, quick):
    refuses(quick(), X, y[:-3].to_numpy(), DataError, "one label for each of the 160 rows.*Got 157")
    refuses(quick(), X, y[:-3], DataError, "one label for each of the 160 rows.*Got 157")


def test_labels_with_another_index(X, y, quick):
    other = y.set_axis([f"x{k}" for k in range(len(y))])
    refuses(quick(), X, other, DataError, "160 rows of X have no y.*reindex")
    shuffled = y.iloc[::-1]
    refuses(
        quick(), X, shuffled, DataError, r"same labels in another order.*row 0.*y\.loc\[X\.index"
    )


def test_missing_labels(X, y, quick):
    refuses(
        quick(), X, y.astype(float).where(y.index != y.index[7]), DataError, "1 missing.*position 7"
    )
    refuses(quick(), X, None, DataError, "requires y to be passed, but the target y is None")


def test_one_class(X, y, quick):
    refuses(
        quick(), X, np.ones(len(X), int), DataError, "at least two classes in y. Got one class: 1"
    )


def test_labels_of_several_kinds(X, y, quick):
    mixed = y.astype(object).where(y == 0, "dead")
    refuses(quick(), X, mixed, DataError, r"labels of one kind. Got int and str.*astype\(str\)")


def test_one_label_for_all(X, y, quick):
    refuses(quick(), X, "died", DataError, "one label for each of the 160 rows.*Got one str")


def test_continuous_labels(X, y, quick):
    refuses(quick(), X, np.linspace(0, 1, len(X)), ValueError, "Unknown label type")


def test_two_columns_of_labels(X, y, quick):
    two = np.stack([y, 2 * y], axis=1)
    refuses(quick(), X, two, DataError, "0 and 1 which labels a row has.*Got 2.*MultiOutput")
    refuses(quick(), X, np.stack([two, two]), DataError, "one label for each of the 160 rows")
    three = np.zeros((len(X), 2, 2), int)
    refuses(quick(), X, three, DataError, r"labels of shape \(160,\).*\(160, 2, 2\)")


def test_all_histories_empty(X, y, quick):
    empty = X.assign(events=X["events"].events.until(-1e9))
    refuses(quick(), empty, y, DataError, "empty")


def test_columns_of_the_same_name(X, y, quick):
    twice = X.set_axis(["age", "age", "unit", "events"], axis=1)
    for frame in (twice, TripletSequencer().fit_transform(X).set_axis(twice.columns, axis=1)):
        refuses(quick(), frame, y, DataError, "different names. Got 'age' more than once")


def test_no_rows(X, y, quick):
    clf = quick().fit(X, y)
    with pytest.raises(DataError, match="at least one row of X. Got a frame with 0 rows"):
        clf.predict(X.iloc[:0])
    refuses(quick(), X.iloc[:0], y.iloc[:0], DataError, "at least one row of X")


def test_a_missing_history(X, y, quick):
    holed = X.copy()
    holed.loc[X.index[3], "events"] = pd.NA
    refuses(quick(), holed, y, DataError, "NA.*empty")
    clf = quick().fit(X, y)
    with pytest.raises(DataError, match="NA.*empty"):
        clf.predict(holed)


def test_two_subjects_are_enough(X, y, quick):
    rows = [int(np.flatnonzero(y == label)[0]) for label in (0, 1)]
    clf = quick().fit(X.iloc[rows], y.iloc[rows])
    with np.errstate(all="ignore"):
        assert clf.predict_proba(X.iloc[rows]).shape == (2, 2)


def test_one_subject(X, y, quick):
    refuses(quick(), X.iloc[:1], y.iloc[:1], DataError, "at least two classes")


def test_unseen_codes_at_predict_warn_once(X, y, quick):
    clf = quick().fit(X, y)
    long = X["events"].events.to_long()
    long["code"] = long["code"].astype(str).replace({long["code"].iloc[0]: "never seen"})
    changed = X.assign(events=nest_events(long, static=X[[]], until=48.0)["events"])
    with pytest.warns(DataWarning, match="never seen") as caught:
        p = clf.predict_proba(changed)
    assert len(caught) == 1 and np.isfinite(p).all()


def test_a_device_that_does_not_exist(X, y, quick):
    refuses(quick(device="cuda:97"), X, y, DeviceError, "device that this machine has.*cuda:97")
    refuses(quick(device="gpu"), X, y, DeviceError, "Expected device.*Got 'gpu'")


def test_predict_before_fit(X, quick):
    for method in ("predict", "predict_proba", "decision_function"):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(quick(), method)(X)


def test_other_columns_at_predict(X, y, quick):
    clf = quick().fit(X, y)
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(X.rename(columns={"age": "years"}))
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(X.drop(columns="age"))


def test_another_number_of_columns_without_names(X, y, quick):
    clf = quick().fit(X.set_axis(range(4), axis=1), y)
    with pytest.raises(ValueError, match="X has 5 features, but.*expecting 4"):
        clf.predict(X.assign(more=1).set_axis(range(5), axis=1))


def test_names_that_scikit_learn_refuses_leave_nothing_behind(X, y, quick):
    tokens = TripletSequencer().fit_transform(X).set_axis([0, "sex", "unit", "events"], axis=1)
    refuses(quick(), tokens, y, TypeError, "only supported if all input features have string names")


def test_tokens_of_another_vocabulary(X, y, quick):
    sequencer = TripletSequencer().fit(X)
    clf = quick().fit(sequencer.transform(X), y)
    with pytest.raises(DataError, match="another vocabulary.*same fitted TripletSequencer"):
        clf.predict(TripletSequencer(clip=2.0).fit_transform(X))
    with pytest.raises(DataError, match="tokenised histories.*Got raw.*Pipeline"):
        clf.predict(X)


def test_a_width_that_the_heads_do_not_divide(X, y, quick):
    refuses(quick(d_model=10, n_heads=4), X, y, ValueError, "multiple of n_heads.*10.*4")


@pytest.mark.parametrize(
    "parameter, value",
    [("d_model", 0), ("dropout", 1.0), ("patching", "both"), ("learning_rate", "fast"),
     ("n_ensemble", 0), ("sequencer", "default"), ("early_stopping", "maybe")],
)  # fmt: skip
def test_bad_parameters(X, y, quick, parameter, value):
    refuses(quick(**{parameter: value}), X, y, ValueError, f"'{parameter}' parameter of TimeAware")


def test_a_scorer_that_does_not_exist(X, y, quick):
    refuses(quick(scoring="auroc", early_stopping=True), X, y, ValueError, "roc_auc.*Got 'auroc'")


def test_what_is_no_callback(X, y, quick):
    for given in (3, ("count", 3)):
        refuses(quick(callbacks=[given]), X, y, ValueError, "skorch callbacks or pairs.*Got .*3")


@pytest.mark.parametrize(
    "name, instead",
    [("callbacks", "callbacks"), ("criterion", ""), ("device", "device"), ("lr", "learning_rate"),
     ("max_epochs", "max_epochs"), ("module", ""), ("train_split", "early_stopping")],
)  # fmt: skip
def test_net_params_do_not_replace_what_the_estimator_builds(X, y, quick, name, instead):
    clf = quick(net_params={name: None})
    refuses(clf, X, y, ValueError, rf"net_params without.*Got \['{name}'\].*{instead}")


def test_training_that_diverges(X, y, quick):
    clf = quick(learning_rate=1e8, min_steps=40)
    refuses(clf, X, y, TrainingError, "Got train_loss nan.*Lower the learning rate")


def test_a_holdout_that_the_scorer_cannot_judge(X, y, quick):
    rare = pd.Series(np.arange(len(X)) == 7, index=X.index)
    clf = quick(early_stopping=True, scoring="average_precision", validation_fraction=0.001)
    refuses(clf, X, rare, DataError, "validation_fraction=0.001 of 159 labels")


def test_times_too_large_for_single_precision(X, y, quick):
    clf = quick().fit(X, y)
    array = X["events"].array
    far = X.assign(events=array._replace(end=np.full(len(X), 1e300)))
    with pytest.raises(DataError, match="finite scores. Got others for .* rows.*single precision"):
        clf.predict_proba(far)


def test_an_interrupted_fit_leaves_nothing_behind(X, y, quick, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(EventDataset, "__getitems__", interrupted)
    refuses(quick(), X, y, KeyboardInterrupt, "before the end of the first epoch")


def test_a_failed_refit_leaves_the_first_fit_as_it_was(X, y, quick):
    clf = quick().fit(X, y)
    before = clf.predict_proba(X)
    with pytest.raises(DataError):
        clf.fit(X, np.zeros(len(X)))
    np.testing.assert_array_equal(clf.predict_proba(X), before)
