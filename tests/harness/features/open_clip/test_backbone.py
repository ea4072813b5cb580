"""OpenClip against open_clip itself, on a tiny random model; what it never does twice; what it says when it cannot."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from PIL import Image
from safetensors.torch import save_file

from condsim.harness.backbone import Backbone
from condsim.harness.errors import BackboneError, CondsimError, UnusableRowsError
from condsim.harness.features.cache.store import open_store
from condsim.harness.features.open_clip import backbone as backbone_module
from condsim.harness.features.open_clip import model as clip_model
from condsim.harness.features.open_clip.backbone import OpenClip
from condsim.harness.features.open_clip.batches import InPieces
from condsim.harness.images import crop_to_square
from condsim.harness.task import ImageTable
from encoders import cores, tiny_clip

pytestmark = pytest.mark.slow

TEXTS = [
    "color",
    "a dog on the grass",
    "one two three four five six seven eight nine ten",
    "one two three four five six",
]
SIZES = [(32, 32), (40, 30), (25, 60), (64, 64), (33, 90), (50, 20), (80, 81)]

Make = Callable[..., OpenClip]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model config, two weights files, and pictures of several shapes and modes."""
    folder = tmp_path_factory.mktemp("backbone")
    for seed in (0, 1):
        tiny_clip(folder, "tiny", f"weights{seed}.safetensors", seed=seed)
    rng = np.random.default_rng(0)
    for i, (width, height) in enumerate(SIZES):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        image.convert(("RGB", "L", "RGB", "P")[i % 4]).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def make(files: Path, tmp_path: Path) -> Make:
    def make(**options: Any) -> OpenClip:
        """A backbone as a new process would make it: it knows only what is on the disk."""
        open_store.cache_clear()
        settings = {"weights": files / "weights0.safetensors", "cache_dir": tmp_path / "cache", "device": "cpu"}
        return OpenClip("tiny", model_config=files / "tiny.json", **{**settings, **options})

    return make


@pytest.fixture
def table(files: Path) -> ImageTable:
    return ImageTable(files, tuple(f"{i}.png" for i in range(len(SIZES))))


def reference_model(files: Path) -> tuple[Any, Any]:
    model, _, preprocess = open_clip.create_model_and_transforms("tiny", str(files / "weights0.safetensors"))
    return model.eval(), preprocess


def no_model(*_: object) -> None:
    raise AssertionError("the model was loaded")


def test_image_features_are_open_clips_own_and_raw(make: Make, files: Path, table: ImageTable) -> None:
    model, preprocess = reference_model(files)
    with torch.no_grad():
        expected = model.encode_image(torch.stack([preprocess(Image.open(files / name)) for name in table.names]))
    features = make().encode_images(table)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, expected)
    assert not torch.allclose(features.norm(dim=1), torch.ones(len(features)))


def test_text_features_are_open_clips_own_and_cut_off_at_the_context_length(make: Make, files: Path) -> None:
    model, _ = reference_model(files)
    with torch.no_grad():
        expected = model.encode_text(open_clip.get_tokenizer("tiny")(TEXTS))
    features = make().encode_texts(TEXTS)
    torch.testing.assert_close(features, expected)
    assert torch.equal(features[2], features[3]), "both begin with the same six words"
    assert make().encode_texts([]).shape == (0, 12)


def test_boxed_rows_are_cropped_and_padded_and_the_others_whole(make: Make, files: Path, table: ImageTable) -> None:
    boxes = np.full((len(table), 4), np.nan)
    boxes[1], boxes[4] = (3, -2, 20, 10.5), (10, 30, 8, 9)
    model, preprocess = reference_model(files)
    images: list[Image.Image] = [Image.open(files / name) for name in table.names]
    images[1], images[4] = crop_to_square(images[1], boxes[1]), crop_to_square(images[4], boxes[4])
    with torch.no_grad():
        expected = model.encode_image(torch.stack([preprocess(image) for image in images]))
    features = make().encode_images(ImageTable(files, table.names, boxes))
    torch.testing.assert_close(features, expected)
    whole = make().encode_images(table)
    assert not torch.allclose(whole[1], features[1])
    assert torch.equal(whole[0], features[0])


def test_a_run_on_stored_features_does_not_load_the_model(
    make: Make, table: ImageTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, texts = make().encode_images(table), make().encode_texts(TEXTS)
    monkeypatch.setattr(backbone_module, "load_model", no_model)
    again = make()
    assert (again.name, again.width) == ("tiny/weights0", 12)
    assert torch.equal(again.encode_images(table), images)
    assert torch.equal(again.encode_texts(TEXTS[::-1]), texts.flip(0))
    assert torch.equal(make(batch_size=3, workers=1).encode_images(table), images)


def test_renamed_and_copied_images_are_not_encoded_again(
    make: Make, files: Path, table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = make().encode_images(table)
    names = [f"deep/er/copy of {name}" for name in reversed(table.names)]
    for new, old in zip(names, reversed(table.names), strict=True):
        (tmp_path / new).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / new).write_bytes((files / old).read_bytes())
    monkeypatch.setattr(backbone_module, "load_model", no_model)
    assert torch.equal(make().encode_images(ImageTable(tmp_path, tuple(names))), before.flip(0))


@pytest.mark.parametrize(
    "change", [{"transform": "targetpad"}, {"precision": "bf16"}, {"weights": "weights1"}, {"quick_gelu": True}]
)
def test_another_transform_precision_or_model_never_gets_stale_features(
    make: Make, files: Path, table: ImageTable, change: dict[str, Any]
) -> None:
    usual = make()
    if "weights" in change:
        change = {"weights": files / "weights1.safetensors"}
    other = make(**change)
    assert other.identity != usual.identity
    assert other.name != usual.name or change == {"quick_gelu": True}
    before = torch.cat([usual.encode_images(table), usual.encode_texts(TEXTS)])
    after = torch.cat([other.encode_images(table), other.encode_texts(TEXTS)])
    assert not torch.equal(before, after)
    again = make()
    assert torch.equal(torch.cat([again.encode_images(table), again.encode_texts(TEXTS)]), before)


def test_weights_replaced_under_the_same_name_are_other_weights(
    make: Make, files: Path, tmp_path: Path, table: ImageTable
) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes((files / "weights0.safetensors").read_bytes())
    before = make(weights=file)
    first = before.encode_images(table)
    identity = before.identity
    file.write_bytes((files / "weights1.safetensors").read_bytes())
    after = make(weights=file)
    assert after.identity != identity
    assert not torch.equal(after.encode_images(table), first)
    assert torch.equal(make(weights=files / "weights1.safetensors").encode_images(table), after.encode_images(table))


def test_the_identity_is_the_same_wherever_the_files_lie(make: Make, files: Path, tmp_path: Path) -> None:
    here = make().identity
    (tmp_path / "elsewhere").mkdir()
    for name in ("tiny.json", "weights0.safetensors"):
        (tmp_path / "elsewhere" / name).write_bytes((files / name).read_bytes())
    there = OpenClip(
        "tiny", model_config=tmp_path / "elsewhere/tiny.json", weights=tmp_path / "elsewhere/weights0.safetensors",
        cache_dir=tmp_path / "other", batch_size=7, workers=3, device="cpu",
    )  # fmt: skip
    assert there.identity == here
    assert all(isinstance(value, str) and str(tmp_path) not in value for value in here.values())


def test_half_precision_is_close_to_full(make: Make, table: ImageTable) -> None:
    full, half = make().encode_images(table), make(precision="bf16").encode_images(table)
    assert half.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(full, half).min() > 0.99


def test_batches_of_any_size_give_the_same_features(make: Make, table: ImageTable, tmp_path: Path) -> None:
    whole = make().encode_images(table)
    single = make(batch_size=1, cache_dir=tmp_path / "other").encode_images(table)
    torch.testing.assert_close(single, whole)


def copy_of(files: Path, folder: Path, table: ImageTable) -> ImageTable:
    for name in table.names:
        (folder / name).write_bytes((files / name).read_bytes())
    return ImageTable(folder, table.names)


def test_pictures_that_cannot_be_used_are_reported_together(
    make: Make, files: Path, tmp_path: Path, table: ImageTable
) -> None:
    copy_of(files, tmp_path, table)
    (tmp_path / "1.png").write_bytes(b"nothing")
    half = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(half[: len(half) // 2])
    Image.fromarray(np.array([[0, 70_000]], dtype=np.int32)).save(tmp_path / "6.tiff")
    (tmp_path / "6.tiff").rename(tmp_path / "6.png")
    boxes = np.full((len(table), 4), np.nan)
    boxes[5] = (500, 0, 10, 10)
    with pytest.raises(UnusableRowsError) as caught:
        make().encode_images(ImageTable(tmp_path, table.names, boxes))
    message = str(caught.value)
    assert list(caught.value.faults) == [1, 3, 5, 6]
    assert "4 of 7 rows cannot be encoded" in message
    assert f"row 1, {tmp_path / '1.png'}: does not decode" in message
    assert f"row 3, {tmp_path / '3.png'}: does not decode" in message
    assert "is outside its image of 50 x 20 pixels" in message
    assert "values from 0 to 70000" in message


def test_damage_that_shows_only_when_decoded_loses_nothing_that_is_encoded(
    make: Make, files: Path, tmp_path: Path, table: ImageTable
) -> None:
    copied = copy_of(files, tmp_path, table)
    data = bytearray((tmp_path / "3.png").read_bytes())
    middle = data.index(b"IDAT") + 4
    data[middle : middle + 20] = bytes(20)  # header and end stay as they are
    (tmp_path / "3.png").write_bytes(data)
    with pytest.raises(
        UnusableRowsError, match=rf"row 3, {re.escape(str(tmp_path / '3.png'))}: does not decode"
    ) as caught:
        make().encode_images(copied)
    assert "the other 6 are encoded and stored" in str(caught.value)
    good = np.array([0, 1, 2, 4, 5, 6])
    expected = make(cache_dir=tmp_path / "other").encode_images(table)[good]
    torch.testing.assert_close(make().encode_images(copied.take(good)), expected)


def test_a_picture_that_changes_between_digest_and_decoding_is_refused(
    make: Make, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make().encode_images(ImageTable(files, ("2.png",)))  # where nothing is stored the model is loaded first
    file = tmp_path / "a.png"
    file.write_bytes((files / "0.png").read_bytes())
    real = backbone_module.load_model  # type: ignore[attr-defined]

    def swap(*arguments: Any) -> Any:
        file.write_bytes((files / "1.png").read_bytes())
        return real(*arguments)

    monkeypatch.setattr(backbone_module, "load_model", swap)
    with pytest.raises(UnusableRowsError, match="changed while it was being encoded"):
        make().encode_images(ImageTable(tmp_path, ("a.png",)))


def test_an_empty_table_is_refused(make: Make, files: Path) -> None:
    with pytest.raises(CondsimError, match="empty"):
        make().encode_images(ImageTable(files, ()))


def test_features_that_are_not_finite_are_refused_by_name(
    make: Make, files: Path, tmp_path: Path, table: ImageTable
) -> None:
    torch.manual_seed(0)
    state = open_clip.create_model("tiny").state_dict()
    state["text_projection"][:] = torch.nan
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(UnusableRowsError, match="text 0, 'color': its features contain NaN or infinity"):
        make(weights=tmp_path / "nan.safetensors").encode_texts(["color"])


def test_memory_that_runs_out_halves_the_batch() -> None:
    sizes: list[int] = []

    def model(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return batch * 2

    pieces = InPieces(16)
    batch = torch.arange(16.0)
    assert torch.equal(pieces(model, batch), batch * 2)
    assert sizes[:4] == [16, 8, 4, 2]
    assert pieces.size == 2
    sizes.clear()
    assert torch.equal(pieces(model, batch), batch * 2)
    assert max(sizes) == 2, "what is known is not tried again"


def test_memory_that_does_not_suffice_for_one_row_is_said() -> None:
    def model(batch: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(CondsimError, match="single row"):
        InPieces(4)(model, torch.zeros(4))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("rows", [1, 2, 7, 64, 65])
def test_pieces_come_back_in_order_whoever_takes_them(threads: int, rows: int) -> None:
    before, seen = torch.get_num_threads(), set()

    def model(batch: torch.Tensor) -> torch.Tensor:
        seen.add((torch.get_num_threads(), len(batch) <= 8))
        return batch + 1

    batch = torch.arange(float(rows))
    with InPieces(8, threads) as pieces:
        assert torch.equal(pieces(model, batch), batch + 1)
        assert torch.get_num_threads() == before, "the rest of the process keeps its cores"
    assert seen == {(before if threads == 1 else 1, True)}
    assert torch.get_num_threads() == before


def test_features_are_the_same_bits_on_any_number_of_cores(make: Make, table: ImageTable, tmp_path: Path) -> None:
    features = []
    for threads in (1, 2, 3):
        with cores(threads):
            backbone = make(cache_dir=tmp_path / str(threads))
            features.append(torch.cat([backbone.encode_images(table), backbone.encode_texts(TEXTS)]))
            assert torch.get_num_threads() == threads, "the encoder leaves the process's thread count as it was"
    assert torch.equal(features[1], features[0])
    assert torch.equal(features[2], features[0])


def test_other_errors_of_the_model_are_not_taken_for_memory() -> None:
    def model(batch: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        InPieces(4)(model, torch.zeros(4))


@pytest.mark.parametrize(
    ("device", "cores", "readers"), [("cpu", 1, 1), ("cpu", 64, 16), ("meta", 4, 4), ("meta", 64, 8)]
)
def test_readers_leave_the_cores_to_a_model_on_the_processor_and_are_few_beside_a_gpu(
    make: Make, device: str, cores: int, readers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condsim.harness.features.open_clip.backbone.available_cores", lambda: cores)
    assert make(device=device).workers == readers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "ViT-B-23", "pretrained": "openai"}, "'ViT-B-32'"),
        ({"model": "ViT-B-32"}, "set backbone.pretrained"),
        ({"model": "ViT-B-32", "pretrained": "openai", "transform": "targetpat"}, "'targetpad'"),
        ({"model": "ViT-B-32", "pretrained": "openai", "precision": "float16"}, "bf16, fp16, fp32"),
        ({"model": "ViT-B-32", "pretrained": "openai", "batch_size": 0}, "batch_size=0"),
        ({"model": "ViT-B-32", "pretrained": "openai", "batch_size": "some"}, "batch_size=some"),
        (
            {"model": "x", "model_config": "no/such.json", "weights": "w.pt"},
            "no/such.json: there is no such model config",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CondsimError, match=message):
        OpenClip(**arguments)


def test_an_unknown_tag_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(CondsimError, match=r"ViT-B-32 has no pretrained weights 'openay'.*'openai'"):
        OpenClip("ViT-B-32", "openay", cache_dir=tmp_path, device="cpu").encode_texts(["a"])


def test_weights_that_cannot_be_had_say_where_they_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to download weights for tag 'openai': Name or service not known")

    monkeypatch.setattr(open_clip, "create_model", offline)
    clip_model.load_model.cache_clear()
    with pytest.raises(CondsimError) as caught:
        OpenClip("ViT-B-32", "openai", cache_dir=tmp_path, device="cpu").encode_texts(["a"])
    message = str(caught.value)
    assert "weights openai of ViT-B-32 are not on this machine" in message
    assert "Name or service not known" in message
    assert "huggingface.co/timm/vit_base_patch32_clip_224.openai" in message
    assert "backbone.weights=FILE" in message
    assert "shapes-clip needs no download" in message


@pytest.mark.parametrize(
    ("model", "tag", "quick"), [("ViT-B-32", "openai", True), ("ViT-B-32", "laion2b_s34b_b79k", False)]
)
def test_openai_weights_get_quick_gelu_and_others_do_not(
    model: str, tag: str, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: dict[str, Any] = {}

    def create(name: str, pretrained: str, **options: Any) -> None:
        received.update(options, name=name, pretrained=pretrained)
        raise RuntimeError("Failed to download weights")

    monkeypatch.setattr(open_clip, "create_model", create)
    clip_model.load_model.cache_clear()
    with pytest.raises(CondsimError):
        clip_model.load_model(clip_model.ModelSpec(model, tag), "cpu")
    assert (received["name"], received["pretrained"], received["force_quick_gelu"]) == (model, tag, quick)


def test_a_backbone_that_cannot_be_loaded_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any picture is read, and with the same message for every task."""
    tried = 0

    def offline(*_: object, **__: object) -> None:
        nonlocal tried
        tried += 1
        raise RuntimeError("Failed to download weights for tag 'openai': Name or service not known")

    monkeypatch.setattr(open_clip, "create_model", offline)
    backbone = OpenClip("ViT-B-32", "openai", cache_dir=tmp_path, device="cpu")
    missing = ImageTable(tmp_path, ("gone.png",))
    messages = set()
    for _ in range(3):
        with pytest.raises(BackboneError) as caught:
            backbone.encode_images(missing)
        messages.add(str(caught.value))
    assert len(messages) == tried == 1


def test_notes_count_what_was_not_read_as_it_is(make: Make, files: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 8
    for i in range(3):
        Image.new("RGB", (40, 30), (i, 90, 90)).save(pictures / f"turned{i}.jpg", exif=turned)
    Image.new("RGBA", (40, 30), (200, 90, 90, 10)).save(pictures / "clear.png")
    Image.fromarray(np.full((40, 30), 30_000, np.uint16)).save(pictures / "deep.png")
    Image.new("RGB", (40, 30), (3, 2, 1)).save(pictures / "plain.png")
    table = ImageTable(pictures, tuple(sorted(file.name for file in pictures.iterdir())))
    encoded = make()
    encoded.encode_images(table)
    encoded.encode_texts(TEXTS)
    for backbone in (encoded, make()):  # the notes are stored with the features
        notes = backbone.notes(table, TEXTS)
        assert [note.split(" have ")[0] for note in notes] == [
            "3 of 6 images", "1 of 6 images", "1 of 6 images", "1 of 4 texts",
        ]  # fmt: skip
        assert all(word in note for word, note in zip(("EXIF", "transparent", "8 bits", TEXTS[2]), notes, strict=True))
    assert make().notes(table.take(np.array([2])), TEXTS[:2]) == []


def test_a_missing_weights_file_is_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(CondsimError, match=r"gone\.safetensors: there is no such file"):
        make(weights=tmp_path / "gone.safetensors").encode_texts(["a"])


@pytest.mark.parametrize("choice", ["ViT-B-32/openai", "RN50x4/openai", "ViT-L-14/openai", "ViT-B-16-SigLIP/webli"])
def test_choices_are_named_as_their_backbones(choice: str, tmp_path: Path) -> None:
    with initialize_config_module("condsim.conf", version_base="1.3"):
        config = compose("bench", [f"backbone={choice}", f"cache_dir={tmp_path}", "backbone.device=cpu"])
    made: Backbone = instantiate(config.backbone)
    assert isinstance(made, OpenClip)
    assert made.name == choice
    assert made.width == {"ViT-B-32": 512, "RN50x4": 640}.get(choice.split("/")[0], 768)
    assert made.identity["pretrained"] == choice.split("/")[1]


def test_any_open_clip_model_by_override(tmp_path: Path) -> None:
    overrides = ["backbone=open_clip", "backbone.model=convnext_base_w", "backbone.pretrained=laion2b_s13b_b82k"]
    with initialize_config_module("condsim.conf", version_base="1.3"):
        made = instantiate(
            compose("bench", [*overrides, f"cache_dir={tmp_path}", "backbone.transform=targetpad"]).backbone
        )
    assert made.name == "convnext_base_w/laion2b_s13b_b82k+targetpad"
    assert made.identity["transform"] == "targetpad-1.25"
