from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from builders import make_task
from condsim.harness.errors import CondsimError, NotApplicable
from condsim.methods.combiner import Combiner
from condsim.methods.shared.combiner_network import CombinerNetwork
from condsim.methods.training.losses import in_batch_loss
from condsim.methods.training.method import Batch, TrainingData
from encoders import Space

WIDTH, PROJECTION, HIDDEN = 24, 10, 14


@pytest.fixture
def network() -> CombinerNetwork:
    torch.manual_seed(0)
    return CombinerNetwork(WIDTH, PROJECTION, HIDDEN).eval()


def by_hand(state: dict[str, Tensor], reference_features: Tensor, text_features: Tensor) -> NDArray[np.float64]:
    """The published equations in numpy."""
    w = {name: tensor.numpy().astype(np.float64) for name, tensor in state.items()}

    def linear(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    reference, text = (part.numpy().astype(np.float64) for part in (reference_features, text_features))
    text_part = np.maximum(linear("text_projection_layer", text), 0)
    image_part = np.maximum(linear("image_projection_layer", reference), 0)
    both = np.concatenate([text_part, image_part], axis=1)
    scalar = 1 / (1 + np.exp(-linear("dynamic_scalar.3", np.maximum(linear("dynamic_scalar.0", both), 0))))
    out = (
        linear("output_layer", np.maximum(linear("combiner_layer", both), 0)) + scalar * text + (1 - scalar) * reference
    )
    return out / np.linalg.norm(out, axis=1, keepdims=True)


WRAPPINGS = {
    "bare": lambda state: state,
    "GeneCIS": lambda state: {"Combiner": state, "epoch": 3},
    "lower case": lambda state: {"combiner": state},
    "DataParallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "DataParallel, wrapped": lambda state: {"Combiner": {f"module.{name}": t for name, t in state.items()}, "epoch": 1},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_released_checkpoint_loads_in_every_wrapping_and_scores_as_the_equations_say(
    tmp_path: Path, space: Space, network: nn.Module, wrapping: str
) -> None:
    path = tmp_path / "combiner.pt"
    torch.save(WRAPPINGS[wrapping](network.state_dict()), path)
    gallery = space.gallery()
    queries = space.queries(gallery, [3, 8, 8], [0, 1, 2])
    scores = Combiner(str(path)).prepare(gallery)(queries)
    items = gallery.features / gallery.features.norm(dim=1, keepdim=True)
    expected = by_hand(network.state_dict(), queries.reference, queries.text) @ items.numpy().astype(np.float64).T
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-6)


def test_safetensors_and_half_precision_weights_load_too(tmp_path: Path, network: nn.Module) -> None:
    save_file({name: tensor.half() for name, tensor in network.state_dict().items()}, tmp_path / "combiner.safetensors")
    loaded = Combiner(str(tmp_path / "combiner.safetensors")).trained_network(WIDTH)
    reference, text = torch.randn(5, WIDTH), torch.randn(5, WIDTH)
    torch.testing.assert_close(loaded.eval()(reference, text), network(reference, text), atol=5e-3, rtol=0)


def test_published_sizes_are_those_of_the_released_heads() -> None:
    network = Combiner().new_network(width=64)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes["text_projection_layer.weight"] == (2560, 64)
    assert shapes["combiner_layer.weight"] == (5120, 5120)
    assert shapes["output_layer.weight"] == (64, 5120)
    assert shapes["dynamic_scalar.3.weight"] == (1, 5120)


class Executed:
    """Unpickling this would run code."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("the checkpoint was executed",))


def broken(state: dict[str, Tensor], how: str) -> Any:
    state = dict(state)
    match how:
        case "nothing there":
            return None
        case "code":
            return {"Combiner": Executed()}
        case "a name is missing":
            del state["output_layer.bias"]
        case "another network":
            state["more.weight"] = torch.zeros(2, 2)
        case "sizes contradict":
            state["output_layer.weight"] = torch.zeros(WIDTH, HIDDEN + 1)
        case "no matrix":
            state["output_layer.weight"] = torch.zeros(WIDTH)
        case "no tensors":
            return {"Combiner": {"epoch": 3}}
        case "a list":
            return [1, 2]
    return state


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nothing there", "does not exist"),
        ("code", "Only tensors are loaded"),
        ("a name is missing", "missing output_layer"),
        ("another network", "unexpected more"),
        ("sizes contradict", "contradict each other"),
        ("no matrix", "expected 2 dimensions"),
        ("no tensors", "no weights at all, only 'epoch'"),
        ("a list", "holds a list"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_name(tmp_path: Path, network: nn.Module, how: str, message: str) -> None:
    path = tmp_path / "combiner.pt"
    content = broken(network.state_dict(), how)
    if content is not None:
        torch.save(content, path)
    with pytest.raises(CondsimError, match=message) as error:
        Combiner(str(path)).trained_network(WIDTH)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["combiner.pt", "combiner.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x80\x04."])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CondsimError, match=name):
        Combiner(str(tmp_path / name)).trained_network(WIDTH)


def test_settings_and_backbone_that_contradict_the_checkpoint_are_refused(tmp_path: Path, network: nn.Module) -> None:
    path = str(tmp_path / "combiner.pt")
    torch.save(network.state_dict(), path)
    assert Combiner(path, hidden=HIDDEN).trained_network(WIDTH) is not None
    with pytest.raises(CondsimError, match=r"method\.hidden=5120.*has hidden=14"):
        Combiner(path, hidden=5120).trained_network(WIDTH)
    with pytest.raises(CondsimError, match=r"features of width 24.*width 512"):
        Combiner(path).trained_network(512)
    with pytest.raises(CondsimError, match="has no weights"):
        Combiner().trained_network(WIDTH)


def test_the_loss_is_the_published_one_and_an_image_sought_twice_is_no_negative_of_itself() -> None:
    torch.manual_seed(0)
    scores = torch.rand(4, 4) * 2 - 1
    rows = torch.tensor([5, 6, 7, 8])
    expected = -np.mean([scores[i, i] / 0.1 - torch.logsumexp(scores[i] / 0.1, 0) for i in range(4)])
    assert float(in_batch_loss(scores, rows, 0.1)) == pytest.approx(expected, rel=1e-5)
    rows = torch.tensor([5, 6, 5, 8])  # columns 0 and 2 are one image
    kept = {0: [0, 1, 3], 1: [0, 1, 2, 3], 2: [1, 2, 3], 3: [0, 1, 2, 3]}
    expected = -np.mean([scores[i, i] / 0.1 - torch.logsumexp(scores[i, kept[i]] / 0.1, 0) for i in range(4)])
    assert float(in_batch_loss(scores, rows, 0.1)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_its_objective_pulls_the_composed_query_to_the_target(space: Space) -> None:
    method = Combiner(projection=32, hidden=32, dropout=0.0, temperature=0.1)
    torch.manual_seed(0)
    network = method.new_network(WIDTH)
    images, texts = space.encode_images(20), space.encode_texts([f"text {i}" for i in range(20)])
    rows = torch.randperm(20)
    batch = Batch(images, texts, images[rows], rows)
    objective = method.objective(TrainingData(images))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    first = float(objective(network, batch).detach())
    for _ in range(60):
        optimizer.zero_grad()
        objective(network, batch).backward()
        optimizer.step()
    assert float(objective(network, batch).detach()) < 0.2 * first


def test_it_needs_reference_and_condition() -> None:
    with pytest.raises(NotApplicable, match="reference image"):
        Combiner().check(make_task(("color",), reference=-1))
    with pytest.raises(NotApplicable, match="condition"):
        Combiner().check(make_task())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"projection": 0}, "projection"),
        ({"hidden": -1}, "hidden"),
        ({"dropout": 1.0}, "dropout"),
        ({"temperature": 0}, "temperature"),
    ],
)
def test_settings_that_mean_nothing_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(CondsimError, match=rf"method\.{message}"):
        Combiner(**setting)
