import math
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from condsim.harness.errors import CondsimError
from condsim.harness.task import ImageTable
from condsim.harness.triplets import Triplets
from condsim.methods.training.data import Batches, Frozen, Joined, hold_out
from condsim.methods.training.loop import Recipe, fit
from running import start_python

pytestmark = pytest.mark.slow

SCRIPT = """
import itertools, os, signal, sys
from pathlib import Path
import numpy as np, torch
from condsim.harness.files.state_dict import write_state_dict
from condsim.methods.query_adaptive import QueryAdaptive
from condsim.methods.training.method import Batch, TrainingData
from condsim.methods.training.loop import Recipe, fit
from condsim.methods.training.data import Batches

folder = Path(sys.argv[1])
torch.set_num_threads(1)
torch.manual_seed(0)
images, texts = torch.randn(60, 8), torch.randn(60, 8)
method = QueryAdaptive(rank=2, steps=1, hidden=8, heads=1, feedforward=8, depth=1, noise=0.5, semi_positives=1)
network = method.new_network(8)
objective = method.objective(TrainingData(images))

steps_of_this_process = itertools.count(1)

def loss(which):
    if next(steps_of_this_process) == DIES:
        os.kill(os.getpid(), signal.SIGKILL)
    rows = torch.from_numpy(which)
    return objective(network, Batch(images[rows], texts[rows], images[rows.flip(0)], rows.flip(0)))

recipe = Recipe(steps=40, batch_size=12, learning_rate=1e-2, clip=1.0, warmup=5, validate_every=20, patience=0,
                checkpoint_every=3, seed=3)
fitted = fit(network, loss, Batches([40, 20], [2, 1], 12, 3), recipe, folder / "running",
             validate=lambda: float(-objective(network, Batch(images, texts, images, torch.arange(60)))))
write_state_dict(folder / "end.safetensors", fitted.state, {"step": fitted.step, "history": fitted.history})
"""


def train(folder: Path, dies: int | None = None) -> int | None:
    """The exit status of a training in its own process, which dies in the step ``dies`` that it makes."""
    process = start_python(SCRIPT.replace("DIES", str(dies)), folder, str(folder))
    process.join()
    return process.exitcode


def test_a_training_that_is_killed_twice_ends_in_the_same_bytes(tmp_path: Path) -> None:
    killed, alone = tmp_path / "killed", tmp_path / "alone"
    killed.mkdir()
    alone.mkdir()
    assert train(alone) == 0
    for dies in (5, 11):
        assert train(killed, dies) == -signal.SIGKILL
        assert (killed / "running").exists()
        assert not (killed / "end.safetensors").exists()
    assert train(killed) == 0
    assert (killed / "end.safetensors").read_bytes() == (alone / "end.safetensors").read_bytes()


def recipe(**settings: Any) -> Recipe:
    return Recipe(**{"steps": 20, "batch_size": 4, "learning_rate": 0.1, "validate_every": 1, **settings})


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(2, 1)


def square(model: nn.Module) -> Callable[[NDArray[np.int64]], Tensor]:
    return lambda which: (model(torch.ones(len(which), 2)) - 3).square().mean()


def test_without_validation_the_last_weights_are_kept(tmp_path: Path) -> None:
    model = linear()
    fitted = fit(model, square(model), Batches([9], [1], 4, 0), recipe(), tmp_path / "state")
    assert fitted.step == 20
    torch.testing.assert_close(fitted.state["weight"], model.weight.detach())
    assert fitted.validation is None
    assert [row["step"] for row in fitted.history] == list(range(1, 21))
    assert fitted.history[-1]["loss"] < 0.2 * fitted.history[0]["loss"]


def test_it_stops_when_validation_gets_no_better_and_keeps_the_best_weights(tmp_path: Path) -> None:
    model = linear()
    values = iter([0.1, 0.3, 0.2, 0.3, 0.25, 0.9])
    seen = []

    def validate() -> float:
        seen.append(model.weight.detach().clone())
        assert not model.training
        return next(values)

    rows: list[Mapping[str, float]] = []
    fitted = fit(
        model, square(model), Batches([9], [1], 4, 0), recipe(patience=3), tmp_path / "state", validate, rows.append
    )
    assert len(fitted.history) == 5
    assert fitted.history == rows
    assert (fitted.step, fitted.validation) == (2, 0.3)
    torch.testing.assert_close(fitted.state["weight"], seen[1])


def test_a_finished_training_that_starts_again_runs_no_step(tmp_path: Path) -> None:
    model = linear()
    first = fit(model, square(model), Batches([9], [1], 4, 0), recipe(), tmp_path / "state")
    again = fit(
        linear(), lambda which: pytest.fail("a step was run"), Batches([9], [1], 4, 0), recipe(), tmp_path / "state"
    )
    torch.testing.assert_close(first.state["weight"], again.state["weight"])


def test_a_damaged_state_is_reported_and_training_starts_again(tmp_path: Path) -> None:
    state = tmp_path / "state"
    settings = recipe(checkpoint_every=5)
    whole = fit(model := linear(), square(model), Batches([9], [1], 4, 0), settings, state)
    saved = state.read_bytes()
    for place in range(0, len(saved), 997):
        lines: list[str] = []
        state.write_bytes(saved[:place] + bytes([saved[place] ^ 1 << place % 8]) + saved[place + 1 :])
        again = fit(model := linear(), square(model), Batches([9], [1], 4, 0), settings, state, report=lines.append)
        torch.testing.assert_close(again.state["weight"], whole.state["weight"], rtol=0, atol=0)
        assert again.history == whole.history
        assert all(str(state) in line and "starts again" in line for line in lines)
    state.write_bytes(b"no state")
    fit(model := linear(), square(model), Batches([9], [1], 4, 0), settings, state, report=lines.append)
    assert "starts again from its first step" in lines[-1]


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    model = linear()
    with pytest.raises(CondsimError, match="loss is nan after step 1"):
        fit(model, lambda which: model.weight.sum() * math.nan, Batches([9], [1], 4, 0), recipe(), tmp_path / "other")


def test_the_rate_climbs_and_then_falls_as_a_cosine() -> None:
    rates = [recipe(steps=100, warmup=10, learning_rate=2.0).rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert int(np.argmax(rates)) == 9
    assert rates[50] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(1 + math.cos(math.pi * 0.99), abs=1e-6)
    assert (np.diff(rates[10:]) < 0).all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"steps": 0}, "steps"), ({"learning_rate": 0}, "learning_rate"), ({"optimizer": "adma"}, "Did you mean 'adam'")],
)
def test_recipes_that_mean_nothing_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(CondsimError, match=message):
        recipe(**setting)


def test_batches_take_each_triplet_once_an_epoch_and_keep_the_shares() -> None:
    batches = Batches([10, 6], [3, 1], 8, seed=1)
    drawn = np.stack([batches(step) for step in range(30)])
    assert (drawn < 10).sum(axis=1).tolist() == [6] * 30
    first = drawn[drawn < 10].reshape(-1, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in first.tolist())
    second = drawn[drawn >= 10].reshape(-1, 6)
    assert all(sorted(epoch) == list(range(10, 16)) for epoch in second.tolist())
    assert len({tuple(epoch) for epoch in first.tolist()}) > 1
    np.testing.assert_array_equal(Batches([10, 6], [3, 1], 8, seed=1)(17), drawn[17])  # by its number alone
    assert (Batches([10, 6], [3, 1], 8, seed=2)(17) != drawn[17]).any()


@pytest.mark.parametrize(("shares", "counts"), [([1, 1, 1], {2, 3}), ([1, 0.01], {7, 1, 8, 0})])
def test_shares_that_do_not_divide_the_batch_fill_it_all_the_same(shares: list[float], counts: set[int]) -> None:
    batches = Batches([50] * len(shares), shares, 8, seed=0)
    assert sum(batches.counts) == 8
    assert set(batches.counts) <= counts
    assert len(batches(3)) == 8


def triplets(name: str = "some", n: int = 200, images: int = 60, seed: int = 0, **changed: Any) -> Triplets:
    rng = np.random.default_rng(seed)
    table = ImageTable(Path("nowhere"), tuple(f"{name}-{i}.png" for i in range(images)))
    columns = {
        "reference": rng.integers(images, size=n),
        "text": rng.integers(7, size=n),
        "target": rng.integers(images, size=n),
    }
    return Triplets(name, table, tuple(f"{name} text {i}" for i in range(7)), **{**columns, **changed})


def test_several_sources_are_numbered_one_after_another() -> None:
    one, two = triplets("one"), triplets("two", n=50, seed=1, text=np.full(50, -1))
    data = Joined.of([one, two])
    features = Frozen(torch.arange(120.0)[:, None] + 1, torch.arange(14.0)[:, None] + 1000)
    batch = features.batch(data, np.array([3, 200 + 4]))
    assert batch.reference[:, 0].tolist() == [one.reference[3] + 1, two.reference[4] + 61]
    assert batch.target[:, 0].tolist() == [one.target[3] + 1, two.target[4] + 61]
    assert batch.text[:, 0].tolist() == [one.text[3] + 1000, 0]  # no text: zeros
    assert batch.target_row.tolist() == [one.target[3], two.target[4] + 60]


def test_held_out_images_are_never_trained_on() -> None:
    source = triplets()
    left, task = hold_out(source, share=0.2, most=1000, seed=0, metric="mrr")
    held = set(task.gallery_rows.tolist())
    assert len(held) == 12
    assert not held & set(left.target.tolist())
    assert not held & set(left.reference.tolist())
    assert len(task) == np.isin(source.target, list(held)).sum()
    assert sorted(task.relevant.values.tolist()) == sorted(row for row in source.target.tolist() if row in held)
    for i in range(len(task)):
        assert set(task.excluded[i]) <= {task.reference[i]}
        assert task.relevant[i][0] not in task.excluded[i]
    again = hold_out(source, share=0.2, most=1000, seed=0, metric="mrr")[1]
    assert again.fingerprint == task.fingerprint
    assert hold_out(source, share=0.2, most=1000, seed=1, metric="mrr")[1].fingerprint != task.fingerprint
    with pytest.raises(CondsimError, match="too few"):
        hold_out(triplets(n=3, images=2), share=0.5, most=10, seed=0, metric="mrr")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"target": np.array([0, 60])}, "target must be in"),
        ({"reference": np.array([0, -2])}, "reference must be in"),
        ({"reference": np.array([0, -1]), "text": np.array([0, -1])}, "neither reference nor text"),
        ({"share": 0.0}, "share must be above 0"),
        ({"text": np.array([0])}, "text must be int64"),
    ],
)
def test_triplets_that_contradict_themselves_are_refused(changed: Any, message: str) -> None:
    with pytest.raises(CondsimError, match=message):
        triplets(n=2, **changed)


def test_no_triplets_and_no_sources_are_refused() -> None:
    with pytest.raises(CondsimError, match="the source has no triplets"):
        triplets(n=0)
    with pytest.raises(CondsimError, match="no source of triplets"):
        Joined.of([])
