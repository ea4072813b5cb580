"""``method.weight=val`` on the command line: its candidates, and what cannot be chosen."""

from __future__ import annotations

from typing import Any

import pytest

from condsim.harness.configs import plain
from condsim.harness.errors import CondsimError
from condsim.harness.run.choice import Choice
from condsim.harness.run.record import flat
from condsim.harness.settings.candidates import candidates_of, choice_of, other_benchmark
from condsim.harness.settings.composition import Job, jobs

pytestmark = pytest.mark.slow


def job(*arguments: str) -> Job:
    (only,) = jobs("bench", arguments)
    return only


def choice(job: Job) -> Choice | None:
    return choice_of(candidates_of(job), plain(job.config))


def values(job: Job, name: str) -> list[Any]:
    return [flat(plain(candidate.config.method))[name] for candidate in job.candidates]


def test_the_candidates_of_the_yaml_and_of_the_command_line() -> None:
    assert values(job("method=slerp", "method.weight=val"), "weight") == [x / 10 for x in range(11)]
    chosen = job("method=slerp", "method.weight=val", "choose.weight=[0.2,0.4]")
    assert values(chosen, "weight") == [0.2, 0.4]
    assert chosen.open_settings == ("method.weight",)
    assert values(job("method=clay", "method.seed=val", "choose.seed=[3,4]"), "seed") == [3, 4]


def test_export_chooses_from_the_candidates_of_bench() -> None:
    settings = ("method=slerp", "method.weight=val", "benchmark.cache_dir=somewhere")
    (exported,) = jobs("export", settings)
    assert candidates_of(exported) == candidates_of(job(*settings))
    for part in ("choose", "validation"):
        assert plain(exported.config[part]) == plain(job(*settings).config[part])


def test_several_settings_and_those_of_a_base() -> None:
    both = job("method=local_steering", "method.theta=val", "method.base.weight=val", "choose.theta=[0.1,0.3]")
    assert len(both.candidates) == 22
    assert values(both, "base.weight")[:3] == [0.0, 0.1, 0.2]
    assert values(both, "theta")[::11] == [0.1, 0.3]


def test_it_is_shown_as_val_and_other_settings_stay() -> None:
    chosen = job("method=clay", "method.rank=val", "method.rotation=false", "choose.rank=[2,5]")
    shown = chosen.replaced(dict.fromkeys(chosen.open_settings, "val")).changed_settings
    assert shown == {"rank": "val", "rotation": False}
    assert values(chosen, "rotation") == [False, False]


def test_text_settings_take_val_as_a_text() -> None:
    chosen = job("method=clay", "method.template=val")
    assert chosen.candidates == ()
    assert chosen.config.method.template == "val"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method=clay", "method.seed=val"], r"method\.seed=val needs candidates: list them, as in choose\.seed="),
        (["method=slerp", "method.weight=val", "choose.weight=[]"], "needs candidates"),
        (["method=slerp", "method.weight=val", "choose.weight=[2]"], r"must be in \[0, 1\], not 2|weight=2 should be"),
        (["method=slerp", "method.wieght=val"], "weight"),
        (["method=clay", "method.rank=val", "choose.rank=[2.5]"], r"method\.rank=2\.5 should be a whole number"),
    ],
)
def test_what_cannot_be_chosen_is_said(arguments: list[str], message: str) -> None:
    with pytest.raises(CondsimError, match=message):
        choice(job(*arguments))


def test_a_benchmark_without_another_split_needs_a_name_of_other_data() -> None:
    with pytest.raises(CondsimError, match=r"has no splits\. Name .*\+benchmark@validation\.benchmark=cirr"):
        choice(job("method=slerp", "method.weight=val", "benchmark=genecis"))
    with pytest.raises(CondsimError, match=r"is split=val itself\. Name another split, as in validation\.split=train"):
        choice(job("method=slerp", "method.weight=val", "benchmark=cirr"))


@pytest.mark.parametrize(("choice", "loader"), [("shapes", "shapes.benchmark.load"), ("cirr", "cirr.load"), (None, "")])
def test_another_benchmark_is_found_also_where_its_yaml_has_settings_for_methods(
    choice: str | None, loader: str
) -> None:
    named = [f"+benchmark@validation.benchmark={choice}"] if choice else []
    for command, method in (("bench", "slerp"), ("train", "pic2word")):
        (only,) = jobs(command, [f"method={method}", *named])
        found = other_benchmark(plain(only.config.validation))
        assert (found or {}).get("_target_", "").removeprefix("condsim.datasets.") == loader
