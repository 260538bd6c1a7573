from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from tawt_sklearn import TripletSequencer
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens.vocabulary import (
    MASK,
    MISSING,
    N_SPECIAL,
    SPECIAL_CODES,
    UNKNOWN,
    Vocabulary,
)

from .builders import frame_of


@pytest.fixture
def vocabulary() -> Vocabulary:
    X = frame_of(
        [(0, "HR", 80.0), (1, "HR", 90.0), (2, "wd", None, "NW"), (2, "note", 1.0, "high")],
        [(0, "HR", 70.0), (3, "wd", None, "SE"), (4, "surgery", None)],
    )
    rules = {"HR": {"range": [20, None], "log": True, "label": "heart rate"}}
    return TripletSequencer(codes=rules).fit(X).vocabulary_


def test_special_tokens_come_first(vocabulary):
    assert vocabulary.codes[:N_SPECIAL] == SPECIAL_CODES == ("[UNK]", "[MISSING]", "[MASK]")
    assert (UNKNOWN, MISSING, MASK) == (0, 1, 2)
    assert vocabulary.codes[N_SPECIAL:] == ("HR", "wd", "note", "surgery")


def test_describes_every_code(vocabulary):
    assert len(vocabulary) == vocabulary.n_tokens == 7
    assert vocabulary.kinds[N_SPECIAL:] == ("numeric", "categorical", "numeric", "presence")
    assert vocabulary.labels[N_SPECIAL:] == ("heart rate", "wd", "note", "surgery")
    assert vocabulary.counts.tolist() == [0, 0, 0, 3, 2, 1, 1]
    assert vocabulary.token_of["wd"] == 4
    assert vocabulary.categories == (
        (4, "[UNK]"),
        (4, "NW"),
        (4, "SE"),
        (5, "[UNK]"),
        (5, "high"),
    )
    assert vocabulary.category_of[4, "SE"] == 2
    assert vocabulary.category_offsets.tolist() == [0, 0, 0, 0, 0, 3, 5, 5]
    assert vocabulary.category_index.tolist() == [
        "wd=[UNK]",
        "wd=NW",
        "wd=SE",
        "note=[UNK]",
        "note=high",
    ]
    assert "4 codes, 5 categories" in repr(vocabulary)


def test_json_is_strict_and_brings_everything_back(vocabulary):
    text = vocabulary.to_json()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    back = Vocabulary.from_json(text)
    assert back == vocabulary and hash(back) == hash(vocabulary)
    assert back.to_json() == text
    for name in ("low", "high", "center", "scale", "time_quantiles", "category_numbers"):
        np.testing.assert_array_equal(getattr(back, name), getattr(vocabulary, name))
    assert back.low[3] == 20 and back.high[3] == np.inf


def test_from_json_remembers(vocabulary):
    text = vocabulary.to_json()
    assert Vocabulary.from_json(text) is Vocabulary.from_json("".join(text))


def test_pickles_and_compares_by_content(vocabulary):
    back = pickle.loads(pickle.dumps(vocabulary))
    assert back == vocabulary
    assert vocabulary != replace(vocabulary, time_scale=vocabulary.time_scale * 2)
    assert vocabulary != "a vocabulary"


def test_arrays_are_read_only_and_independent(vocabulary):
    with pytest.raises(ValueError, match="read-only"):
        vocabulary.center[0] = 1
    center = np.ones(7)
    copy = replace(vocabulary, center=center)
    center[0] = 5
    assert copy.center[0] == 1


def test_integer_codes_stay_integers():
    X = frame_of([(0, 220045, 80.0), (1, 220045, 90.0), (2, 7, 1.0)])
    vocabulary = TripletSequencer().fit(X).vocabulary_
    back = Vocabulary.from_json(vocabulary.to_json())
    assert back.codes[N_SPECIAL:] == (220045, 7)
    assert back.integer_codes and not Vocabulary.from_json(vocabulary.to_json()).n_categories
    assert back.code_index.tolist() == ["[UNK]", "[MISSING]", "[MASK]", "220045", "7"]


def test_category_names_stay_unique():
    X = frame_of([(0, "a", None, "b=c"), (1, "a=b", None, "c")])
    index = TripletSequencer().fit(X).vocabulary_.category_index
    assert index.is_unique and len(index) == 4


@pytest.mark.parametrize("text", ["", "no json", "[1, 2]", "3", '{"codes": []}'])
def test_other_strings_are_refused(text):
    with pytest.raises(DataError, match="Expected the JSON of a vocabulary"):
        Vocabulary.from_json(text)


def test_other_formats_are_refused(vocabulary):
    content = json.loads(vocabulary.to_json())
    with pytest.raises(DataError, match=r"format 1\. Got format 99"):
        Vocabulary.from_json(json.dumps({**content, "format": 99}))
    del content["scale"]
    with pytest.raises(DataError, match=r"lacks \['scale'\]"):
        Vocabulary.from_json(json.dumps(content))


def test_inconsistent_fields_are_refused(vocabulary):
    with pytest.raises(DataError, match="needs 7 entries in 'scale'. Got 2"):
        replace(vocabulary, scale=np.ones(2))
    with pytest.raises(DataError, match="first codes of a vocabulary"):
        replace(vocabulary, codes=tuple("abcdefg"))
