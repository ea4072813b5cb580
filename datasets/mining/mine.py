"""Captions to triplets. Relations are written shard by shard, so an interrupted run parses only the missing shards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from condsim.datasets.mining.captions import Captioned, CaptionSource
from condsim.datasets.mining.concreteness import Rating, brysbaert
from condsim.datasets.mining.relations import Relation, RelationParser
from condsim.datasets.mining.triplets import Codes, sample_released, sample_triplets
from condsim.harness.engine.engine import Engine, Lost
from condsim.harness.engine.local import LocalEngine
from condsim.harness.errors import CondsimError
from condsim.harness.files.writing import atomic
from condsim.harness.terminal.console import console
from condsim.harness.terminal.progress import track

RELATIONS = pa.schema(
    [
        ("caption", pa.int64()),
        ("image", pa.string()),
        ("subject", pa.string()),
        ("predicate", pa.string()),
        ("object", pa.string()),
        ("object_head", pa.string()),
    ]
)
"""One row per relation: its caption's number and image, and its words."""
SHOWN = 100
"""Number of subjects in the summary, those with most triplets first."""


def mine_triplets(
    source: CaptionSource,
    parser: RelationParser,
    output: Path,
    *,
    concreteness: float = 4.8,
    count: int = 1_600_000,
    seed: int = 0,
    limit: int | None = None,
    shard: int = 20_000,
    rating: Rating | None = None,
    recipe: Literal["paper", "released"] = "paper",
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Write ``triplets.parquet`` and ``summary.json`` into ``output``; returns the summary.

    A relation is kept if the mean concreteness of its subject and object is at least ``concreteness`` (1 to 5; 0: no
    filter, unrated words too). ``recipe`` "released": all relations are kept, and a triplet if the mean over the six
    words of reference, target and text distractor is above ``concreteness``, where an unrated word counts -1; drawn as
    in ``sample_released``, with the distractor's image in the column "text_distractor".

    ``limit`` is the number of captions to read (None: all), ``shard`` the number of captions per file of relations. The
    same settings and ``seed`` give the same triplets. Another recipe, threshold, count or seed does not parse the
    captions again. Memory holds the captions of one shard, and a few numbers and an image name per kept relation.

    ``engine``: whose workers parse the shards; None: this process. The files are the same, byte for byte. This process
    reads the captions and writes all files, and holds one shard per worker, with the images that the source contains.

    Raises CondsimError if ``output`` holds relations of another source or parser, and for shards whose workers died.
    """
    folder = output / "relations"
    folder.mkdir(parents=True, exist_ok=True)
    _claim(output, {"captions": dict(source.identity), "parser": dict(parser.identity), "shard": shard, "limit": limit})
    captions = _parse_all(source, parser, output, folder, limit, shard, engine or LocalEngine())
    released, distractor = recipe == "released", None
    rating = rating or brysbaert(by_last_word=not released)
    kept = _read_kept(folder, rating, 0 if released else concreteness, unrated=-1 if released else np.nan)
    if released:
        reference, target, distractor = sample_released(
            kept.subject, kept.object, kept.image_code, kept.concreteness, concreteness, count, seed
        )
    else:
        reference, target = sample_triplets(kept.subject, kept.object, kept.image_code, count, seed)
    with atomic(output / "triplets.parquet") as scratch:
        _write_triplets(scratch, kept, reference, target, distractor)
    subjects, triplets = np.unique(kept.subject[reference], return_counts=True)
    by_subject = Counter(dict(zip((kept.words[code] for code in subjects), triplets.tolist(), strict=True)))
    relations_of = np.bincount(kept.subject, minlength=len(kept.words))
    summary = {
        "captions": captions,
        "relations": kept.relations,
        "rated": kept.rated,
        "kept": len(kept.subject),
        "recipe": recipe,
        "concreteness": concreteness,
        "seed": seed,
        "images": None if source.images is None else str(source.images),
        "triplets": len(reference),
        "subjects": len(by_subject),
        "by_subject": {
            word: {"relations": int(relations_of[kept.codes[word]]), "triplets": triplets}
            for word, triplets in sorted(by_subject.items(), key=lambda pair: (-pair[1], pair[0]))[:SHOWN]
        },
    }
    _write_text(output / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary


def _claim(output: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings into ``output``. Raises CondsimError if it holds shards of other settings."""
    file = output / "settings.json"
    text = json.dumps(settings, indent=2, sort_keys=True, default=str) + "\n"
    if file.is_file() and file.read_text(encoding="utf-8") != text:
        raise CondsimError(
            f"{output} holds relations that were parsed with other settings (see {file}): choose another output or "
            "delete that folder"
        )
    _write_text(file, text)


def _parse_all(
    source: CaptionSource,
    parser: RelationParser,
    output: Path,
    folder: Path,
    limit: int | None,
    shard: int,
    engine: Engine,
) -> int:
    """Parse the captions that no shard holds yet; returns the number of all captions. The last shard may be shorter."""
    done = {int(path.stem.removeprefix("part-")): _captions_of(path) for path in folder.glob("part-*.parquet")}
    missing = next(number for number in range(len(done) + 1) if number not in done)
    if missing == len(done) and missing and done[missing - 1] < shard:
        return sum(done.values())
    waiting: dict[int, list[Captioned]] = {}
    lost: list[str] = []

    def shards() -> Iterator[tuple[int, tuple[str, ...]]]:
        """The number and the captions of each shard that is missing."""
        number, rows = missing, source.read(missing * shard)
        while limit is None or number * shard < limit:
            captions = list(islice(rows, shard if limit is None else min(shard, limit - number * shard)))
            if number not in done:
                waiting[number] = captions
                yield number, tuple(captioned.caption for captioned in captions)
            number += 1
            if len(captions) < shard:
                break

    with track(limit or 0, "parsing captions") as advance:
        advance(sum(done.values()))
        for (number, _), relations in engine.work(partial(_start, parser), shards()):
            captions = waiting.pop(number)
            if isinstance(relations, Lost):
                lost.append(
                    f"  captions {number * shard:,} to {number * shard + len(captions) - 1:,}: {relations.reason}"
                )
                continue
            table = _table(captions, relations, number * shard, output, source.images is None)
            table = table.replace_schema_metadata({"captions": str(len(captions))})
            with atomic(folder / f"part-{number:05d}.parquet") as scratch:
                pq.write_table(table, scratch)
            done[number] = len(captions)
            advance(len(captions))
    if lost:
        again = "Run the same command again: it parses these captions alone."
        raise CondsimError("\n".join([f"the workers that parsed {len(lost)} shards died:", *lost, again]))
    if blank := getattr(source, "blank", 0):
        console.print(f"left out {blank:,} rows without a caption")
    return sum(done.values())


def _start(parser: RelationParser) -> Callable[[tuple[int, Sequence[str]]], list[tuple[Relation, ...]]]:
    return lambda shard: list(parser(shard[1]))


def _captions_of(path: Path) -> int:
    metadata = pq.read_schema(path).metadata or {}
    return int(metadata[b"captions"])


def _table(
    captions: Sequence[Captioned], parsed: Sequence[tuple[Relation, ...]], first: int, output: Path, save: bool
) -> pa.Table:
    """The relations of consecutive captions. Where ``save``, the images with relations are written."""
    columns: dict[str, list[Any]] = {name: [] for name in RELATIONS.names}
    for number, (captioned, relations) in enumerate(zip(captions, parsed, strict=True), first):
        for relation in relations:
            row = (number, captioned.image, relation.subject, relation.predicate, relation.object, relation.object_head)
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
        if save and relations and captioned.content is not None:
            path = output / "images" / captioned.image
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(captioned.content)
    return pa.table(columns, schema=RELATIONS)


@dataclass(frozen=True)
class Kept:
    """The relations that passed the filter, as indices into ``words``, and the names of their images."""

    subject: Codes
    predicate: Codes
    object: Codes
    object_head: Codes
    image_code: Codes
    """The index of the relation's image: no triplet joins two captions of one image."""
    concreteness: np.ndarray[Any, np.dtype[np.float32]]
    image: pa.ChunkedArray
    words: list[str]
    codes: Mapping[str, int]
    relations: int
    rated: int


def _read_kept(folder: Path, rating: Rating, threshold: float, unrated: float) -> Kept:
    codes: dict[str, int] = {}
    numbers: dict[str, list[Codes]] = {name: [] for name in ("subject", "predicate", "object", "object_head")}
    scores, images = [], []
    relations = rated = 0
    for table in _tables(folder):
        subject, object_ = (_ratings(table[name], rating) for name in ("subject", "object_head"))
        known = ~np.isnan(subject + object_)
        mean = (np.nan_to_num(subject, nan=unrated) + np.nan_to_num(object_, nan=unrated)) / 2
        keep = np.flatnonzero(known & (mean >= threshold)) if threshold > 0 else np.arange(len(table))
        relations += len(table)
        rated += int(known.sum())
        table = table.take(keep)
        for name, parts in numbers.items():
            parts.append(_codes(table[name], codes))
        scores.append(mean[keep].astype(np.float32))
        images += table["image"].chunks
    joined = {name: np.concatenate(parts) if parts else np.zeros(0, np.int64) for name, parts in numbers.items()}
    image = pa.chunked_array(images, pa.string())
    return Kept(
        **joined,
        image_code=_codes(image, {}),
        concreteness=np.concatenate(scores) if scores else np.zeros(0, np.float32),
        image=image,
        words=list(codes),
        codes=codes,
        relations=relations,
        rated=rated,
    )


def _tables(folder: Path) -> Iterator[pa.Table]:
    for path in sorted(folder.glob("part-*.parquet")):
        yield pq.read_table(path, schema=RELATIONS)


def _ratings(words: pa.ChunkedArray, rating: Rating) -> np.ndarray[Any, np.dtype[np.float64]]:
    """[n] the rating of each word; NaN: not rated."""
    encoded = words.combine_chunks().dictionary_encode()
    values = np.array([np.nan if (r := rating(word)) is None else r for word in encoded.dictionary.to_pylist()])
    return values[encoded.indices.to_numpy(zero_copy_only=False)] if len(values) else np.zeros(0)


def _codes(words: pa.ChunkedArray, codes: dict[str, int]) -> Codes:
    encoded = words.combine_chunks().dictionary_encode()
    mapped = np.array([codes.setdefault(word, len(codes)) for word in encoded.dictionary.to_pylist()], dtype=np.int64)
    return mapped[encoded.indices.to_numpy(zero_copy_only=False)] if len(mapped) else np.zeros(0, np.int64)


def _write_triplets(
    path: Path, kept: Kept, reference: Codes, target: Codes, distractor: Codes | None = None, batch: int = 100_000
) -> None:
    """Write one row per triplet: the names of its images, its condition, and the relations behind it."""
    words = pa.array(kept.words, pa.string())
    writer: pq.ParquetWriter | None = None
    for start in range(0, max(1, len(reference)), batch):
        references, targets = reference[start : start + batch], target[start : start + batch]
        drawn = [references, targets] + ([] if distractor is None else [distractor[start : start + batch]])

        def word(codes: Codes) -> pa.Array:
            return words.take(pa.array(codes))

        predicate, object_ = word(kept.predicate[targets]), word(kept.object[targets])
        table = pa.table(
            {
                "reference": kept.image.take(pa.array(references)),
                "target": kept.image.take(pa.array(targets)),
                "condition": pc.utf8_trim_whitespace(pc.binary_join_element_wise(predicate, object_, " ")),
                "subject": word(kept.subject[references]),
                "reference_predicate": word(kept.predicate[references]),
                "reference_object": word(kept.object[references]),
                "predicate": predicate,
                "object": object_,
                "object_head": word(kept.object_head[targets]),
                "concreteness": np.mean([kept.concreteness[codes] for codes in drawn], axis=0),
            }
            | ({"text_distractor": kept.image.take(pa.array(drawn[2]))} if distractor is not None else {})
        )
        if writer is None:
            writer = pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def _write_text(path: Path, text: str) -> None:
    with atomic(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
