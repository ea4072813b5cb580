"""Sources of training triplets: mined ones, CIRR's train split, captions, and images that share labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from condsim.datasets import cirr as cirr_format
from condsim.datasets.annotations import keep_valid, read_list, validate
from condsim.datasets.grouping import word_codes
from condsim.datasets.image_files import NamedFiles, inner, relative_file
from condsim.harness.errors import CondsimError, did_you_mean
from condsim.harness.files.tables import cell_text, is_missing, label, read_frame
from condsim.harness.task import ImageTable, Rows
from condsim.harness.triplets import Triplets


def mined(
    table: str | Path,
    images: str | Path,
    share: float = 1.0,
    limit: int | None = None,
    conditions: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Triplets:
    """The triplets of ``condsim mine``, which are in random order: ``limit`` takes the first.

    The form of each condition is drawn by ``seed``: "full" ("on wooden table", the only form of the paper), "object"
    ("wooden table") and "head" ("table"), because conditions of benchmarks can be a bare object too (ours).
    """
    path = Path(table).expanduser()
    if not path.is_file():
        raise CondsimError(f"{path} does not exist (expected mined triplets): make it with `condsim mine`")
    forms = {"full": "condition", "object": "object", "head": "object_head"}
    shares = {"full": 1.0} if conditions is None else dict(conditions)
    for form, amount in shares.items():
        if form not in forms or amount < 0:
            raise CondsimError(f"triplets.mined.conditions: {form}={amount}. {did_you_mean(form, forms)}")
    if not sum(shares.values()):
        raise CondsimError("triplets.mined.conditions: at least one proportion must be above 0")
    columns = ["reference", "target", "subject", *forms.values()]
    frame = read_frame(path, "triplets that `condsim mine` wrote", columns)[:limit]
    odds = np.array([shares.get(form, 0.0) for form in forms])
    drawn = np.random.default_rng(seed).choice(len(forms), size=len(frame), p=odds / odds.sum())
    texts = frame[list(forms.values())].to_numpy()[np.arange(len(frame)), drawn]
    for column in (*columns[:3], None):
        cells = texts if column is None else frame[column].to_numpy()
        for row in np.flatnonzero([is_missing(cell) for cell in cells]):
            raise CondsimError(f"{path}: row {row + 1}: {column or 'condition'} is empty")
    triplets = _from_names("mined", Path(images), frame["reference"], texts, frame["target"], share)
    question = frame.assign(text=texts).groupby(["subject", "text"]).ngroup().to_numpy().astype(np.int64)
    return replace(triplets, question=question)


def cirr(
    annotations: str | Path, images: str | Path | None = None, split: str = "train", share: float = 1.0
) -> Triplets:
    """CIRR's annotated edits: (reference, caption, target_hard). ``images`` None: in the annotations' folder."""
    folder = cirr_format.annotation_root(Path(annotations).expanduser())
    root = inner(Path(images or annotations).expanduser(), "img_raw")
    files = cirr_format.read_split(folder, split)
    path = cirr_format.caption_file(folder, split)

    def read(i: int, raw: object) -> tuple[str, str, str]:
        query = validate(cirr_format.QueryWithTarget, raw, f"{path}: entry {i}")
        for image in (query.reference, query.target_hard):
            if image not in files:
                raise CondsimError(f"{path}: entry {i}: the image {image!r} is not in the split file")
        return files[query.reference], query.caption, files[query.target_hard]

    entries, _ = keep_valid(read_list(path, "a list of CIRR queries"), read, "raise")
    reference, caption, target = zip(*entries, strict=True)
    return _from_names("cirr", root, reference, caption, target, share)


def captioned(
    table: str | Path,
    images: str | Path | None = None,
    image: str = "image",
    caption: str = "caption",
    share: float = 1.0,
    limit: int | None = None,
    seed: int = 0,
) -> Triplets:
    """A caption is to find its image: queries of text alone. Raises CondsimError for a row without a caption.

    ``limit``: at most so many rows of the table, drawn by ``seed``, in its order; None: all.
    """
    path = Path(table).expanduser()
    frame = read_frame(path, "a table of image paths and captions", [image, caption])
    if limit is not None and limit < len(frame):
        frame = frame.iloc[np.sort(np.random.default_rng(seed).permutation(len(frame))[:limit])]
    root = Path(images or path.parent).expanduser()
    captions = []
    for row, cell in zip(frame.index, frame[caption], strict=True):
        if not (text := cell_text(cell, f"{path}: row {row + 1}: {caption}")):
            raise CondsimError(f"{path}: row {row + 1}: {caption}: there is no caption: remove the row")
        captions.append(text)
    names, files = _image_names(frame[image], path, image, root)
    return _from_names("captioned", root, None, captions, names, share, files)


def same_label(
    table: str | Path,
    labels: Sequence[str],
    images: str | Path | None = None,
    image: str = "image",
    pairs: int = 4,
    seed: int = 0,
    share: float = 1.0,
) -> Triplets:
    """An image is to find another that agrees with it in all the columns ``labels``: queries of an image alone.

    Each image is a query up to ``pairs`` times, with partners drawn by ``seed``. Images without a partner and those
    that lack a label are left out.
    """
    path = Path(table).expanduser()
    labels = [labels] if isinstance(labels, str) else list(labels)
    frame = read_frame(path, "a table of image paths and labels", [image, *labels])
    names, files = _image_names(frame[image], path, image, root := Path(images or path.parent).expanduser())
    kept = ~frame[labels].map(is_missing).any(axis=1).to_numpy(dtype=bool)
    cells = {column: [label(cell, f"{path}: {column}") for cell in frame[column].to_numpy()[kept]] for column in labels}
    names = names[kept]
    keys = pd.DataFrame(cells, dtype=object).groupby(labels, sort=True).ngroup().to_numpy().astype(np.int64)
    order = np.argsort(keys, kind="stable")
    starts = np.searchsorted(keys[order], keys)
    sizes = np.bincount(keys)[keys]
    place = np.empty(len(keys), dtype=np.int64)
    place[order] = np.arange(len(keys))
    able = np.flatnonzero(sizes > 1)
    if len(able) == 0:
        raise CondsimError(f"{path}: no two images agree in {', '.join(labels)}")
    query = np.repeat(able, pairs)
    step = np.random.default_rng(seed).integers(1, sizes[query])
    partner = order[starts[query] + (place[query] - starts[query] + step) % sizes[query]]
    pair = np.unique(np.stack([query, partner], axis=1), axis=0)
    return _from_names("same_label", root, names[pair[:, 0]], None, names[pair[:, 1]], share, files)


def _image_names(
    cells: pd.Series[Any], path: Path, column: str, root: Path
) -> tuple[NDArray[np.object_], Mapping[str, str]]:
    """[n] the images of a table's column in one spelling, and where those are whose files are spelt otherwise."""
    on_disk = NamedFiles(root)
    names = [
        relative_file(cell, f"{path}: row {row + 1}: {column}", root)
        for row, cell in zip(cells.index, cells, strict=True)
    ]
    for name in set(names):
        on_disk.find(name)
    return np.array(names, dtype=object), on_disk.files


def _from_names(
    name: str,
    root: Path,
    reference: Iterable[str] | None,
    text: Iterable[str] | None,
    target: Iterable[str],
    share: float,
    files: Mapping[str, str] | None = None,
) -> Triplets:
    target = list(target)
    missing: Rows = np.full(len(target), -1, dtype=np.int64)
    together, codes = word_codes([*(reference if reference is not None else ()), *target])
    texts, text_codes = word_codes(text) if text is not None else ((), missing)
    reference_codes = codes[: -len(target)] if reference is not None else missing
    images = ImageTable(root.expanduser(), tuple(together), files=files or {})
    return Triplets(name, images, tuple(texts), reference_codes, text_codes, codes[-len(target) :], share)
