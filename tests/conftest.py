"""What every test shares: how tests are spread over processes, and that no test may leave the process changed."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from condsim.harness.process.deferred import defer, is_deferred

defer("wandb")  # open_clip's imports would import it in each process
settings.register_profile(
    # How long an example takes depends on the load, and a fixture of a function is shared by its examples.
    "tests",
    max_examples=25,  # each run draws others
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("tests")

FIRST = (
    "engine/test_ray.py", "results/test_embedded_leaderboard.py", "explorer/test_page.py",
    "report/test_page_in_browser.py", "engine/test_slurm.py", "commands/test_bench.py", "commands/test_finished.py",
    "tests/test_packaging.py", "docs/test_commands.py", "methods/test_scorer_contract.py", "protocol/test_stand_ins.py",
)  # fmt: skip
"""The files that take longest, first those that wait for other processes: nothing is left to run beside the last."""

SLOW_MARK = "pytest.mark.slow"
SLOW_MODULE = f"\npytestmark = {SLOW_MARK}\n"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m slow` or `-m "not slow"`, do not even import a module without such tests: imports take longer than
    tests."""
    if collection_path.suffix != ".py" or config.option.markexpr not in ("slow", "not slow"):
        return None
    text = collection_path.read_text(encoding="utf-8")
    return (SLOW_MODULE in text if config.option.markexpr == "not slow" else SLOW_MARK not in text) or None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores if slow tests are run, some of which wait for processes that they start."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + (config.option.markexpr != "not slow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return next((i for i, name in enumerate(FIRST) if item.path.as_posix().endswith(name)), len(FIRST))

    items.sort(key=place)
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker("no_cover")  # lines are counted in the quick tests only: counting takes half their time


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # nothing that is imported is garbage
    if hasattr(config, "workerinput") and getattr(config.option, "cov_source", None):
        for name in ("open_clip", "matplotlib.figure", "pandas"):
            import_module(name)  # once pytest-cov counts lines, imports take twice the time


def pytest_collection_finish() -> None:
    gc.freeze()  # no later collection looks through the modules and tests again, also not pytest's five at the end
    gc.enable()
    atexit.register(gc.unfreeze)  # or libraries report at the end that their objects were never freed


_OF_PYTEST = ("PYTEST_CURRENT_TEST", "COLUMNS", "LINES")
_OF_LIBRARIES = ("HF_", "KMP_", "TOKENIZERS_", "TORCHINDUCTOR_", "WANDB_SERVICE")
"""Beginnings of the variables that libraries set when a test is the first to import or to use them."""


def _process_state() -> dict[str, Any]:
    state: dict[str, Any] = {
        "working folder": os.getcwd(),
        "environment": {
            name: value for name, value in os.environ.items() if not name.startswith((*_OF_PYTEST, *_OF_LIBRARIES))
        },
        "sys.path": tuple(sys.path),
    }
    if "torch" in sys.modules and not is_deferred("torch"):
        torch = sys.modules["torch"]
        state["torch threads"] = torch.get_num_threads()
        state["torch deterministic algorithms"] = torch.are_deterministic_algorithms_enabled()
        state["torch default dtype"] = torch.get_default_dtype()
    return state


@pytest.fixture(autouse=True)
def unchanged_process() -> Iterator[None]:
    """Fails a test that leaves another working folder, environment, import path or thread count behind."""
    before = _process_state()
    yield
    after = _process_state()
    changed = {name: (value, after[name]) for name, value in before.items() if after[name] != value}
    assert not changed, f"the test left the process changed (before, after): {changed}"
