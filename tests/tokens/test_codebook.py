from __future__ import annotations

import json
import math
import sys

import pytest

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens.codebook import CodeRule, load_codebook

BOOK = {
    "HR": {"range": [20, 300], "kind": "numeric"},
    "Glucose": {"factor": 18.0, "log": True, "label": "glucose [mg/dl]", "range": [None, 2000]},
    "wd": {"kind": "categorical"},
    220045: None,
}


def test_reads_a_dictionary():
    rules = load_codebook(BOOK)
    assert rules["HR"] == CodeRule(kind="numeric", low=20, high=300)
    assert rules["Glucose"] == CodeRule(
        factor=18.0, log=True, label="glucose [mg/dl]", low=0.0, high=2000
    )
    assert rules["wd"].kind == "categorical" and rules["wd"].high == math.inf
    assert rules["220045"] == CodeRule()
    assert load_codebook(None) == {}


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".yml"])
def test_reads_files(tmp_path, suffix):
    path = tmp_path / f"codes{suffix}"
    path.write_text(json.dumps({str(code): rule for code, rule in BOOK.items()}))  # also YAML
    assert load_codebook(path) == load_codebook(str(path)) == load_codebook(BOOK)


def test_reads_yaml_with_integer_codes(tmp_path):
    path = tmp_path / "codes.yaml"
    path.write_text("220045:\n  range: [20, 300]\nnote: {kind: presence}\n")
    assert set(load_codebook(path)) == {"220045", "note"}


def test_yaml_takes_codes_as_they_are_written(tmp_path):
    path = tmp_path / "codes.yaml"
    path.write_text("NO: {factor: 1e-3}\n010: {factor: -2.5E+1}\n2020-01-01: {log: true}\n~:\n")
    rules = load_codebook(path)
    assert list(rules) == ["NO", "010", "2020-01-01", "~"]
    assert [rule.factor for rule in rules.values()] == [0.001, -25.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("twice.json", '{"HR": {"factor": 2}, "HR": {"factor": 3}}'),
        ("twice.yaml", "HR: {factor: 2}\nHR: {factor: 3}\n"),
    ],
)
def test_no_rule_of_a_file_hides_another(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match="'HR' is there twice, keep one"):
        load_codebook(tmp_path / name)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("numeric", r"expected a dictionary with keys out of kind, range, .* Got 'numeric'"),
        ({"rnage": [0, 1]}, r"unknown key 'rnage'\. Expected keys out of kind, range"),
        ({"kind": "number"}, r"kind should be one of numeric, categorical, presence. Got 'number'"),
        ({"range": 5}, r"range should be \[lowest, highest\], None for an open end. Got 5"),
        ({"range": [1, 2, 3]}, r"range should be \[lowest, highest\].* Got \[1, 2, 3\]"),
        ({"range": ["a", 2]}, r"range should be two numbers.* Got \['a', 2\]"),
        (
            {"range": [3, 1]},
            r"the range should go from the lowest to the highest valid value. Got \[3, 1\]",
        ),
        (
            {"range": [math.nan, 1]},
            r"the range should go from the lowest to the highest valid value",
        ),
        ({"factor": 0}, r"factor should be a finite number other than 0. Got 0"),
        ({"factor": math.inf}, r"factor should be a finite number"),
        ({"factor": "2"}, r"factor should be a finite number .* Got '2'"),
        ({"factor": True}, r"factor should be a finite number .* Got True"),
        ({"log": 1}, r"log should be true or false. Got 1"),
        ({"label": 3}, r"label should be a string. Got 3"),
        ({"log": True, "range": [-3, -1]}, r"log needs values from 0 upwards.* ends at -1"),
    ],
)
def test_faulty_rules_name_the_code(rule, message):
    with pytest.raises(DataError, match=rf"codes\['Temp'\]: {message}"):
        load_codebook({"HR": {}, "Temp": rule})


def test_one_rule_per_code():
    with pytest.raises(DataError, match="two rules for code '1'"):
        load_codebook({1: {}, "1": {}})


def test_faulty_files(tmp_path):
    with pytest.raises(DataError, match=r"\.json, \.yaml or \.yml file\. Got 'codes\.txt'"):
        load_codebook("codes.txt")
    with pytest.raises(DataError, match=r"'missing\.json' cannot be read"):
        load_codebook("missing.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(DataError, match="is not valid json"):
        load_codebook(broken)
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(DataError, match="is not valid yaml"):
        load_codebook(broken)
    broken.write_text("[a, b]: {}")
    with pytest.raises(DataError, match="is not valid yaml: expected names as keys, got list"):
        load_codebook(broken)
    broken.write_text("")
    with pytest.raises(DataError, match="should hold one mapping of code to rule. Got NoneType"):
        load_codebook(broken)
    broken.write_text("- HR\n- Temp\n")
    with pytest.raises(DataError, match="should hold one mapping of code to rule. Got list"):
        load_codebook(broken)


def test_yaml_without_pyyaml(tmp_path, monkeypatch):
    path = tmp_path / "codes.yaml"
    path.write_text("HR: {}")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportError, match=r"pip install 'tawt_sklearn\[yaml\]', or give a \.json"):
        load_codebook(path)
