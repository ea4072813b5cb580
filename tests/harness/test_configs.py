"""What a composed config describes, made: errors name the setting as one would type it."""

import sys
from pathlib import Path

import pytest

from condsim.harness.configs import make
from condsim.harness.errors import CondsimError


def test_a_setting_without_a_value_is_named_with_its_place() -> None:
    config = {"_target_": "condsim.datasets.mining.captions.HubCaptions", "dataset": {"data_files": "???"}}
    with pytest.raises(CondsimError, match=r"^captions\.dataset\.data_files is not set: add captions\.dataset"):
        make(config, "captions")


def test_a_choice_without_a_class_says_what_to_set() -> None:
    for config in ({}, {"_target_": "???"}):
        with pytest.raises(CondsimError, match=r"method\._target_=my_module\.MyMethod"):
            make(config, "method")


def test_the_error_of_a_class_is_reported_in_its_own_words() -> None:
    config = {"_target_": "condsim.methods.query_adaptive.QueryAdaptive", "noise": -1}
    with pytest.raises(CondsimError, match=r"^method\.noise and method\.semi_positives must not be negative"):
        make(config)


def test_an_unknown_setting_is_one_message() -> None:
    with pytest.raises(CondsimError, match=r"^method\.rnk: .*clay\.Clay has no setting 'rnk'\. Did you mean 'rank'"):
        make({"_target_": "condsim.methods.clay.Clay", "rnk": 3}, "method")


USER_CODE = """
from condsim import OneVector


class ByLength(OneVector):
    def __init__(self, weight, table=None):
        self.rows = {"reference": 1}[table or "reference"]

    def embed(self, queries):
        return queries.text


class Unfinished(OneVector):
    pass


class Plain:
    name = "plain"
    width = 3


def load():
    return [1, 2]
"""
OWN = "lengthy_u"
WRONG_TARGETS: dict[str, tuple[str, dict[str, object], str]] = {
    "unfinished class": (
        "method",
        {"_target_": f"{OWN}.Unfinished"},
        r"^method\._target_=lengthy_u\.Unfinished: the class has no method embed",
    ),
    "misspelt class": (
        "method",
        {"_target_": f"{OWN}.ByLenght"},
        r"^method\._target_=lengthy_u\.ByLenght: lengthy_u\.py has no 'ByLenght'\. Did you mean 'ByLength'",
    ),
    "misspelt module": (
        "method",
        {"_target_": "lenghty_u.ByLength"},
        r"no module 'lenghty_u': neither lenghty_u\.py in .* Did you mean 'lengthy_u'",
    ),
    "misspelt module of a package": (
        "method",
        {"_target_": "condsim.methods.clya.Clay"},
        r"methods has no 'clya'\. Did you mean 'clay'",
    ),
    "missing setting": ("method", {"_target_": f"{OWN}.ByLength"}, r"^method\.weight is not set: .* \+method\.weight="),
    "its exception": (
        "method",
        {"_target_": f"{OWN}.ByLength", "weight": 1, "table": "x"},
        r"^lengthy_u\.ByLength raised KeyError: 'x' \(lengthy_u\.py, line 7\)",
    ),
    "no method": ("method", {"_target_": f"{OWN}.Plain"}, r"Plain is no method: derive it from condsim\.OneVector"),
    "no backbone": ("backbone", {"_target_": f"{OWN}.Plain"}, "has no identity, device, encode_images, encode_texts"),
    "no benchmark": ("benchmark", {"_target_": f"{OWN}.load"}, r"returned list, expected a condsim\.Benchmark"),
    "no class": ("method", {"_target_": f"{OWN}.__name__"}, "neither a class nor a function"),
    "module that fails": (
        "method",
        {"_target_": "broken_u.Mine"},
        r"cannot be imported: ModuleNotFoundError: No module named 'not_there' \(broken_u\.py, line 1\)",
    ),
}


@pytest.mark.parametrize("what", WRONG_TARGETS)
def test_a_users_class_that_cannot_be_used_is_explained(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lengthy_u.py").write_text(USER_CODE)
    (tmp_path / "broken_u.py").write_text("import not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "lengthy_u", raising=False)
    name, config, message = WRONG_TARGETS[what]
    with pytest.raises(CondsimError, match=message):
        make(config, name)
