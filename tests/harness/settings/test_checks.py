"""Settings are checked when a command starts: by type and range, with the full name, before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from omegaconf import OmegaConf

from condsim.harness.errors import CondsimError
from condsim.harness.settings.checks import OWN
from condsim.harness.settings.composition import compose_config, jobs
from condsim.harness.settings.config_files import choices_of, description
from condsim.harness.settings.kinds import MismatchError, Range, convert, describe
from condsim.harness.settings.signatures import parameters

pytestmark = pytest.mark.slow

CONF = Path(__file__).resolve().parents[3] / "conf"
LABELLED = "benchmark=labelled"


def value(name: str, *arguments: str, command: str = "bench") -> Any:
    """A setting as the command gets it."""
    node = OmegaConf.select(compose_config(command, arguments), name)
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) else node


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["top=ten"], "top=ten should be a whole number of at least 1"),
        (["top=0"], "top=0 should be a whole number of at least 1"),
        (["top=-1"], "top=-1 should be"),
        (["top=2.5"], "top=2.5 should be"),
        (["statistics.resamples=0"], "statistics.resamples=0 should be a whole number of at least 100"),
        (["statistics.resamples=1"], "statistics.resamples=1 should be"),
        (["statistics.seed=-1"], "statistics.seed=-1 should be a whole number of at least 0"),
        (["statistics.seed=0.5"], "statistics.seed=0.5 should be"),
        (["force=maybe"], "force=maybe should be true or false"),
        (["force=1"], "force=1 should be true or false"),
        (["tasks=[]"], "tasks=[] should be a list with at least one entry"),
        (["results="], "results= should be a path"),
        (["results=null"], "results=null should be a path"),
        (["method=clay", "method.rank=abc"], "method.rank=abc should be a whole number"),
        (["method=clay", "method.rank=2.5"], "method.rank=2.5 should be a whole number"),
        (["method=clay", "method.rank=true"], "method.rank=true should be a whole number"),
        (["method=clay", "method.rank=[1]"], "method.rank=[1] should be a whole number"),
        (["method=clay", "method.prompts=few"], "method.prompts=few should be a whole number or null"),
        (["method=clay", "method.rotation=3"], "method.rotation=3 should be true or false"),
        (["method.weight=heavy"], "method.weight=heavy should be a number"),
        (["method.weight=nan"], "method.weight=nan should be a number"),
        (["method.weight=inf"], "method.weight=inf should be a number"),
        (["method.weight={a: (}"], "method.weight={a: (} should be a number"),
        (["method=local_steering", "method.base=clay", "method.base.rank=x"], "method.base.rank=x should be"),
        (["backbone.batch_size=x"], "backbone.batch_size=x should be a whole number or auto"),
        (["backbone.quick_gelu=3"], "backbone.quick_gelu=3 should be true or false"),
        ([LABELLED, "benchmark.queries=half"], "benchmark.queries=half should be a number"),
        ([LABELLED, "benchmark.seed=x"], "benchmark.seed=x should be a whole number"),
        ([LABELLED, "benchmark.on_error=stop"], "benchmark.on_error=stop should be raise or skip"),
        (["benchmark=mit_states", "benchmark.recall_at=x"], "recall_at=x should be a list of whole numbers"),
        (["benchmark=mit_states", "benchmark.text=noun"], "benchmark.text=noun should be adjective or adjective noun"),
        (["-m", "method=clay", "method.rank=2,abc"], "method.rank=abc should be a whole number"),
        (["method.weight=0.1,0.2"], "add -m to run once per value"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(CondsimError) as refused:
        list(jobs("bench", arguments))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("command", "argument", "message"),
    [
        ("train", "training.steps=0", "training.steps=0 should be a whole number of at least 1"),
        ("train", "training.learning_rate=0", "training.learning_rate=0 should be a number above 0"),
        ("train", "training.optimizer=sgd", "training.optimizer=sgd should be adamw or adam"),
        ("train", "validation.share=1.5", "validation.share=1.5 should be a number from 0 to 1"),
        ("check", "workers=0", "workers=0 should be a whole number of at least 1"),
        ("check", "decode=often", "decode=often should be true or false"),
        ("mine", "concreteness=6", "concreteness=6 should be a number from 0 to 5"),
        ("report", "report.budget_mb=-1", "report.budget_mb=-1 should be a number above 0"),
        ("report", "report.queries=some", "report.queries=some should be a whole number of at least 0"),
        ("templates", "objects.min_share=2", "objects.min_share=2 should be a number from 0 to 1"),
        ("train-backbone", "bfloat16=fast", "bfloat16=fast should be true or false or auto"),
        ("import", "task=cirr", "no value for name: add name=VALUE; `condsim import --help`"),
        ("import", "top=5", "no value for task and name: add task=VALUE name=VALUE"),
        ("train-backbone", "compile=perhaps", "compile=perhaps should be true or false or auto"),
    ],
)
def test_every_command_checks_its_own_settings(command: str, argument: str, message: str) -> None:
    with pytest.raises(CondsimError) as refused:
        list(jobs(command, [argument]))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("name", "argument", "expected"),
    [
        ("benchmark.table", "benchmark.table=~/photos.csv", "~/photos.csv"),
        ("benchmark.images", "benchmark.images=my photos (1)", "my photos (1)"),
        ("benchmark.images", 'benchmark.images="my photos (1)"', "my photos (1)"),
        ("benchmark.images", "benchmark.images=[a] {b} #1 it's!", "[a] {b} #1 it's!"),
        ("benchmark.images", "benchmark.images=[2024]", "[2024]"),
        ("benchmark.images", "benchmark.images={a: 1}", "{a: 1}"),
        ("benchmark.images", "benchmark.images=größe/写真", "größe/写真"),
        ("benchmark.images", "benchmark.images=a=b", "a=b"),
        ("benchmark.images", "benchmark.images=a, b", "a, b"),
        ("benchmark.images", "benchmark.images=2017", "2017"),
        ("benchmark.images", "benchmark.images=2024_05", "2024_05"),
        ("benchmark.images", "benchmark.images=1e3", "1e3"),
        ("benchmark.images", "benchmark.images=true", "true"),
        ("benchmark.images", "benchmark.images=null", None),
        ("benchmark.images", "benchmark.images=12:30", "12:30"),
        ("results", "results=2024", "2024"),
        ("results", "results=1_1", "1_1"),
        ("results", "results=it's", "it's"),
        ("tasks", "tasks=color", ["color"]),
        ("tasks", "tasks=[color]", ["color"]),
        ("tasks", "tasks=[color,shape]", ["color", "shape"]),
        ("tasks", "tasks=[größe,写真]", ["größe", "写真"]),
        ("tasks", "tasks=2017", ["2017"]),
        ("benchmark.tasks", "tasks=color", ["color"]),
        ("benchmark.conditions", "benchmark.conditions=color", ["color"]),
        ("benchmark.conditions", "benchmark.conditions=[2017,2024_05]", ["2017", "2024_05"]),
        ("benchmark.conditions", "benchmark.conditions={color: the color}", {"color": "the color"}),
        ("benchmark.metrics", "benchmark.metrics=map", ["map"]),
        ("benchmark.together", "benchmark.together=[[color,shape]]", [["color", "shape"]]),
        ("benchmark.dataset.path", "benchmark.dataset.path=imagefolder", "imagefolder"),
        ("benchmark.queries", "benchmark.queries=1", 1),
    ],
)
def test_text_paths_and_lists_are_taken_as_typed(name: str, argument: str, expected: object) -> None:
    got = value(name, LABELLED, argument)
    assert got == expected
    assert type(got) is type(expected)


def test_a_number_is_a_list_of_one_number() -> None:
    assert value("benchmark.recall_at", "benchmark=mit_states", "benchmark.recall_at=5") == [5]


def test_a_home_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert value("results", "results=~/runs") == f"{tmp_path}/runs"


def test_a_path_that_exists_wins_over_what_hydra_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ('"quoted"', "a,b", "null"):
        (tmp_path / name).mkdir()
        assert value("benchmark.images", LABELLED, f"benchmark.images={name}") == name


def test_paths_are_swept_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    swept = jobs("bench", ["-m", LABELLED, "benchmark.images=2024_05,~/b c"])
    assert [job.config.benchmark.images for job in swept] == ["2024_05", "~/b c"]


@pytest.mark.parametrize("folder", ["cfg (1)", "cfg, x", "[cfg]", "c=d", "größe's", "a b"])
def test_a_config_folder_may_have_any_name(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder / "method").mkdir(parents=True)
    (tmp_path / folder / "method/mine.yaml").write_text("_target_: condsim.methods.inner_product.ImageOnly\n")
    (job,) = jobs("bench", ["--config-dir", str(tmp_path / folder), "method=mine"])
    assert job.method_name == "mine"


def test_an_unreadable_value_of_unknown_type_shows_the_line_to_type() -> None:
    with pytest.raises(CondsimError) as refused:
        list(jobs("bench", ["method=custom", "method._target_=nowhere.Method", "+method.text=it's (a)"]))
    assert """type '+method.text="it'"'"'s (a)"'""" in str(refused.value)
    assert value("method.text", "method=custom", "method._target_=nowhere.M", '+method.text="it\'s (a)"') == "it's (a)"


def test_a_users_class_is_checked_by_its_annotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_for_settings.py").write_text(
        "import torch_is_not_imported_for_this\n"
        "from typing import Literal\n"
        "Mode = Literal['one', 'two']\n"
        "class Base:\n    def __init__(self, size: int = 3, mode: Mode = 'one', other: 'Unknown' = None): ...\n"
        "class Mine(Base): ...\n"
    )
    mine = ["method=custom", "method._target_=mine_for_settings.Mine"]
    with pytest.raises(CondsimError, match=r"method.size=big should be a whole number"):
        list(jobs("bench", [*mine, "+method.size=big"]))
    with pytest.raises(CondsimError, match=r"method.mode=three should be one or two"):
        list(jobs("bench", [*mine, "+method.mode=three"]))
    assert value("method.other", *mine, "+method.other=[1,2]") == [1, 2]


def test_a_class_without_annotations_is_checked_by_its_yaml(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method/mine.yaml").write_text("_target_: nowhere_to_be_found.Mine\nsize: 3\n")
    mine = ["--config-dir", str(tmp_path), "method=mine"]
    with pytest.raises(CondsimError, match=r"method.size=big should be a number or null"):
        list(jobs("bench", [*mine, "method.size=big"]))
    assert value("method.size", *mine, "method.size=2.5") == 2.5


def test_a_value_in_a_users_yaml_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method/mine.yaml").write_text("defaults: [clay, _self_]\nrank: many\n")
    with pytest.raises(CondsimError, match=r"method.rank=many should be a whole number"):
        list(jobs("bench", ["--config-dir", str(tmp_path), "method=mine"]))


@pytest.mark.parametrize("command", sorted(OWN))
def test_every_setting_of_a_command_has_a_type(command: str) -> None:
    own = OmegaConf.load(CONF / f"{command}.yaml")
    defaults = OmegaConf.select(own, "defaults") or []
    shared = [OmegaConf.load(CONF / f"{name}.yaml") for name in defaults if str(name) == "_choice"]
    config = OmegaConf.to_container(OmegaConf.merge(own, *shared))
    assert isinstance(config, dict)
    names = set(flat({key: entry for key, entry in config.items() if key not in ("defaults", "triplets", "choose")}))
    assert names - {"validation.benchmark"} == set(OWN[command]) - {"choose"}


def flat(config: Mapping[Any, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, entry in config.items():
        names += flat(entry, f"{prefix}{key}.") if isinstance(entry, dict) else [f"{prefix}{key}"]
    return names


@pytest.mark.parametrize("group", ["method", "benchmark", "backbone", "tracking"])
def test_every_choice_fits_the_types_of_its_class(group: str) -> None:
    for choice, path in choices_of(group).items():
        assert description(path).split("\n")[0].endswith((".", "?")), "condsim ls shows the first line"
        (job,) = jobs("bench", [f"{group}={choice}"])
        target = OmegaConf.select(job.config, f"{group}._target_", throw_on_missing=False)
        assert choice == "custom" or parameters(target) is not None, target


def test_a_mistake_is_reported_before_anything_slow_is_imported(tmp_path: Path) -> None:
    mistakes = (
        ["method=clay", "method.rank=abc"], ["top=ten"], ["benchmark.nonsense=1"], ["backbone.batch_size=x"],
        ["method=x"],
    )  # fmt: skip
    code = (
        f"import sys\nfrom condsim.harness.cli import main\nfor arguments in {mistakes!r}:\n"
        "    status = main(['bench', *arguments])\n"
        "    slow = {'torch._C', 'torchvision', 'open_clip', 'scipy', 'pandas._libs'}\n"
        "    print(status, sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n" * len(mistakes), done.stderr


@pytest.mark.parametrize(
    ("given", "expected", "result"),
    [
        ("a", Sequence[str], ["a"]), (3, Sequence[int], [3]), ("a", Sequence[str] | str, "a"), (1, float, 1),
        (None, int | None, None), ("auto", int | Literal["auto"], "auto"),
        ({"a": 1}, Mapping[str, int] | None, {"a": 1}),
        ([["a"]], Sequence[Sequence[str] | str], [["a"]]), ([1.5], Sequence[float], [1.5]), (object, Any, object),
    ],
)  # fmt: skip
def test_what_fits_is_converted(given: Any, expected: Any, result: Any) -> None:
    assert convert(given, expected) == result


@pytest.mark.parametrize(
    ("given", "expected", "words"),
    [
        ("x", int, "a whole number"), (True, int, "a whole number"), (1, bool, "true or false"), (1, str, "text"),
        (float("inf"), float, "a number"), (2, Annotated[float, Range(0, 1)], "a number from 0 to 1"),
        ("b", Literal["a", "c"] | None, "a or c or null"),
        (3, Mapping[str, str] | None, "names with values, such as {a: b} or null"),
        (["x"], Sequence[int], "a list of whole numbers, such as [1,2]"), (None, Path, "a path"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_words(given: Any, expected: Any, words: str) -> None:
    with pytest.raises(MismatchError, match=f"^{''.join(chr(92) + c if c in '[]{}' else c for c in words)}$"):
        convert(given, expected)
    assert describe(expected) == words
