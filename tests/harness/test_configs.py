"""What a composed config describes, made: errors name the setting as one would type it."""

import pytest

from condsim.harness.configs import make
from condsim.harness.errors import CondsimError


def test_a_setting_without_a_value_is_named_with_its_place() -> None:
    config = {"_target_": "condsim.datasets.mining.captions.HubCaptions", "dataset": {"data_files": "???"}}
    with pytest.raises(CondsimError, match=r"^captions\.dataset\.data_files is not set: .*HubCaptions needs it"):
        make(config, "captions")


def test_a_choice_without_a_class_says_what_to_set() -> None:
    for config in ({}, {"_target_": "???"}):
        with pytest.raises(CondsimError, match=r"method\._target_=my_module\.MyMethod"):
            make(config, "method")


def test_what_a_class_refuses_is_told_as_it_says_it() -> None:
    config = {"_target_": "condsim.methods.query_adaptive.QueryAdaptive", "noise": -1}
    with pytest.raises(CondsimError, match=r"^method\.noise and method\.semi_positives must not be negative"):
        make(config)


def test_an_unknown_setting_is_one_message() -> None:
    with pytest.raises(CondsimError, match=r"cannot make condsim\.methods\.clay\.Clay: .*rnk"):
        make({"_target_": "condsim.methods.clay.Clay", "rnk": 3})
