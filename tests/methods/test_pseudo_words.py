"""Pic2Word, SEARLE and LinCIR: weights in their released forms against the equations, on a small CLIP."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.features.open_clip.backbone import OpenClip
from condsim.harness.method import Gallery, Queries
from condsim.methods.linear_adapter import LinearAdapter
from condsim.methods.pic2word import Pic2Word
from condsim.methods.searle import LinCIR, Searle
from condsim.methods.shared.keywords import Masked
from condsim.methods.shared.pseudo_words import PseudoWords
from condsim.methods.training.method import Batch, TrainingData
from encoders import Space, tiny_clip

pytestmark = pytest.mark.slow

D, E, HIDDEN, ITEMS = 20, 16, 14, 12
CONDITIONS = (("is red",), ("has a tree", "is a house"), ("costs $5",))
METHODS: dict[str, Callable[..., PseudoWords]] = {"pic2word": Pic2Word, "searle": Searle, "lincir": LinCIR}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> OpenClip:
    folder = tmp_path_factory.mktemp("clip")
    tiny_clip(folder, "words", "clip.safetensors", width=D, text={"context_length": 16, "width": E, "layers": 2})
    return OpenClip(
        "words", model_config=folder / "words.json", weights=folder / "clip.safetensors", cache_dir=folder, device="cpu"
    )


@pytest.fixture
def gallery(clip: OpenClip, space: Space) -> Gallery:
    """Random images in the space of a real text tower."""
    features = 3 * torch.randn(ITEMS, D, generator=torch.Generator().manual_seed(5))
    texts = clip.encode_texts([" and ".join(condition) for condition in CONDITIONS])
    return dataclasses.replace(
        space.gallery(ITEMS, CONDITIONS), features=features, condition_features=texts, encode_texts=clip.encode_texts,
        encode_texts_with=clip.encode_texts_with,
    )  # fmt: skip


def queries_of(gallery: Gallery) -> Queries:
    rows, conditions = torch.tensor([3, 3, 7, 0]), torch.tensor([0, 1, 1, 2])
    return Queries(gallery.features[rows], torch.zeros(4, D), conditions, rows)


def released(name: str, width: int = D, out: int = E) -> dict[str, Tensor]:
    """Random weights under the published names."""
    draw = torch.Generator().manual_seed(1)
    names = ("layers.0.0", "layers.1.0", "fc_out") if name == "pic2word" else ("layers.0", "layers.3", "layers.6")
    state: dict[str, Tensor] = {}
    for layer, outputs, inputs in zip(names, (HIDDEN, HIDDEN, out), (width, HIDDEN, HIDDEN), strict=True):
        state[f"{layer}.weight"] = torch.randn(outputs, inputs, generator=draw) / inputs**0.5
        state[f"{layer}.bias"] = torch.randn(outputs, generator=draw)
    return state


def written(folder: Path, name: str, **sizes: int) -> str:
    """The released file: Pic2Word's beside CLIP's own weights and from DataParallel, the others' beside settings."""
    state = released(name, **sizes)
    if name == "pic2word":
        inside = {f"module.{key}": value for key, value in state.items()}
        content = {
            "epoch": 3,
            "name": "x",
            "state_dict": {"module.proj": torch.zeros(2)},
            "state_dict_img2text": inside,
        }
    else:
        content = {"epoch": 3, "hyperparameters": {"dropout": 0.5}, "Phi": state}
    torch.save(content, folder / f"{name}.pt")
    return str(folder / f"{name}.pt")


def word(name: str, reference: Tensor) -> Tensor:
    """phi [D] -> [E] in float64."""
    x = reference.double()
    *first, last = [(w.double(), b.double()) for w, b in pairs(released(name))]
    for weight, bias in first:
        x = weight @ x + bias
        x = x.clamp(min=0) if name == "pic2word" else 0.5 * x * (1 + torch.erf(x / 2**0.5))
    return last[0] @ x + last[1]


def pairs(state: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    values = list(state.values())
    return list(zip(values[::2], values[1::2], strict=True))


def encoded(clip: OpenClip, text: str, vector: Tensor, mark: int) -> Tensor:
    """As the released codes encode: the token ``mark`` (259 is "$", 265 "*") gets the vector, the end is read."""
    model: Any = clip.loaded.model
    with torch.inference_mode():
        tokens = open_clip.get_tokenizer("words")([text])
        x = model.token_embedding(tokens).clone()
        x[0, int((tokens[0] == mark).nonzero()[0])] = vector.float()
        x = model.transformer(x + model.positional_embedding, attn_mask=model.attn_mask)
        end: Tensor = model.ln_final(x)[0, int(tokens[0].argmax())] @ model.text_projection
        return end.double()


def cosines(query: Tensor, gallery: Gallery) -> Tensor:
    items = gallery.features.double()
    return items @ query / (items.norm(dim=1) * query.norm())


PUBLISHED = {"pic2word": ("a photo of * , {}", 265), "searle": ("a photo of $ that {}", 259)}
PUBLISHED["lincir"] = PUBLISHED["searle"]


@pytest.mark.parametrize("name", METHODS)
def test_released_weights_score_as_the_released_code(
    name: str, clip: OpenClip, gallery: Gallery, tmp_path: Path
) -> None:
    prompt, mark = PUBLISHED[name]
    queries = queries_of(gallery)
    scores = METHODS[name](written(tmp_path, name)).prepare(gallery)(queries)
    for row, condition in enumerate(queries.condition.tolist()):
        text = prompt.format(" and ".join(CONDITIONS[condition]))
        query = encoded(clip, text, word(name, queries.reference[row]), mark)
        torch.testing.assert_close(scores[row].double(), cosines(query, gallery), atol=2e-5, rtol=0)
    assert (scores[1] - scores[2]).abs().max() > 0.01  # same condition, other reference
    assert (scores[0] - scores[1]).abs().max() > 0.01  # same reference, other condition


def test_several_texts_of_a_condition_are_averaged_as_unit_features(
    clip: OpenClip, gallery: Gallery, tmp_path: Path
) -> None:
    orders = (("is red",), ("is old and is red", "is red and is old"), ("x",))
    both = dataclasses.replace(gallery, texts=orders)
    queries = queries_of(both)
    scores = Searle(written(tmp_path, "searle")).prepare(both)(queries)
    for row, condition in enumerate(queries.condition.tolist()):
        vector = word("searle", queries.reference[row])
        parts = [encoded(clip, f"a photo of $ that {text}", vector, 259) for text in orders[condition]]
        query = torch.stack([part / part.norm() for part in parts]).mean(dim=0)
        torch.testing.assert_close(scores[row].double(), cosines(query, gallery), atol=2e-5, rtol=0)


def test_the_prompt_and_normalize_are_settings(clip: OpenClip, gallery: Gallery, tmp_path: Path) -> None:
    checkpoint, queries = written(tmp_path, "lincir"), queries_of(gallery)
    reference = queries.reference[0]
    scores = LinCIR(checkpoint, prompt="{}, $", normalize=True).prepare(
        dataclasses.replace(gallery, conditions=(("red",), ("old",), ("big",)))
    )(queries)
    query = encoded(clip, "red , $", word("lincir", reference / reference.norm()), 259)
    torch.testing.assert_close(scores[0].double(), cosines(query, gallery), atol=2e-5, rtol=0)


def test_a_condition_may_have_the_mark_behind_the_prompts_own_only(gallery: Gallery, tmp_path: Path) -> None:
    checkpoint = written(tmp_path, "searle")
    Searle(checkpoint).prepare(gallery)
    with pytest.raises(CondsimError, match=r"the condition 'costs \$5' has a \$ before the prompt's own"):
        Searle(checkpoint, prompt="a {} of $").prepare(gallery)


@pytest.mark.parametrize("prompt", ["a photo of {}", "a photo of $", ""])
def test_a_prompt_needs_the_word_and_the_condition(prompt: str) -> None:
    with pytest.raises(CondsimError, match=r"needs \$ for the image's word and \{\} for the condition"):
        Pic2Word(prompt=prompt)


@pytest.mark.parametrize(
    ("name", "backbones"), [("pic2word", "ViT-L-14/openai"), ("searle", "ViT-B-32/openai"), ("lincir", "ViT-bigG-14")]
)
def test_without_weights_it_says_which_and_for_which_backbone(name: str, backbones: str, gallery: Gallery) -> None:
    with pytest.raises(CondsimError, match=rf"no weights of its own: set method\.checkpoint=FILE, .*{backbones}"):
        METHODS[name]().prepare(gallery)


def test_weights_for_another_backbone_are_refused(gallery: Gallery, tmp_path: Path) -> None:
    with pytest.raises(CondsimError, match=r"is for features of width 24, this backbone's have width 20"):
        Searle(written(tmp_path, "searle", width=24)).prepare(gallery)
    with pytest.raises(CondsimError, match=r"the word vectors have width 17, but those of words/clip have width 16"):
        Searle(written(tmp_path, "searle", out=17)).prepare(gallery)


def test_weights_of_another_form_are_refused(gallery: Gallery, tmp_path: Path) -> None:
    torch.save(released("searle"), tmp_path / "bare.pt")
    with pytest.raises(CondsimError, match=r"is not a mapping of Pic2Word: missing fc_out\.bias"):
        Pic2Word(str(tmp_path / "bare.pt")).prepare(gallery)
    Searle(str(tmp_path / "bare.pt")).prepare(gallery)
    state = released("searle") | {"layers.3.weight": torch.zeros(HIDDEN, HIDDEN + 1)}
    torch.save({"Phi": state}, tmp_path / "odd.pt")
    with pytest.raises(CondsimError, match=r"sizes of its layers contradict each other: .*layers\.3.*\[14, 15\]"):
        Searle(str(tmp_path / "odd.pt")).prepare(gallery)


@pytest.fixture
def training(clip: OpenClip) -> TrainingData:
    tower = clip.trainable().requires_grad_(False)
    captions = ["a red house", "a tree on a hill", "a small dog", "the old street in winter"]
    return TrainingData(torch.ones(1, D), captions, tower.texts_with)


def test_lincirs_loss_is_the_squared_error_of_the_masked_captions(clip: OpenClip, training: TrainingData) -> None:
    text = clip.encode_texts(training.texts).clone()
    rows = torch.tensor([0, 3])
    batch = Batch(torch.zeros(2, D), text[rows], torch.zeros(2, D), rows, rows)
    method = LinCIR(hidden=HIDDEN, word_width=E, noise=0.0, dropout=0.0)
    network = method.new_network(D)
    found = method.objective(training)(network, batch)
    with torch.no_grad():
        vectors = network(text[rows])
    rebuilt = [encoded(clip, "$", vectors[0], 259)]
    tower = clip.trainable()
    rebuilt.append(tower.texts_with(["$ in $"], vectors[1:])[0].double())
    expected = torch.stack(
        [(mine - real.double()).square().mean() for mine, real in zip(rebuilt, text[rows], strict=True)]
    )
    assert found.item() == pytest.approx(expected.mean().item(), rel=1e-4)
    noisy = LinCIR(hidden=HIDDEN, word_width=E, noise=9.0, dropout=0.0)
    assert noisy.objective(training)(network, batch).item() != pytest.approx(found.item(), rel=1e-3)


def test_pic2words_loss_is_the_mean_of_both_directions(clip: OpenClip, training: TrainingData) -> None:
    images = 3 * torch.randn(3, D, generator=torch.Generator().manual_seed(2))
    batch = Batch(torch.zeros(3, D), torch.zeros(3, D), images, torch.arange(3))
    method = Pic2Word(hidden=HIDDEN, word_width=E, dropout=0.0, temperature=0.5)
    network = method.new_network(D)
    found = method.objective(training)(network, batch).item()
    with torch.no_grad():
        vectors = network(images)
    texts = torch.stack([encoded(clip, "a photo of $", vector, 259) for vector in vectors])
    scores = (texts / texts.norm(dim=1, keepdim=True)) @ (images.double() / images.double().norm(dim=1, keepdim=True)).T
    log_p = [(side / 0.5).log_softmax(dim=1).diagonal().mean() for side in (scores, scores.T)]
    assert found == pytest.approx(-(log_p[0] + log_p[1]).item() / 2, rel=1e-4)


@pytest.mark.parametrize("make", [LinCIR, Pic2Word])
def test_training_lowers_the_loss_and_the_checkpoint_scores(
    make: Callable[..., PseudoWords], clip: OpenClip, training: TrainingData, gallery: Gallery, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    text, images = clip.encode_texts(training.texts).clone(), gallery.features[:4]
    batch = Batch(torch.zeros(4, D), text, images, torch.arange(4), torch.arange(4))
    method = make(hidden=HIDDEN, word_width=E, dropout=0.0)
    network = method.new_network(D)
    objective, optimizer = method.objective(training), torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(25):
        loss = objective(network, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    save_file(network.state_dict(), tmp_path / "phi.safetensors")
    scores = make(str(tmp_path / "phi.safetensors")).prepare(gallery)(queries_of(gallery))
    torch.testing.assert_close(scores, method.score_with(network.eval(), gallery)(queries_of(gallery)))
    with pytest.raises(CondsimError, match=r"method\.hidden=9, but checkpoint .* has hidden=14"):
        make(str(tmp_path / "phi.safetensors"), hidden=9).prepare(gallery)


@pytest.mark.parametrize("name", ["pic2word", "lincir"])
def test_the_weights_that_ship_are_those_of_the_embedded_backbone(name: str) -> None:
    checkpoint = f"pkg://condsim.methods/weights/{name}-shapes-clip.safetensors"
    method = METHODS[name](checkpoint)
    network = method.trained_network(128)
    assert method.settings_of(network) == {"hidden": 160, "word_width": 128}
    with pytest.raises(CondsimError, match=r"features of width 128, this backbone's have width 768: .* Published: "):
        method.trained_network(768)


def test_what_cannot_be_trained_says_why(training: TrainingData) -> None:
    with pytest.raises(CondsimError, match="through the text tower, which this backbone does not offer"):
        LinCIR().objective(TrainingData(torch.ones(1, D)))
    with pytest.raises(CondsimError, match=r"a frozen backbone: set training\.backbone=false"):
        Pic2Word().objective(dataclasses.replace(training, images=torch.zeros(0, D)))


def test_keywords_are_runs_of_nouns_adjectives_and_determiners() -> None:
    masked = Masked()
    assert masked(["A small dog on the old sofa", "running quickly", "it costs $5"])[:2] == ["$ on $", "$"]
    assert masked(["a red house"]) == ["$"]


def test_a_backbone_without_pseudo_words_leaves_the_cell_empty(gallery: Gallery, tmp_path: Path) -> None:
    plain = dataclasses.replace(gallery, encode_texts_with=None)
    with pytest.raises(NotApplicable, match="this backbone cannot encode a text with such a word"):
        Searle(written(tmp_path, "searle")).prepare(plain)
    torch.save({"layer.weight": torch.eye(D), "layer.bias": torch.zeros(D)}, tmp_path / "adapter.pt")
    adapted = LinearAdapter(Searle(written(tmp_path, "searle")), str(tmp_path / "adapter.pt"))
    with pytest.raises(NotApplicable, match="this backbone cannot encode"):
        adapted.prepare(gallery)
