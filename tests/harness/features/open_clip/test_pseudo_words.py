"""Texts in which one word is a vector: with a real word's vector they are that word's text, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from condsim.harness.backbone import EncodesPseudoWords
from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.features.cache.store import open_store
from condsim.harness.features.open_clip import backbone as backbone_module
from condsim.harness.features.open_clip.backbone import OpenClip
from condsim.harness.features.open_clip.pseudo_words import place_pseudo_words, with_word_vectors
from encoders import tiny_clip

pytestmark = pytest.mark.slow

CONTEXT, WIDTH = 12, 16
TEXT = {"context_length": CONTEXT, "width": WIDTH, "layers": 2}
TOWERS: dict[str, dict[str, Any]] = {
    "clip": {"text": TEXT},
    "custom": {"custom_text": True, "text": {**TEXT, "embed_cls": True, "pool_type": "argmax"}},
    "sigmoid": {
        "custom_text": True, "init_logit_bias": -10,
        "text": {
            **TEXT, "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
        },
    },
}  # fmt: skip
PROMPTS = ["a photo of $ that is red", "$", "a $ , in the street", "the street has $", "$ and $", "red$, old"]
WORDS = ["horse", "street", "red", "tree", "car", "house"]

Make = Callable[..., OpenClip]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pseudo")
    for tower, change in TOWERS.items():
        tiny_clip(folder, f"tiny_{tower}", f"{tower}.safetensors", width=20, **change)
    return folder


@pytest.fixture
def make(files: Path, tmp_path: Path) -> Make:
    def make(tower: str = "clip", **options: Any) -> OpenClip:
        open_store.cache_clear()
        settings: dict[str, Any] = {"weights": files / f"{tower}.safetensors", "cache_dir": tmp_path, "device": "cpu"}
        return OpenClip(f"tiny_{tower}", model_config=files / f"tiny_{tower}.json", **{**settings, **options})

    return make


def word_vectors(backbone: OpenClip, words: list[str]) -> Tensor:
    model: Any = backbone.loaded.model
    tower = model if hasattr(model, "token_embedding") else model.text
    rows = [row for word in words for row in open_clip.get_tokenizer("ViT-B-32").encode(word)]
    assert len(rows) == len(words)
    return tower.token_embedding.weight[rows].clone()


def test_the_towers_are_of_three_kinds(make: Make) -> None:
    kinds = [type(make(tower).loaded.model).__name__ for tower in TOWERS]
    assert kinds == ["CLIP", "CustomTextCLIP", "CustomTextCLIP"]
    towers: Any = [make(tower).loaded.model for tower in ("custom", "sigmoid")]
    custom, sigmoid = (model.text for model in towers)
    assert custom.cls_emb is not None
    assert sigmoid.pool_type == "last"
    assert sigmoid.attn_mask is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tower", TOWERS)
def test_a_real_words_vector_gives_the_features_of_that_word_bit_for_bit(
    make: Make, tower: str, precision: str
) -> None:
    backbone = make(tower, precision=precision)
    assert isinstance(backbone, EncodesPseudoWords)
    vectors = word_vectors(backbone, WORDS)
    texts = ["a photo of horse that is red", "street", "a red , in the street", "the street has tree", "car and $",
             "red house , old"]  # fmt: skip
    features = backbone.encode_texts_with(PROMPTS, vectors)
    assert torch.equal(features, backbone.encode_texts(texts))
    moved = backbone.encode_texts_with(PROMPTS, torch.randn(vectors.shape, generator=torch.Generator().manual_seed(0)))
    assert ((moved - features).abs().amax(dim=1) > 1e-3).all()


@pytest.mark.parametrize("tower", TOWERS)
def test_threads_that_share_a_model_do_not_share_vectors(make: Make, tower: str) -> None:
    clip = make(tower).loaded
    vectors = torch.randn(40, 1, WIDTH, generator=torch.Generator().manual_seed(0))

    def encode(row: int) -> Tensor:
        return clip.text_features_with(["a photo of $"], vectors[row])

    alone = [encode(row) for row in range(40)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(encode, range(40)))
    torch.testing.assert_close(torch.cat(together), torch.cat(alone))
    assert len({tuple(features[0].tolist()) for features in alone}) == 40


def test_features_are_stored_by_text_and_vector(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    texts = ["a photo of $", "a $ in red", "$"]
    first = make().encode_texts_with(texts, vectors)

    def no_model(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(backbone_module, "load_model", no_model)
    again = make()
    assert torch.equal(again.encode_texts_with(texts[::-1], vectors.flip(0)), first.flip(0))
    for changed in ((texts, vectors.flip(0)), (texts[::-1], vectors)):
        with pytest.raises(AssertionError, match="the model was loaded"):
            make().encode_texts_with(*changed)
    with pytest.raises(AssertionError, match="the model was loaded"):
        make().encode_texts(texts)


def test_a_tokenizer_that_drops_punctuation_finds_the_place_too() -> None:
    tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=CONTEXT, clean="canonicalize")
    assert tokenizer(["a $"]).equal(tokenizer(["a"]))
    tokens, places = place_pseudo_words(["a photo of $, red", "dog cat $"], tokenizer)
    assert places.int().argmax(dim=1).tolist() == [4, 3]
    assert places.sum(dim=1).tolist() == [1, 1]
    assert tokens.equal(tokenizer(["a photo of dog red", "dog cat dog"]))


def test_every_mark_can_be_a_word_and_those_beyond_the_end_are_cut() -> None:
    tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=CONTEXT)
    tokens, places = place_pseudo_words(["$ on $, a $", "$" + " word" * 20 + " $"], tokenizer, every=True)
    assert tokens[0].equal(tokenizer(["dog on dog , a dog"])[0])
    assert [row.nonzero().flatten().tolist() for row in places] == [[1, 3, 6], [1]]


def test_in_training_a_causal_tower_reads_no_further_than_the_longest_text(make: Make) -> None:
    encoder = make().trainable().requires_grad_(False)
    lengths: list[int] = []
    encoder.model.transformer.register_forward_pre_hook(lambda module, inputs: lengths.append(inputs[0].shape[1]))  # type: ignore[operator, union-attr]
    vectors = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0))
    both = encoder.texts_with(["a photo of $", "$"], vectors)
    torch.testing.assert_close(both[1:], encoder.texts_with(["$"], vectors[1:]))
    encoder.texts_with(["$" + " red" * 20], vectors[:1])
    assert lengths == [6, 3, CONTEXT]  # with the tokens of start and end
    assert encoder.model.positional_embedding.shape[0] == CONTEXT  # type: ignore[index, union-attr]


@pytest.mark.parametrize("tower", TOWERS)
def test_in_training_it_is_the_same_encoding_and_gradients_reach_the_vectors(make: Make, tower: str) -> None:
    backbone, texts = make(tower), ["a photo of $", "$, red"]
    vectors = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0), requires_grad=True)
    features = backbone.trainable().requires_grad_(False).texts_with(texts, vectors)
    torch.testing.assert_close(features.detach(), backbone.encode_texts_with(texts, vectors))
    features.square().sum().backward()
    assert vectors.grad is not None
    assert (vectors.grad.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize(
    ("texts", "width", "message"),
    [
        (["a photo"], WIDTH, r'the text \'a photo\' has no "\$"'),
        (["one two three four five six seven eight nine ten eleven $"], WIDTH, r"is beyond the 12 tokens .*shorten"),
        (["a $"], 17, r"the word vectors have width 17, but those of tiny_clip/clip have width 16"),
        ([], 17, "the word vectors have width 17"),
    ],
)
def test_texts_and_vectors_that_do_not_fit_are_refused(make: Make, texts: list[str], width: int, message: str) -> None:
    with pytest.raises(CondsimError, match=message):
        make().encode_texts_with(texts, torch.zeros(len(texts), width))


def test_no_text_gives_no_row_and_loads_no_model(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone_module, "load_model", None)
    assert make().encode_texts_with([], torch.zeros(0, WIDTH)).shape == (0, 20)


def test_a_text_tower_of_another_library_says_that_it_cannot(files: Path, tmp_path: Path) -> None:
    config = json.loads((files / "tiny_clip.json").read_text())
    config["text_cfg"] = {"hf_model_name": "roberta-base", "hf_tokenizer_name": "roberta-base"}
    (tmp_path / "other.json").write_text(json.dumps(config))
    backbone = OpenClip("other", model_config=tmp_path / "other.json", weights=files / "clip.safetensors", device="cpu")
    with pytest.raises(NotApplicable, match=r"the text tower of other/clip is none of open_clip's own"):
        backbone.encode_texts_with([], torch.zeros(0, WIDTH))
    with pytest.raises(NotApplicable, match="none of open_clip's own"):
        with_word_vectors(torch.nn.Linear(2, 2), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 2))
