"""What holds for any ``X`` holds with images, one or several with times, beside events."""

from __future__ import annotations

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tawt_sklearn import (
    ImageEncoder,
    TimeAwareRegressor,
    TripletSequencer,
    load,
    nest_events,
)
from tawt_sklearn.estimators import images
from tawt_sklearn.nn import beside
from tawt_sklearn.nn.image import SmallCNN
from tawt_sklearn.training import chunks
from tawt_sklearn.training.beside import ItemColumn

from .builders import FUSIONS, QUICK, classifier, encoder, film, several


def random_state_of_numpy() -> str:
    return joblib.hash(np.random.get_state())  # noqa: NPY002  (what others use)


def test_images_change_what_is_said(fitted, X):
    p = fitted.predict_proba(X)
    other = X.assign(xray=X["xray"].iloc[::-1].to_numpy())
    assert (fitted.predict_proba(other) != p).any(axis=1).mean() > 0.8


def test_the_same_twice(fitted, X, y):
    torch_state, numpy_state = torch.get_rng_state(), random_state_of_numpy()
    again = clone(fitted).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random_state_of_numpy() == numpy_state


def test_rows_by_themselves(fitted, X):
    p = fitted.predict_proba(X)
    for rows in ([3], [4], [9, 2, 4], list(range(59, -1, -1))):
        np.testing.assert_allclose(fitted.predict_proba(X.iloc[rows]), p[rows], rtol=0, atol=1e-9)


def test_the_order_of_rows_does_not_matter(fitted, X, y):
    order = np.random.default_rng(1).permutation(len(X))
    other = clone(fitted).fit(X.iloc[order], y.iloc[order])
    np.testing.assert_allclose(other.predict_proba(X), fitted.predict_proba(X), atol=1e-9)


def test_a_weight_of_two_is_the_row_twice(X, y):
    twice = np.r_[np.arange(len(X)), :10]
    weight = np.where(np.arange(len(X)) < 10, 2.0, 1.0)
    one = classifier().fit(X, y, sample_weight=weight)
    two = classifier().fit(X.iloc[twice], y.iloc[twice])
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))


def test_fit_leaves_parameters_and_data_alone(X, y):
    model = classifier()
    given, before = model.modalities["xray"], joblib.hash(X["xray"].tolist())
    model.fit(X, y)
    assert model.modalities["xray"] is given and not hasattr(given, "mean_")
    assert joblib.hash(X["xray"].tolist()) == before


def test_pickling(fitted, X):
    other = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(other.predict_proba(X), fitted.predict_proba(X))


def test_save_and_load(fitted, X, tmp_path):
    fitted.save(tmp_path / "model.tawt")
    other = load(tmp_path / "model.tawt")
    np.testing.assert_array_equal(other.predict_proba(X), fitted.predict_proba(X))
    assert other.get_params()["modalities__xray__freeze"] is False
    if fitted.fusion == "gated":
        pd.testing.assert_series_equal(other.modality_weights_, fitted.modality_weights_)
    assert (clone(other).fit(X, [0, 1] * 30).predict(X) >= 0).all()


def test_a_pipeline_tokenises_to_the_same_result(fitted, X, y):
    pipeline = make_pipeline(TripletSequencer(), clone(fitted)).fit(X, y)
    np.testing.assert_array_equal(pipeline.predict_proba(X), fitted.predict_proba(X))


def test_behind_a_column_transformer(X, y):
    columns = ColumnTransformer(
        [("age", StandardScaler(), ["age"]), ("rest", "passthrough", ["events", "xray"])],
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    model = make_pipeline(columns, classifier())
    assert model.fit(X, y).predict_proba(X).shape == (60, 2)


def test_a_search_over_fusion_and_what_modalities_are_made_of(X, y):
    grid = {"fusion": FUSIONS, "modalities__xray__backbone": ["cnn", "vit"]}
    search = GridSearchCV(classifier(max_epochs=1), grid, cv=2, error_score="raise").fit(X, y)
    assert len(search.cv_results_["params"]) == 6
    best = search.best_params_["modalities__xray__backbone"]
    assert search.best_estimator_.preparation_.modalities["xray"].backbone == best


def test_regression(X):
    model = TimeAwareRegressor(modalities={"xray": ImageEncoder()}, n_ensemble=2, **QUICK)
    model.fit(X, X["events"].events.lengths.astype(float))
    assert model.predict(X).shape == (60,)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_several_images_with_times(X, y, fusion):
    model = classifier(fusion=fusion).fit(several(X), y)
    p = model.predict_proba(several(X))
    np.testing.assert_allclose(model.predict_proba(several(X).iloc[[7]]), p[[7]], atol=1e-9)
    later = model.predict_proba(several(X, shift=15.0))
    moved = (later != p).any(axis=1)
    assert moved[[1, 2, 3]].all() and not moved[0]  # row 0 has no image


def test_images_with_dates(X, y):
    events = X["events"].events.to_long()
    start = pd.Timestamp("2024-01-01", tz="UTC")
    events["time"] = start + pd.to_timedelta(events["time"], unit="h")
    dated = nest_events(events, static=X[["age"]])
    hours = [[(1.0 + k % 7, film(np.random.default_rng(k)))] for k in range(len(X))]
    dated["xray"] = [[(start + pd.Timedelta(t, "h"), image)] for ((t, image),) in hours]
    assert classifier().fit(dated, y).predict_proba(dated).shape == (60, 2)


def test_the_gate_can_be_read(X, y):
    model = classifier(fusion="gated").fit(X, y)
    rows = model.modality_weights(X)
    assert list(rows) == ["events", "xray"] and rows.index.equals(X.index)
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    np.testing.assert_allclose(rows.mean(), model.modality_weights_, atol=1e-6)
    model.set_params(fusion="concat").fit(X, y)
    assert not hasattr(model, "modality_weights_")
    with pytest.raises(ValueError, match='fusion="gated"'):
        model.modality_weights(X)


def test_paths_are_as_good_as_arrays(fitted, files, X):
    np.testing.assert_allclose(fitted.predict_proba(files), fitted.predict_proba(X), atol=1e-12)
    other = clone(fitted).fit(files, [0, 1] * 30)
    assert other.predict(files).shape == (60,)


def test_images_of_pillow_are_as_good_as_arrays(concat, X):
    cells = [None if image is None else Image.fromarray(image) for image in X["xray"]]
    pillow = X.assign(xray=pd.Series(cells, index=X.index, dtype=object))
    np.testing.assert_array_equal(concat.predict_proba(pillow), concat.predict_proba(X))


def test_where_files_lie_does_not_matter(files, X, y):
    one, other = classifier().fit(files, y), classifier().fit(X, y)
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), atol=1e-9)


def test_export_is_refused(concat, X, tmp_path):
    for call in (lambda: concat.export(tmp_path / "m.onnx"), lambda: concat.export_inputs(X)):
        with pytest.raises(ValueError, match="not exported.*save and load"):
            call()


# ---- how much is held at once, and what is learned from ----------------------------------------


def test_images_of_many_rows_are_read_a_few_at_a_time(X, y, monkeypatch):
    """Rows with more images come in smaller groups, and their answers stay what they were."""
    model, pretrained = classifier(modalities={"xray": ImageEncoder()}), encoder()
    rows = several(X)
    model.fit(rows, y)
    pretrained.fit(rows)
    p, z = model.predict_proba(rows), pretrained.transform(rows)
    read, tokens = [], []
    batch, look = ItemColumn.batch, SmallCNN.forward

    def counted(self, rows):
        items = batch(self, rows)
        read.append(0 if items is None else len(items))
        return items

    def looked(self, pixels):
        tokens.append(len(pixels))
        return look(self, pixels)

    monkeypatch.setattr(ItemColumn, "batch", counted)
    monkeypatch.setattr(SmallCNN, "forward", looked)
    monkeypatch.setitem(chunks.ITEMS_AT_ONCE, "cpu", 7)
    monkeypatch.setitem(beside.AT_ONCE, "cpu", 4)
    np.testing.assert_allclose(model.predict_proba(rows), p, rtol=0, atol=1e-9)
    np.testing.assert_allclose(pretrained.transform(rows), z, rtol=0, atol=1e-6)
    pretrained.transform_steps(rows)
    assert max(read) == 7 and max(tokens) == 4
    assert model.set_params(predict_batch_size=60).predict(rows).shape == (60,) and max(read) == 7


def test_what_pixels_are_scaled_by_does_not_depend_on_names_and_order(X, y, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "N_MEASURED", 10)
    learned = []
    for name in ("{}", "{:03d} of a study", "z{}"):
        paths = []
        for k, image in enumerate(X["xray"]):
            paths.append(None if image is None else str(tmp_path / (name.format(-k) + ".png")))
            if image is not None:
                Image.fromarray(image).save(paths[-1])
        files = X.assign(xray=pd.Series(paths, index=X.index, dtype=object))
        order = np.random.default_rng(len(learned)).permutation(len(X))
        learned.append(classifier().fit(files.iloc[order], y.iloc[order]))
    learned.append(classifier().fit(X, y))
    told = [model.preparation_.modalities["xray"] for model in learned]
    assert len({(one.mean_.item(), one.scale_.item(), one.range_) for one in told}) == 1
    ours = encoder().fit(X.iloc[::-1]).preparation_.modalities["xray"]
    assert ours.mean_ == encoder().fit(X).preparation_.modalities["xray"].mean_
    everything = ImageEncoder().fit([image for image in X["xray"] if image is not None])
    assert everything.mean_ != told[0].mean_


# ---- what else users do --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["str", "category", object])
def test_columns_of_paths_of_any_dtype(dtype, files, X, concat):
    cells = files["xray"].astype(dtype)
    np.testing.assert_allclose(
        concat.predict_proba(files.assign(xray=cells)), concat.predict_proba(X), atol=1e-12
    )


def test_a_search_in_several_threads(X, y):
    search = GridSearchCV(
        classifier(max_epochs=1), {"fusion": FUSIONS[::2]}, cv=2, error_score="raise", n_jobs=2
    )
    with joblib.parallel_config("threading"):
        search.fit(X, y)
    alone = clone(search).set_params(n_jobs=None).fit(X, y)
    assert search.cv_results_["mean_test_score"].tolist() == (
        alone.cv_results_["mean_test_score"].tolist()
    )


def test_rows_that_hold_nothing_but_an_image(X, y, fitted):
    """Their histories are empty, and they have no static columns that say anything."""
    same = {name: X[name].iloc[0] for name in X.columns.drop(["events", "xray"])}
    bare = X.assign(events=X["events"].events.until(-1.0), **same)
    assert not bare["events"].events.lengths.any()
    p = fitted.predict_proba(bare)
    assert np.isfinite(p).all() and len(np.unique(p[:, 0].round(12))) > 10


def test_one_subject(X, y):
    model = TimeAwareRegressor(modalities={"xray": ImageEncoder()}, n_ensemble=1, **QUICK).fit(
        X.iloc[:1], [3.0]
    )
    assert np.isfinite(model.predict(X.iloc[:1])).all()
    assert encoder().fit(X.iloc[:1]).transform(X.iloc[:1]).shape[0] == 1


def test_several_numbers_for_each_row(X):
    two = np.column_stack([X["events"].events.lengths, X["age"].fillna(50)])
    model = TimeAwareRegressor(modalities={"xray": ImageEncoder()}, n_ensemble=1, **QUICK)
    assert model.fit(X, two).predict(X).shape == (60, 2)


def test_partitions_of_dask(files, X, concat):
    """Whose made-up rows, by which it learns what comes out, hold no paths of files."""
    dd = pytest.importorskip("dask.dataframe")
    lazy = dd.from_pandas(files, npartitions=2)
    told = concat.predict_proba(lazy).compute(scheduler="synchronous")
    np.testing.assert_allclose(told, concat.predict_proba(X), atol=1e-9)
