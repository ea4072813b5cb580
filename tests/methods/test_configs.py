"""Every method's YAML: its settings are those of its class, and its nested choices can be exchanged from outside."""

import inspect
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

import condsim.conf
from condsim.harness.errors import CondsimError
from condsim.harness.method import Method
from condsim.harness.settings.composition import compose_config

FOLDER = Path(condsim.conf.__file__).parent / "method"
METHODS = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "custom")


def composed(*arguments: str, benchmark: str = "genecis") -> DictConfig:
    return compose_config("bench", [f"benchmark={benchmark}", *arguments]).method


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_of_the_class_is_in_the_yaml_with_its_default(name: str) -> None:
    config = composed(f"method={name}")
    yaml = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))
    assert isinstance(yaml, dict)
    from_another = isinstance(next(iter(yaml.get("defaults", [])), None), str)
    check_against_class(OmegaConf.to_container(config, resolve=True), set(yaml) if from_another else set())
    if "checkpoint" not in config:
        assert isinstance(instantiate(config, _convert_="all"), Method)


def check_against_class(config: Any, own: Collection[object] = ()) -> None:
    """``own``: the settings that the YAML sets otherwise, because it starts from another method's YAML."""
    parameters = dict(inspect.signature(get_class(config["_target_"])).parameters)
    assert set(config) - {"_target_"} == set(parameters)
    for name, parameter in parameters.items():
        value = config[name]
        if name == "checkpoint" or name in own:  # the weights that ship with the project belong to the YAML
            continue
        if isinstance(value, dict):  # a choice of its own; without one the class takes the same
            assert parameter.default is None
            check_against_class(value)
        else:
            default = parameter.default
            assert value == (list(default) if isinstance(default, tuple) else default)


@pytest.mark.parametrize(
    ("wrapper", "expected"), [("neighborhood_rerank", "NeighborhoodRerank"), ("local_steering", "LocalSteering")]
)
def test_the_base_of_a_wrapper_is_exchanged_with_its_settings(wrapper: str, expected: str) -> None:
    config = composed(f"method={wrapper}", "method@method.base=clay", "method.base.rank=7")
    method = instantiate(config, _convert_="all")
    assert type(method).__name__ == expected
    assert type(method.base).__name__ == "Clay"
    assert method.base.rank == 7


@pytest.mark.parametrize("wrapper", ["neighborhood_rerank", "local_steering"])
def test_a_name_in_place_of_a_base_says_how_to_put_a_method_there(wrapper: str) -> None:
    target = composed(f"method={wrapper}")._target_
    with pytest.raises(CondsimError, match=r"method\.base=clay on the command line"):
        get_class(target)(base="clay")


def test_steering_goes_before_the_rerank() -> None:
    config = composed(
        "method=neighborhood_rerank", "method@method.base=local_steering", "method@method.base.base=image_only"
    )
    method = instantiate(config, _convert_="all")
    assert [type(m).__name__ for m in (method, method.base, method.base.base)] == [
        "NeighborhoodRerank", "LocalSteering", "ImageOnly",
    ]  # fmt: skip


def test_phrases_are_exchanged_for_those_of_a_language_model() -> None:
    config = composed("method=clay", "method/phrases=llm")
    check_against_class(OmegaConf.to_container(config.phrases))
    config.phrases.model = "mine"
    assert instantiate(config, _convert_="all").phrases.model == "mine"
    nested = composed("method=neighborhood_rerank", "method@method.base=clay", "method/phrases@method.base.phrases=llm")
    assert type(instantiate(nested, _convert_="all").base.phrases).__name__ == "LLMPhrases"


def test_a_name_in_place_of_phrases_says_how_to_choose_them() -> None:
    with pytest.raises(CondsimError, match=r"method\.phrases=llm on the command line"):
        get_class(composed("method=clay")._target_)(phrases="llm")


def test_a_benchmark_chooses_the_section_of_the_lexicon() -> None:
    assert composed("method=clay").phrases.section == "common"
    method = instantiate(composed("method=clay", benchmark="shapes"), _convert_="all")
    assert method.phrases.values("size")[:2] == ("small", "large")
