"""joint, conditional, texts and weimocir against their equations, with files and with a backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from builders import make_task
from condsim.harness.errors import CondsimError, NotApplicable, UnusableRowsError
from condsim.harness.method import Gallery, Queries
from condsim.methods.conditional import ConditionalFeatures
from condsim.methods.hubness import QueryBankNormalization
from condsim.methods.joint import Joint
from condsim.methods.texts import Texts
from condsim.methods.weimocir import WeiMoCIR
from encoders import Space

N, Q = 12, 5
REFERENCE, CONDITION = [3, 8, 8, 2, 11], [0, 1, 2, 0, 3]


@pytest.fixture
def gallery(space: Space) -> Gallery:
    made: Gallery = space.gallery(N)
    return replace(made, query_names=tuple(f"toy/{i}" for i in range(Q)))


@pytest.fixture
def queries(space: Space, gallery: Gallery) -> Queries:
    made: Queries = space.queries(gallery, REFERENCE, CONDITION)
    return made


def write(path: Path, names: list[str], features: Tensor) -> str:
    np.savez(path, names=np.array(names), features=features.numpy())
    return str(path)


def unit(x: Tensor) -> Tensor:
    x = x.double()
    return x / x.norm(dim=-1, keepdim=True)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)


def test_the_query_is_the_row_of_its_own_name(tmp_path: Path, gallery: Gallery, queries: Queries) -> None:
    vectors, order = torch.randn(Q, 24), [4, 1, 0, 3, 2]
    file = write(tmp_path / "q.npz", [f"toy/{i}" for i in order], vectors[order])
    expected = unit(vectors) @ unit(gallery.features).T
    scorer = Joint(file).prepare(gallery)
    close(scorer(queries), expected)
    some = Queries(queries.reference[:2], queries.text[:2], queries.condition[:2], queries.reference_row[:2],
                   torch.tensor([4, 2]))  # fmt: skip
    close(scorer(some), expected[[4, 2]])


def test_query_features_that_do_not_fit_are_refused(
    tmp_path: Path,
    gallery: Gallery,
) -> None:
    names = [f"toy/{i}" for i in range(Q)]
    five = [("color",)] * Q
    with pytest.raises(CondsimError, match=r"query features of width 7, but this backbone's images have width 24"):
        Joint(write(tmp_path / "a.npz", names, torch.randn(Q, 7))).prepare(gallery)
    broken = torch.randn(Q, 24)
    broken[3, 2] = torch.nan
    with pytest.raises(UnusableRowsError, match=r"query 'toy/3': its features contain NaN"):
        Joint(write(tmp_path / "b.npz", names, broken)).prepare(gallery)
    with pytest.raises(CondsimError, match="duplicate name 'toy/0'"):
        Joint(write(tmp_path / "c.npz", [*names, "toy/0"], torch.randn(Q + 1, 24))).prepare(gallery)
    with pytest.raises(CondsimError, match=r"no row for 1 of 5 queries of bench/toy, such as 'toy/4'"):
        Joint(write(tmp_path / "d.npz", names[:4], torch.randn(4, 24))).check(make_task(*five))
    np.save(tmp_path / "e.npy", np.zeros((Q, 24), dtype=np.float32))
    (tmp_path / "e.txt").write_text("\n".join(names))
    with pytest.raises(CondsimError, match=r"set method\.names=.*e\.txt"):
        Joint(str(tmp_path / "e.npy"))
    Joint(str(tmp_path / "e.npy"), str(tmp_path / "e.txt")).check(make_task(*five))


def test_a_joint_embedder_reads_reference_and_template(space: Space, gallery: Gallery, queries: Queries) -> None:
    texts = [f"find {' and '.join(gallery.conditions[code])}" for code in CONDITION]
    expected = unit(space.encode_jointly(np.array(REFERENCE), texts)) @ unit(gallery.features).T
    close(Joint(template="find {}").prepare(gallery)(queries), expected)
    both = replace(gallery, texts=(("a", "b"), ("c",), ("d",), ("e",)))
    first, second = (unit(space.encode_jointly(np.array([3]), [text])) for text in "ab")
    close(Joint().prepare(both)(queries)[:1], unit(first + second) @ unit(gallery.features).T)
    with pytest.raises(NotApplicable, match="backbone=embedder"):
        Joint().prepare(replace(gallery, encode_jointly=None))


def test_queries_of_a_bank_have_no_row_anywhere(tmp_path: Path, gallery: Gallery, queries: Queries) -> None:
    base = Joint(write(tmp_path / "q.npz", [f"toy/{i}" for i in range(Q)], torch.randn(Q, 24)))
    with pytest.raises(NotApplicable, match="the task's own queries only"):
        QueryBankNormalization(base).prepare(gallery)(queries)
    for live in (Joint(), ConditionalFeatures(), WeiMoCIR(captions_of(tmp_path, [1] * N)[0], caption_query="own")):
        with pytest.raises(NotApplicable, match="must be an image of the task"):
            QueryBankNormalization(live).prepare(gallery)(queries)


@pytest.mark.parametrize("live", [False, True])
def test_images_are_compared_under_the_query_s_condition(
    tmp_path: Path, space: Space, gallery: Gallery, queries: Queries, live: bool
) -> None:
    texts = [" and ".join(condition) for condition in gallery.conditions]
    features = {text: space.encode_jointly(np.arange(N), [text] * N) for text in texts}
    files = [
        write(tmp_path / f"{i}.npz", [f"{text}/{name}" for name in gallery.table.names], features[text])
        for i, text in enumerate(texts)
    ]
    scorer = ConditionalFeatures(None if live else files).prepare(gallery)
    cosines = [unit(features[texts[code]]) for code in CONDITION]
    expected = torch.stack([items[row] @ items.T for items, row in zip(cosines, REFERENCE, strict=True)])
    close(scorer(queries), expected)
    lists = torch.tensor([[0, 5, 7], [1, 1, -1], [2, -1, -1], [11, 10, 9], [6, 4, 3]])
    found = scorer(queries, lists)
    close(found[lists >= 0], expected.gather(1, lists.clamp(min=0))[lists >= 0])


def test_conditions_that_a_file_lacks_are_named(tmp_path: Path) -> None:
    names = [f"color/folder/{i}.jpg" for i in range(3)]
    method = ConditionalFeatures(write(tmp_path / "c.npz", names, torch.randn(3, 4)))
    method.check(make_task(("color",)))
    with pytest.raises(NotApplicable, match=r"no features for .* expected names such as 'shape/0\.jpg'.*pairs=FILE"):
        method.check(make_task(("shape",)))
    for wrong in ("toy/0", "0.jpg"):
        with pytest.raises(CondsimError, match=f"a row is named '{wrong}'") as fault:
            ConditionalFeatures(write(tmp_path / "d.npz", [wrong], torch.randn(1, 4))).check(make_task(("shape",)))
        assert not isinstance(fault.value, NotApplicable), "a file of queries or images fits no other task either"
    with pytest.raises(CondsimError, match="expected names such as 'toy/0'") as fault:
        Joint(write(tmp_path / "e.npz", ["shape/0.jpg"], torch.randn(1, 4))).check(make_task(("shape",)))
    assert not isinstance(fault.value, NotApplicable)
    with pytest.raises(CondsimError, match=r"no features for the condition 'colour' .* Did you mean 'color'"):
        method.check(make_task(("color",), ("colour",)))


def test_texts_of_a_table_are_averaged_or_the_best_counts(
    tmp_path: Path, space: Space, gallery: Gallery, queries: Queries
) -> None:
    own = {0: ["a cup"], 1: ["a dog", "a cat"], 2: ["x"], 3: ["y", "z", "a cup"], 4: ["w"]}
    table = tmp_path / "texts.csv"
    table.write_text("query,text\n" + "".join(f"toy/{i},{text}\n" for i, several in own.items() for text in several))
    items = unit(gallery.features)
    features = [unit(space.encode_texts([f"photo of {text}" for text in several])) for several in own.values()]
    mean = torch.stack([unit(several.mean(dim=0)) @ items.T for several in features])
    best = torch.stack([(several @ items.T).amax(dim=0) for several in features])
    close(Texts(str(table), template="photo of {}").prepare(gallery)(queries), mean)
    close(Texts(str(table), "max", "photo of {}").prepare(gallery)(queries), best)
    with pytest.raises(CondsimError, match=r"set method\.table=FILE"):
        Texts().prepare(gallery)


def captions_of(folder: Path, counts: list[int]) -> tuple[str, list[list[str]]]:
    captions = [[f"caption {i} {k}" for k in range(count)] for i, count in enumerate(counts)]
    file = folder / "captions.csv"
    lines = [f"{i}.jpg,{text}\n" for i, several in enumerate(captions) for text in several]
    file.write_text("image,text\n" + "".join(lines))
    return str(file), captions


@pytest.mark.parametrize("normalize", [True, False])
def test_weimocir_is_its_equation(
    tmp_path: Path, space: Space, gallery: Gallery, queries: Queries, normalize: bool
) -> None:
    file, captions = captions_of(tmp_path, [1 + i % 3 for i in range(N)])
    ready: Callable[[Tensor], Tensor] = unit if normalize else lambda x: x.double()
    query = unit(0.7 * ready(queries.reference) + 0.3 * ready(queries.text))
    to_captions = torch.stack([(query @ unit(space.encode_texts(own)).T).mean(dim=1) for own in captions], dim=1)
    expected = 0.6 * to_captions + 0.4 * query @ unit(gallery.features).T
    method = WeiMoCIR(file, alpha=0.3, beta=0.6, normalize=normalize)
    close(method.prepare(gallery)(queries), expected)


def test_weimocir_with_the_reference_s_own_captions_as_in_the_released_code(
    tmp_path: Path, space: Space, gallery: Gallery, queries: Queries
) -> None:
    file, captions = captions_of(tmp_path, [2] * N)
    text, items = unit(queries.text), unit(gallery.features)
    expected = 0.4 * unit(0.7 * unit(queries.reference) + 0.3 * text) @ items.T
    for k in range(2):
        kth = unit(space.encode_texts([own[k] for own in captions]))
        expected += 0.3 * unit(0.7 * kth[REFERENCE] + 0.3 * text) @ kth.T
    method = WeiMoCIR(file, alpha=0.3, beta=0.6, caption_query="own")
    close(method.prepare(gallery)(queries), expected)


def test_captions_that_are_missing_or_uneven_are_named(tmp_path: Path) -> None:
    task = make_task(("color",))
    file, _ = captions_of(tmp_path, [1] * 4)
    with pytest.raises(CondsimError, match=r"no text for 1 of 5 images, such as '4\.jpg'"):
        WeiMoCIR(file).check(task)
    file, _ = captions_of(tmp_path, [1, 2, 1, 1, 1])
    WeiMoCIR(file).check(task)
    with pytest.raises(CondsimError, match="some images have 1 captions and others 2"):
        WeiMoCIR(file, caption_query="own").check(task)
