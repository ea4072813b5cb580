"""Hydra command lines: choices named by their place, and what is said of those that name nothing."""

import pytest

from condsim.harness.commands.overrides import checked_arguments, compose_config
from condsim.harness.errors import CondsimError

RERANK = "method=neighborhood_rerank"


def target(part: str, *arguments: str) -> str:
    config = compose_config("bench", checked_arguments("bench", arguments))
    for name in part.split("."):
        config = config[name]
    return config["_target_"].rsplit(".", 1)[-1]


@pytest.mark.parametrize("base", ["method.base=clay", "base=clay", "method@method.base=clay"])
def test_a_part_is_chosen_by_its_place(base: str) -> None:
    assert target("method.base", RERANK, base) == "Clay"


@pytest.mark.parametrize("phrases", ["method.phrases=llm", "phrases=llm", "method/phrases=llm"])
def test_phrases_are_chosen_by_their_place(phrases: str) -> None:
    assert target("method.phrases", "method=clay", phrases) == "LLMPhrases"


def test_a_part_of_a_part_in_any_order() -> None:
    arguments = ["method.base.rank=7", "method.base.phrases=llm", RERANK, "method.base=clay"]
    assert target("method.base.phrases", *arguments) == "LLMPhrases"
    assert compose_config("bench", checked_arguments("bench", arguments)).method.base.rank == 7


def test_parts_are_swept_by_their_place() -> None:
    written = checked_arguments("bench", ["-m", RERANK, "method.base=clay,image_only"])
    assert "method@method.base=clay,image_only" in written


def test_nothing_is_chosen_where_nothing_need_be() -> None:
    assert "~recipe" in checked_arguments("train", ["recipe=null"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([RERANK, "method.base=klay"], "no method 'klay'. Did you mean 'clay'"),
        (["method=clay", "phrases=lm"], "no method/phrases 'lm'. Did you mean 'llm'"),
        (["method.base=clay"], "method has no setting 'base'"),
        (["method=null"], "no method 'null'. Choose one of: clay, combiner"),
        (["method=phrases/llm", "rank=2"], "there is no setting 'rank'"),
        (["method.weight"], "cannot read"),
    ],
)
def test_what_names_nothing_is_told(arguments: list[str], told: str) -> None:
    with pytest.raises(CondsimError) as refused:
        checked_arguments("bench", arguments)
    assert told in str(refused.value)
