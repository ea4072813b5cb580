"""Command lines of composed commands: choices named by their place, sweeps, and messages for what does not exist."""

from pathlib import Path

import pytest

from condsim.harness.errors import CondsimError
from condsim.harness.settings.composition import compose_config, jobs

RERANK = "method=neighborhood_rerank"


def target(part: str, *arguments: str) -> str:
    config = compose_config("bench", arguments)
    for name in part.split("."):
        config = config[name]
    return str(config["_target_"]).rsplit(".", 1)[-1]


@pytest.mark.parametrize("base", ["method.base=clay", "method@method.base=clay"])
def test_a_part_is_chosen_by_its_place(base: str) -> None:
    assert target("method.base", RERANK, base) == "Clay"


@pytest.mark.parametrize("phrases", ["method.phrases=llm", "method/phrases=llm"])
def test_phrases_are_chosen_by_their_place(phrases: str) -> None:
    assert target("method.phrases", "method=clay", phrases) == "LLMPhrases"


def test_a_part_of_a_part_in_any_order() -> None:
    arguments = ["method.base.rank=7", "method.base.phrases=llm", RERANK, "method.base=clay"]
    assert target("method.base.phrases", *arguments) == "LLMPhrases"
    assert compose_config("bench", arguments).method.base.rank == 7


def test_a_sweep_makes_one_job_per_combination_in_the_order_of_the_command() -> None:
    swept = list(jobs("bench", ["-m", RERANK, "method.base=clay,image_only", "method.weight=0.25,0.75"]))
    made = [(job.config.method.base._target_.rsplit(".", 1)[-1], job.config.method.weight) for job in swept]
    assert made == [("Clay", 0.25), ("Clay", 0.75), ("ImageOnly", 0.25), ("ImageOnly", 0.75)]


def test_a_folder_beside_the_configs_with_the_name_of_a_setting_is_no_group(tmp_path: Path) -> None:
    for name in ("results", "top", "method"):
        (tmp_path / name).mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("_target_: mine.Mine\n")
    config = compose_config("bench", ["--config-dir", str(tmp_path), "results=other", "top=3", "method=mine"])
    assert (config.results, config.top, config.method._target_) == ("other", 3, "mine.Mine")


def test_an_experiment_sweeps_by_itself_and_a_setting_typed_replaces_its_values() -> None:
    swept = [job.config.method.rank for job in jobs("bench", ["experiment=rank_sweep"])]
    assert swept == [1, 2, 5, 10, 20, 50]
    assert [job.config.method.rank for job in jobs("bench", ["experiment=rank_sweep", "method.rank=3"])] == [3]


def test_ranges_are_swept() -> None:
    ranks = [job.config.method.rank for job in jobs("bench", ["-m", "method=clay", "method.rank=range(1,4)"])]
    assert ranks == [1, 2, 3]


def test_nothing_is_chosen_for_null() -> None:
    (job,) = jobs("train", ["recipe=null", "method=combiner"])
    assert job.config.method.hidden is None
    (job,) = jobs("train", ["method=combiner"])
    assert job.config.method.hidden == 256


def test_the_name_and_the_changed_settings_of_a_method() -> None:
    (job,) = jobs("bench", ["method=clay", "method.rank=3", "method.phrases=llm", "method.phrases.count=9"])
    assert job.method_name == "clay"
    assert job.changed_settings == {"phrases": "llm", "rank": 3, "phrases.count": 9}
    (job,) = jobs("bench", ["method=clay", "benchmark=labelled", "method.rank=50", "backbone=ViT-B-32/openai"])
    assert job.changed_settings == {}
    (job,) = jobs("bench", [RERANK, "method.base=clay", "method.base.rank=7"])
    assert job.changed_settings == {"base": "clay", "base.rank": 7}
    (job,) = jobs("bench", ["method=custom", "method._target_=condsim.methods.clay.Clay", "+method.rank=2"])
    assert (job.method_name, job.changed_settings) == ("Clay", {"rank": 2})
    swept = list(jobs("bench", ["experiment=rank_sweep"]))
    assert [job.changed_settings for job in swept] == [{"rank": r} for r in (1, 2, 5, 10, 20)] + [{}]


def test_a_recipe_is_no_change() -> None:
    (job,) = jobs("train", ["method=combiner"])
    assert job.changed_settings == {}
    assert job.replaced({"method.checkpoint": "x"}).changed_settings == {"checkpoint": "x"}


def test_a_choice_in_the_current_folder_says_how_to_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark/toypairs.yaml").write_text("_target_: pairs.load\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CondsimError, match=r"benchmark/toypairs\.yaml in the current folder .* --config-dir \."):
        list(jobs("bench", ["benchmark=toypairs"]))
    (job,) = jobs("bench", ["--config-dir", ".", "benchmark=toypairs"])
    assert job.config.benchmark._target_ == "pairs.load"


def test_a_sweep_composes_each_choice_once() -> None:
    (usual,) = jobs("bench", ["method=clay"])
    composed = usual.composer.compose.cache_info().misses
    swept = list(jobs("bench", ["-m", "method=clay", f"method.rank={','.join(map(str, range(41, 56)))}"]))
    assert [job.changed_settings.get("rank", 50) for job in swept] == list(range(41, 56))
    assert swept[0].composer.compose.cache_info().misses == composed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([RERANK, "method.base=klay"], "no method 'klay'. Did you mean 'clay'"),
        (["backbone=RN50x16/openai"], "backbone=open_clip backbone.model=RN50x16 backbone.pretrained=openai"),
        (["method=clay", "method.phrases=lm"], "no method/phrases 'lm'. Did you mean 'llm'"),
        (["method.base=clay"], "method has no setting 'base'"),
        (["method=null"], "no method 'null'. Choose one of: "),
        (
            ["method=custom", "method._target_=condsim.methods.clay.Clay", "method.rank=3"],
            "+ before it, +method.rank=3",
        ),
        (["method=clay", "rank=2"], "there is no setting 'rank'. Did you mean 'method.rank'"),
        (["method.weight"], "cannot read"),
        (["method=clay,image_only"], "add -m to run each of them"),
        (["-m", "method=clay", "method.rank=interval(1,4)"], "list the values"),
        (["--mutlirun"], "Did you mean '--multirun'"),
        (["--config-dir"], "--config-dir"),
        (["--cfg", "hydra"], "invalid choice: 'hydra'"),
    ],
)
def test_what_does_not_exist_is_named_with_the_nearest(arguments: list[str], message: str) -> None:
    with pytest.raises(CondsimError) as refused:
        list(jobs("bench", arguments))
    assert message in str(refused.value)
