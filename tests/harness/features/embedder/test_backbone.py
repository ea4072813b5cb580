"""The embedder backbone with a tiny Qwen2-VL of random weights, a real class that reads images and texts together."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip  # noqa: F401 - sets an environment variable once, which no test may
import pytest
import torch
from PIL import Image

from condsim.harness.errors import BackboneError, NotApplicable, UnusableRowsError
from condsim.harness.features.embedder.backbone import Embedder
from condsim.harness.one_vector import unit
from condsim.harness.run.run import rank
from condsim.harness.task import Benchmark, ImageTable, Ragged, Task
from condsim.methods.conditional import ConditionalFeatures
from condsim.methods.joint import Joint

pytestmark = pytest.mark.slow

IMAGE, START, END, PAD = "<|image_pad|>", "<|vision_start|>", "<|vision_end|>", "<|endoftext|>"
CHAT = (
    "{% for message in messages %}{{ message['role'] }} {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}" + START + IMAGE + END + "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)
Make = Callable[..., Embedder]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as its authors would publish it: 76,288 weights, one token per letter."""
    # Not at the top: each worker of pytest-xdist would import it.
    pytest.importorskip("sentence_transformers", reason="needs the extra: pip install 'condsim[embedders]'")
    import transformers as hf
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer, models

    folder = tmp_path_factory.mktemp("model")
    special = (PAD, START, END, IMAGE, "<|video_pad|>")
    vocabulary = {token: i for i, token in enumerate([*special, *"abcdefghijklmnopqrstuvwxyz ?"])}
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=PAD)),
        pad_token=PAD, eos_token=PAD, unk_token=PAD, additional_special_tokens=list(special[1:]), padding_side="left",
    )  # fmt: skip
    tokenizer.image_token, tokenizer.video_token = IMAGE, special[-1]
    text = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0, "eos_token_id": 0,
        "rope_scaling": {"type": "mrope", "rope_type": "default", "mrope_section": [2, 3, 3]},
    }  # fmt: skip
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14}
    config = hf.Qwen2VLConfig(
        text_config=text, vision_config=vision, image_token_id=vocabulary[IMAGE], video_token_id=4,
        vision_start_token_id=1, vision_end_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hf.Qwen2VLModel(config).save_pretrained(folder / "base")
    pixels: dict[str, Any] = {"min_pixels": 28 * 28, "max_pixels": 56 * 56}
    hf.Qwen2VLProcessor(
        image_processor=hf.Qwen2VLImageProcessor(**pixels), video_processor=hf.Qwen2VLVideoProcessor(**pixels),
        tokenizer=tokenizer, chat_template=CHAT,
    ).save_pretrained(folder / "base")  # fmt: skip
    SentenceTransformer(str(folder / "base"), device="cpu").save_pretrained(str(folder / "tiny"))
    return folder / "tiny"


@pytest.fixture
def make(model: Path, tmp_path: Path) -> Make:
    def of(**settings: Any) -> Embedder:
        return Embedder(**{"model": str(model), "device": "cpu", "cache_dir": tmp_path / "cache", **settings})

    return of


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    rng = np.random.default_rng(0)
    for name in "abcd":
        Image.fromarray(rng.integers(0, 255, (40, 56, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    boxes = np.array([[np.nan] * 4] * 3 + [[0, 0, 30, 30]])
    return ImageTable(tmp_path, ("a.png", "b.png", "c.png", "d.png"), boxes, crop="plain")


def test_features_are_those_of_the_model_itself(make: Make, table: ImageTable) -> None:
    backbone, texts = make(batch_size=3), ["red", "blue", "red", "red"]
    pictures: list[Image.Image] = [Image.open(table.path(row)) for row in range(4)]
    pictures[3] = pictures[3].crop((0, 0, 30, 30))
    own = backbone.loaded
    pairs = [{"image": picture, "text": text} for picture, text in zip(pictures, texts, strict=True)]
    for found, inputs in (
        (backbone.encode_images(table), pictures),
        (backbone.encode_texts(["a cup", "a red dog"]), ["a cup", "a red dog"]),
        (backbone.encode_jointly(table, texts), pairs),
    ):
        expected = torch.cat([own.encode([one], convert_to_tensor=True) for one in inputs])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    same = backbone.encode_jointly(table.take(np.array([0, 0])), ["red", "blue"])
    assert not torch.allclose(same[0], same[1], atol=1e-4)


def test_what_is_stored_is_not_encoded_again(make: Make, table: ImageTable, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["x"] * 4
    first = make()
    expected = [first.encode_images(table), first.encode_texts(["x"]), first.encode_jointly(table, texts)]
    again = make(joint_prompt="Find it")
    assert again.identity != first.identity
    joint = again.encode_jointly(table, texts)
    assert not torch.allclose(joint, expected[2], atol=1e-4)
    monkeypatch.setattr(type(again.loaded), "encode", None)
    assert torch.equal(again.encode_images(table), expected[0])  # the prompt for both together changes images no more
    assert torch.equal(again.encode_texts(["x"]), expected[1])
    assert torch.equal(again.encode_jointly(table, texts), joint)


def test_the_identity_is_the_content_of_the_folder(make: Make, model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / model.name
    shutil.copytree(model, copy)
    (copy / "README.md").write_text("another text")
    assert make(model=str(copy)).identity == make().identity
    (copy / "tokenizer_config.json").write_text("{}")
    assert make(model=str(copy)).identity != make().identity
    assert make(dimensions=8).identity != make().identity
    assert make(dimensions=8).encode_texts(["x"]).shape == (1, 8)


def test_joint_and_conditional_rank_by_their_equations(make: Make, table: ImageTable) -> None:
    backbone = make()
    task = Task(
        "toy", "val", table, conditions=(("color",), ("shape",)), condition=np.array([1, 0]),
        reference=np.array([0, 1]), relevant=Ragged.of([[2], [3]]), metrics=("recall@1",), gallery=np.array([2, 3]),
    )  # fmt: skip
    benchmark = Benchmark("toy", (task,))
    queries = backbone.encode_jointly(table.take(task.reference), ["find shape", "find color"])
    cosines = unit(queries) @ unit(backbone.encode_images(table))[task.gallery].T
    expected = 2 + cosines.argsort(dim=1, descending=True)
    ranking, _ = rank(benchmark, task, Joint(template="find {}"), backbone, top=2)
    assert ranking.top is not None
    assert ranking.top.tolist() == expected.tolist()
    by_condition = [unit(backbone.encode_jointly(table, [text] * 4)) for text in ("shape", "color")]
    expected = 2 + torch.stack([by_condition[q][q] @ by_condition[q][2:].T for q in (0, 1)]).argsort(descending=True)
    ranking, _ = rank(benchmark, task, ConditionalFeatures(), backbone, top=2)
    assert ranking.top is not None
    assert ranking.top.tolist() == expected.tolist()


def test_what_cannot_be_encoded_is_named(make: Make, table: ImageTable, monkeypatch: pytest.MonkeyPatch) -> None:
    (table.root / "e.png").write_bytes(b"no picture")
    with pytest.raises(UnusableRowsError, match=r"1 of 2 rows(.|\n)*e\.png: does not decode"):
        make().encode_images(replace(table, names=("a.png", "e.png"), boxes=None))
    with pytest.raises(BackboneError, match="cannot load the model"):
        make(model=str(table.root)).encode_texts(["x"])
    backbone = make()
    monkeypatch.setattr(backbone.loaded, "supports", lambda modality: False)
    with pytest.raises(NotApplicable, match="tiny encodes images and texts apart: it takes text, image"):
        backbone.encode_jointly(table, ["x"] * 4)
