"""Captions to triplets, with the real parser and the real ratings."""

import csv
import io
import json
import pickle
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from condsim.datasets.mining.captions import FolderCaptions, HubCaptions, TableCaptions
from condsim.datasets.mining.concreteness import brysbaert
from condsim.datasets.mining.mine import mine_triplets
from condsim.datasets.mining.relations import MODEL, Relation, SceneGraphRelations
from condsim.datasets.mining.triplets import sample_released, sample_triplets
from condsim.datasets.shapes.captions import caption_scenes
from condsim.datasets.shapes.world import BACKGROUNDS, COLORS, PATTERNS, SHAPES, SIZES, TEXTURES, sample_scenes
from condsim.harness.engine.engine import Item, Lost, Result
from condsim.harness.engine.local import LocalEngine
from condsim.harness.errors import CondsimError

pytestmark = pytest.mark.slow

Said = tuple[str, str, str]
"""Subject, predicate, object, as from ``SceneGraphRelations`` with objects="phrase", attributes and lists."""

_HEADS = (*SHAPES, "object", "thing", "shape", "figure")
_WORDS = "|".join((*COLORS, *TEXTURES, *SIZES))
_MENTION = rf"(?:(?:{_WORDS}|{'|'.join(SHAPES)}) )*(?:{'|'.join(_HEADS)})\b"
_GROUND = rf"(on|with) an? ((?:(?:{'|'.join((*PATTERNS, *BACKGROUNDS))}) )+)background"
_DENIED = re.compile(r"\b(?:no|without|remove)\b")
_EDITED = re.compile(rf"\b({'|'.join(SHAPES)})(?: is| to)? ({_WORDS})$")
_FACETS = re.compile(r"\b(?:color|texture|size|shape)(?:$|:| is )|^shape |^the background is |^background: ")


def said_relations(caption: str) -> frozenset[Said]:
    """Every relation that a caption of ``datasets.shapes.captions`` states.

    Relations: an adjective of a noun, before it ("red circle") or after it ("the circle is red"); the position of one
    object relative to another; objects in one list; the background of an object. A negation and a value without a noun
    state no relation.
    """
    if _DENIED.search(caption):
        return frozenset()
    ground = re.search(_GROUND, caption)
    rest = caption[: ground.start()] if ground else caption
    mentions = [] if _FACETS.search(rest) else re.findall(_MENTION, rest)
    heads = [mention.split()[-1] for mention in mentions]
    said: set[Said] = set()
    for mention in mentions:
        *adjectives, head = mention.split()
        said |= {(head, "", adjective) for adjective in adjectives}
    if edit := _EDITED.search(rest):
        said.add((edit[1], "", edit[2]))
    place = re.search(r" (left of|right of|above|below) ", rest)
    if place and len(mentions) == 2:
        said.add((heads[0], place[1], mentions[1]))
    elif len(mentions) > 1:
        said |= {(a.split()[-1], "and", b) for a, b in permutations(mentions, 2)}
    for values in re.findall(rf"((?:(?:{'|'.join((*PATTERNS, *BACKGROUNDS))}) )+)background", caption):
        said |= {("background", "", value) for value in values.split()}
    if ground:
        said |= {(head, ground[1], f"{ground[2]}background") for head in heads}
    return frozenset(said)


def precision_recall(pairs: Iterable[tuple[frozenset[Said], frozenset[Said]]]) -> tuple[float, float]:
    """Precision and recall of parsed relations over all captions, from the pairs (parsed, stated) of each caption."""
    parsed = stated = correct = 0
    for parsed_relations, stated_relations in pairs:
        parsed, stated = parsed + len(parsed_relations), stated + len(stated_relations)
        correct += len(parsed_relations & stated_relations)
    return correct / max(1, parsed), correct / max(1, stated)


CAPTIONS = [
    "a horse in a meadow",
    "a horse on a canvas",
    "a man riding a horse",
    "a dog in a meadow",
    "a brown dog next to a fence",
    "you at the party yesterday",
    "a horse behind a fence",
    "two dogs on a sofa",
]


@pytest.fixture(scope="module")
def parser() -> SceneGraphRelations:
    return SceneGraphRelations()


def relations(parser: SceneGraphRelations, caption: str) -> set[tuple[str, str, str]]:
    return {(r.subject, r.predicate, r.object) for r in next(iter(parser([caption])))}


def test_relations_of_the_papers_example(parser: SceneGraphRelations) -> None:
    assert relations(parser, "a horse on a canvas") == {("horse", "on", "canvas")}
    assert ("man", "riding", "horse") in relations(parser, "a man riding a horse on the beach")
    assert relations(parser, "Two dogs on a sofa") == {("dog", "on", "sofa")}  # nouns are lemmas, lower case
    assert relations(parser, "they sit on it") == set()  # pronouns are no entities
    assert relations(parser, "") == set()


def test_our_extensions_add_attributes_lists_and_phrases() -> None:
    ours = SceneGraphRelations(objects="phrase", compounds=False, attributes=True, lists=True, ignore=["photo"])
    assert ours.__reduce__() == (SceneGraphRelations, ("phrase", False, True, True, {"photo"}, MODEL, 256))
    found = relations(ours, "a photo of a striped red circle, a star and a large square on a wavy gray background")
    assert {("circle", "", "striped"), ("circle", "", "red"), ("square", "", "large")} <= found
    assert {("circle", "and", "star"), ("star", "and", "striped red circle"), ("star", "and", "large square")} <= found
    assert ("square", "on", "wavy gray background") in found
    assert not any("photo" in (subject, object_) for subject, _, object_ in found)
    assert ("circle", "", "red") in relations(ours, "the circle is red")


def test_precision_and_recall_on_captions_whose_relations_are_known() -> None:
    ours = SceneGraphRelations(
        objects="phrase", compounds=False, attributes=True, lists=True,
        ignore=["photo", "picture", "image", "drawing", "scene", "color", "texture", "size"],
    )  # fmt: skip
    rng = np.random.default_rng(5)
    scenes = sample_scenes(rng, 400, "train")
    captions = caption_scenes(rng, scenes, np.zeros(400, dtype=bool), full=0.5).texts
    parsed = (frozenset((r.subject, r.predicate, r.object) for r in found) for found in ours(captions))
    precision, recall = precision_recall(zip(parsed, map(said_relations, captions), strict=True))
    print(f"precision {precision:.3f}, recall {recall:.3f}")
    assert precision > 0.9
    assert recall > 0.87


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("a large striped red circle", {("circle", "", "large"), ("circle", "", "striped"), ("circle", "", "red")}),
        ("a red circle left of a star", {("circle", "", "red"), ("circle", "left of", "star")}),
        ("a circle and a red star", {("circle", "and", "red star"), ("star", "and", "circle"), ("star", "", "red")}),
        ("a circle on a gray background", {("circle", "on", "gray background"), ("background", "", "gray")}),
        ("make the circle red", {("circle", "", "red")}),
        ("there is no red circle", set()),
        ("color red", set()),
        ("a triangle object", {("object", "", "triangle")}),
    ],
)
def test_the_known_truth_is_what_a_reader_would_say(caption: str, said: set[tuple[str, str, str]]) -> None:
    assert said_relations(caption) == said


def test_ratings_are_the_published_ones() -> None:
    rating = brysbaert()
    assert rating("horse") == 5.0
    assert rating("apple") == 5.0
    assert rating("canvas") == 4.78
    assert rating("yesterday") == 3.0
    assert rating("olive tree") == rating("tree")
    assert rating("qwrtzp") is None


def brute_force_pairs(
    subject: NDArray[np.int64], object_: NDArray[np.int64], image: NDArray[np.int64]
) -> set[tuple[int, int]]:
    n = range(len(subject))
    return {
        (i, j) for i in n for j in n if subject[i] == subject[j] and object_[i] != object_[j] and image[i] != image[j]
    }


def test_triplets_have_one_subject_two_objects_and_two_images_and_all_of_them_are_found() -> None:
    rng = np.random.default_rng(0)
    subject, object_, image = rng.integers(4, size=30), rng.integers(5, size=30), rng.integers(20, size=30)
    possible = brute_force_pairs(subject, object_, image)
    reference, target = sample_triplets(subject, object_, image, 10_000, seed=1)
    pairs = list(zip(reference.tolist(), target.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert set(pairs) <= possible
    assert len(pairs) > 0.9 * len(possible)
    few = sample_triplets(subject, object_, image, 50, seed=1)
    assert len(few[0]) == 50
    np.testing.assert_array_equal(few[0], sample_triplets(subject, object_, image, 50, seed=1)[0])
    assert (few[0] != sample_triplets(subject, object_, image, 50, seed=2)[0]).any()


def test_every_partner_is_as_likely_as_any_other() -> None:
    subject, image = np.zeros(8, dtype=np.int64), np.arange(8)
    object_ = np.array([0, 0, 0, 1, 2, 2, 3, 3])
    counts = np.zeros((8, 8))
    for seed in range(400):
        reference, target = sample_triplets(subject, object_, image, 10, seed)
        np.add.at(counts, (reference, target), 1)
    possible = object_[:, None] != object_[None, :]
    assert (counts[~possible] == 0).all()
    assert counts[possible].min() > 0.5 * counts[possible].mean()


def test_the_released_recipe_draws_as_its_code() -> None:
    """One subject with 5 relations of object 0, one of object 1, one of object 2, and a stranger with object 1."""
    subject = np.array([0, 0, 0, 0, 0, 0, 0, 1])
    object_ = np.array([0, 0, 0, 0, 0, 1, 2, 1])
    image = np.arange(8)
    concrete = np.full(8, 5.0, dtype=np.float32)
    reference, target, distractor = sample_released(subject, object_, image, concrete, 4.8, 6000, seed=0)
    assert len(reference) == 6000
    assert (subject[reference] == 0).all()  # the other subject has neither 5 images nor 2 objects
    assert (subject[target] == 0).all()
    assert (object_[reference] != object_[target]).all()
    assert (object_[distractor] == object_[target]).all()
    # objects are uniform: for a reference with object 1, object 2 is as likely as the five relations of object 0
    of_one = target[reference == 5]
    assert np.mean(object_[of_one] == 2) == pytest.approx(0.5, abs=0.06)
    assert np.bincount(reference, minlength=8)[:7] / 6000 == pytest.approx(np.full(7, 1 / 7), abs=0.02)
    assert set(distractor[target == 5]) == {5, 7}  # the target's own image may be drawn, as in the code


def test_the_released_filter_is_on_the_mean_of_all_three_and_strict() -> None:
    subject, object_, image = np.zeros(6, dtype=np.int64), np.arange(6), np.arange(6)
    concrete = np.array([5.0, 5.0, 5.0, 4.3, 5.0, -1.0], dtype=np.float32)
    drawn = sample_released(subject, object_, image, concrete, 4.6, 200, seed=0)
    means = np.mean([concrete[codes] for codes in drawn], axis=0)
    assert len(means) == 200
    assert (means > 4.6).all()
    assert 5 not in np.concatenate(drawn)  # one unrated word counts -1 and sinks the triplet
    assert 3 in drawn[0]  # its own mean is below the threshold, that of its triplet is not
    assert 3 not in drawn[1]  # as a target it counts twice: here its object has no other text distractor
    assert len(sample_released(subject, object_, image, concrete, 5.0, 20, seed=0)[0]) == 0


def test_no_pair_at_all_gives_no_triplet() -> None:
    same = np.zeros(5, dtype=np.int64)
    assert len(sample_triplets(same, same, np.arange(5), 10, 0)[0]) == 0
    assert len(sample_triplets(np.arange(5), np.arange(5), np.arange(5), 10, 0)[0]) == 0
    assert len(sample_triplets(same, np.arange(5), same, 10, 0)[0]) == 0


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = {"image": [f"{i}.jpg" for i in range(len(CAPTIONS))], "caption": CAPTIONS}
    pd.DataFrame(rows).to_csv(tmp_path / "captions.csv", index=False)
    return tmp_path / "captions.csv"


def test_triplets_say_what_the_captions_say(table: Path, parser: SceneGraphRelations, tmp_path: Path) -> None:
    summary = mine_triplets(TableCaptions(table), parser, tmp_path / "out", concreteness=4.8, count=100)
    frame = pd.read_parquet(tmp_path / "out/triplets.parquet")
    mined = {(r.reference, r.condition, r.target) for r in frame.itertuples()}
    # horse: in meadow (0), on canvas (1), behind fence (6), of which all are concrete enough
    assert {t for t in mined if t[0] == "0.jpg"} == {
        ("0.jpg", "on canvas", "1.jpg"),
        ("0.jpg", "behind fence", "6.jpg"),
    }
    assert ("3.jpg", "on sofa", "7.jpg") in mined  # dog and dogs are one subject
    assert not any("yesterday" in condition or "party" in condition for _, condition, _ in mined)  # type: ignore[operator]
    assert (frame.concreteness >= 4.8).all()
    assert summary["captions"] == len(CAPTIONS)
    assert summary["triplets"] == len(frame) == 6 + 6
    assert summary["by_subject"]["horse"] == {"relations": 3, "triplets": 6}
    assert summary["relations"] >= summary["rated"] >= summary["kept"]
    assert json.loads((tmp_path / "out/summary.json").read_text()) == summary


def test_the_released_recipe_writes_text_distractors(tmp_path: Path, parser: SceneGraphRelations) -> None:
    places = ("meadow", "field", "garden", "river", "beach", "garden")
    rows = [(f"{i}.jpg", f"a horse in a {place}") for i, place in enumerate(places)] + [("9.jpg", "a dog in a garden")]
    pd.DataFrame(rows, columns=["image", "caption"]).to_csv(tmp_path / "captions.csv", index=False)
    summary = mine_triplets(
        TableCaptions(tmp_path / "captions.csv"), parser, tmp_path / "out", concreteness=3, count=50, recipe="released"
    )
    frame = pd.read_parquet(tmp_path / "out/triplets.parquet")
    assert (summary["recipe"], summary["triplets"], len(frame)) == ("released", 50, 50)
    object_of = {name: caption.rsplit(" ", 1)[-1] for name, caption in rows}
    assert [object_of[name] for name in frame.text_distractor] == frame.object.tolist()
    assert set(frame.subject) == {"horse"}


def test_the_threshold_is_on_the_mean_of_subject_and_object(
    table: Path, parser: SceneGraphRelations, tmp_path: Path
) -> None:
    ratings = {"horse": 5.0, "dog": 4.0, "meadow": 3.0, "canvas": 4.0, "fence": 2.0, "sofa": None}
    summary = mine_triplets(
        TableCaptions(table),
        parser,
        tmp_path / "out",
        concreteness=3.5,
        count=100,
        rating=lambda word: ratings.get(word),
    )
    kept = pd.read_parquet(tmp_path / "out/triplets.parquet")
    assert set(kept.subject) == {"horse"}  # dog in meadow is the only relation of a dog that is left
    assert summary["kept"] == 4  # horse with meadow 4.0, canvas 4.5, fence 3.5; dog with meadow 3.5
    everything = mine_triplets(
        TableCaptions(table), parser, tmp_path / "out", concreteness=0, count=100, rating=lambda word: ratings.get(word)
    )
    assert everything["kept"] == everything["relations"]


class Counting:
    """A parser that is counted, and may give up after some captions, as a killed process would."""

    identity = {"parser": "counting"}  # noqa: RUF012

    def __init__(self, parser: SceneGraphRelations, patience: int = 10**9) -> None:
        self.parser, self.patience, self.seen = parser, patience, 0

    def __call__(self, captions: Iterable[str]) -> Any:
        for caption in captions:
            self.seen += 1
            if self.seen > self.patience:
                raise KeyboardInterrupt
            yield from self.parser([caption])


def test_a_stopped_run_continues_and_ends_in_the_same_bytes(
    table: Path, parser: SceneGraphRelations, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"concreteness": 0, "count": 20, "shard": 2, "seed": 4}
    whole = Counting(parser)
    mine_triplets(TableCaptions(table), whole, tmp_path / "whole", **settings)
    assert whole.seen == len(CAPTIONS)
    for patience in (3, 3):
        with pytest.raises(KeyboardInterrupt):
            mine_triplets(TableCaptions(table), Counting(parser, patience), tmp_path / "stopped", **settings)
    rest = Counting(parser)
    mine_triplets(TableCaptions(table), rest, tmp_path / "stopped", **settings)
    assert rest.seen == len(CAPTIONS) - 4
    for name in ("triplets.parquet", "summary.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    again = Counting(parser)
    mine_triplets(TableCaptions(table), again, tmp_path / "whole", **{**settings, "seed": 5})
    assert again.seen == 0  # another draw parses nothing again


class Words:
    """A parser of "SUBJECT in OBJECT"."""

    identity = {"parser": "words"}  # noqa: RUF012

    def __call__(self, captions: Iterable[str]) -> Iterator[tuple[Relation, ...]]:
        for caption in captions:
            first, *_, last = caption.split(" ")
            yield (Relation(first, "in", last, last),)


class Backwards(LocalEngine):
    """Three workers whose first results come last first; that of place ``lost`` dies. All travels by pickle."""

    def __init__(self, lost: int = -1) -> None:
        self.lost = lost

    def work(
        self, make: Callable[[], Callable[[Item], Result]], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result | Lost]]:
        do, waiting = pickle.loads(pickle.dumps(make))(), iter(items)
        while three := list(islice(waiting, 3)):
            for place in reversed(range(len(three))):
                result: Result = pickle.loads(pickle.dumps(do(pickle.loads(pickle.dumps(three[place])))))
                yield three[place], Lost("it ran out of memory") if place == self.lost else result
            self.lost = -1


def test_workers_of_an_engine_leave_the_bytes_of_one_process(table: Path, tmp_path: Path) -> None:
    def mine(folder: str, engine: LocalEngine | None = None) -> dict[str, bytes]:
        settings: dict[str, Any] = {"concreteness": 0, "count": 9, "shard": 2, "rating": lambda word: 5.0}
        mine_triplets(TableCaptions(table), Words(), tmp_path / folder, engine=engine, **settings)
        return {path.name: path.read_bytes() for path in (tmp_path / folder).rglob("*") if path.is_file()}

    alone = mine("alone")
    assert mine("shared", Backwards()) == alone
    with pytest.raises(CondsimError, match=r"1 shards died:\n  captions 2 to 3: it ran out of memory\nRun the same"):
        mine("again", Backwards(lost=1))
    shards = sorted(path.name for path in (tmp_path / "again" / "relations").iterdir())
    assert shards == [f"part-0000{number}.parquet" for number in (0, 2, 3, 4)], "the others are written"
    assert mine("again", Backwards()) == alone


def test_relations_of_other_settings_are_not_mixed_in(table: Path, parser: SceneGraphRelations, tmp_path: Path) -> None:
    mine_triplets(TableCaptions(table), parser, tmp_path / "out", count=5)
    with pytest.raises(CondsimError, match="parsed with other settings"):
        mine_triplets(TableCaptions(table), parser, tmp_path / "out", count=5, limit=3)


def jpeg(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(out, "JPEG")
    return out.getvalue()


def test_every_source_gives_the_same_captions(tmp_path: Path, table: Path) -> None:
    expected = [(f"{i}.jpg", caption) for i, caption in enumerate(CAPTIONS)]
    frame = pd.read_csv(table)
    frame.to_parquet(tmp_path / "c.parquet")
    frame.to_csv(tmp_path / "c.tsv", sep="\t", index=False)
    frame.to_json(tmp_path / "c.jsonl", orient="records", lines=True)
    for name in ("captions.csv", "c.parquet", "c.tsv", "c.jsonl"):
        source = TableCaptions(tmp_path / name)
        assert [(c.image, c.caption) for c in source.read()] == expected
        assert [c.image for c in source.read(start=5)] == ["5.jpg", "6.jpg", "7.jpg"]
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, caption in enumerate(CAPTIONS):
        (folder / f"{i}.jpg").write_bytes(jpeg(i))
        (folder / f"{i}.txt").write_text(caption + "\n")
    assert [(c.image, c.caption) for c in FolderCaptions(folder).read()] == expected
    assert [c.image for c in FolderCaptions(folder).read(start=6)] == ["6.jpg", "7.jpg"]


def test_web_dataset_shards_are_streamed_and_the_images_of_kept_relations_saved(
    tmp_path: Path, parser: SceneGraphRelations
) -> None:
    for number in range(2):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            for i in range(4 * number, 4 * number + 4):
                for suffix, content in (("jpg", jpeg(20 * i)), ("txt", CAPTIONS[i].encode())):
                    member = tarfile.TarInfo(f"{i:04d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    source = HubCaptions({"path": "webdataset", "data_files": [str(tmp_path / f"{i}.tar") for i in range(2)]})
    read = list(source.read())
    assert [c.caption for c in read] == CAPTIONS
    assert read[3].content == jpeg(60)
    assert [c.caption for c in source.read(start=6)] == CAPTIONS[6:]
    mine_triplets(source, parser, tmp_path / "out", count=100)
    frame = pd.read_parquet(tmp_path / "out/triplets.parquet")
    for name in {*frame.reference, *frame.target}:
        number = int(Path(name).stem)
        assert (tmp_path / "out/images" / name).read_bytes() == jpeg(20 * number)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "does not exist"),
        ("c.csv", "image,captoin\n1.jpg,a\n", "Did you mean 'captoin'"),
        ("c.jsonl", '{"image": "1.jpg"}\n', "line 1"),
        ("c.jsonl", "{not json\n", "line 1"),
        ("c.parquet", "no parquet", "no readable parquet"),
    ],
)
def test_tables_that_cannot_be_read_are_named(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(CondsimError, match=message):
        list(TableCaptions(tmp_path / name).read())


def test_a_caption_without_its_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a horse")
    with pytest.raises(CondsimError, match=r"a\.txt: there is no image"):
        list(FolderCaptions(tmp_path).read())


TSV = 'image\tcaption\na.jpg\tA red cup\nb.jpg\t"Red cup with a 5" plate\nc.jpg\tA cat on "the" sofa\nd.jpg\t"stop"\n'


def test_a_quote_in_a_tsv_is_a_letter(tmp_path: Path) -> None:
    rows = "".join(f"{i}.jpg\tcaption {i}\n" for i in range(100))
    (tmp_path / "c.tsv").write_text(TSV + rows)
    captions = [captioned.caption for captioned in TableCaptions(tmp_path / "c.tsv").read()]
    assert captions[:4] == ["A red cup", '"Red cup with a 5" plate', 'A cat on "the" sofa', '"stop"']
    assert len(captions) == 104


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", b"image,caption\na.jpg,Un caf\xe9\n", r"c\.csv: row 1 \(line 2\) is not UTF-8"),
        ("c.tsv", b"image\tcaption\na.jpg\tx\nb.jpg\tUn caf\xe9\n", r"c\.tsv: row 2 \(line 3\) is not UTF-8"),
        ("c.csv", b"image,caption\na.jpg\n", r"c\.csv: row 1 \(line 2\) has 1 cell, but the header has 2"),
        ("c.tsv", b"image\tcaption\na.jpg\ta\tb\n", r"c\.tsv: row 1 \(line 2\) has 3 cells, but the header has 2"),
        (
            "c.csv",
            b'image,caption\na.jpg,x\nb.jpg,"Red cup\nc.jpg,x\n',
            r"malformed CSV in row 2, which begins at line 3",
        ),
        ("c.csv", b"image,caption\n,x\n", r"row 1: image: expected the path of an image file, found an empty cell"),
        ("c.csv", b"image,caption\n../a.jpg,x\n", r"row 1: image: the path '../a.jpg' leads out"),
        ("c.csv", b"image,caption,caption\na.jpg,x,y\n", r"duplicate column 'caption'"),
        ("c.csv", "image,caption\na.jpg,x\n".encode("utf-16"), r"c\.csv: the header is not UTF-8"),
        ("c.jsonl", b'{"image": "a.jpg", "caption": "Un caf\xe9"}\n', r"c\.jsonl, line 1: it is not UTF-8 text"),
        ("c.jsonl", b"[" * 100_000, r"c\.jsonl, line 1: the JSON is nested too deeply"),
        ("c.jsonl", b"[1, 2]\n", r"c\.jsonl, line 1: expected a JSON object"),
        ("c.jsonl", b'{"image": "a.jpg", "caption": ["x"]}\n', r"row 1: caption: expected a caption as text"),
        ("c.jsonl", b'{"image": "a.jpg", "caption": 3}\n', r"row 1: caption: expected a caption as text, found 3"),
        ("c.jsonl", b'{"image": "a.jpg", "caption": "\\ud800"}\n', r"row 1: caption: the caption is not UTF-8"),
    ],
)
def test_a_bad_row_of_captions_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CondsimError, match=message):
        list(TableCaptions(tmp_path / name).read())


def test_a_field_may_be_long_and_the_process_keeps_its_limit(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    (tmp_path / "c.csv").write_text("image,caption\na.jpg," + "x" * 200_000 + "\n")
    (captioned,) = TableCaptions(tmp_path / "c.csv").read()
    assert len(captioned.caption) == 200_000
    assert csv.field_size_limit() == limit


def test_rows_without_a_caption_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("\ufeffimage, caption\na.jpg,red\nb.jpg,\nc.jpg, \u00a0\nd.jpg,None\n")
    frame = pd.DataFrame({"image": list("abcd"), "caption": ["red", None, float("nan"), "None"]})
    frame.to_parquet(tmp_path / "c.parquet")
    (tmp_path / "c.jsonl").write_text(
        '{"image": "a", "caption": "red"}\n\n{"image": "b", "caption": null}\n{"image": "c", "caption": NaN}\n'
        '{"image": "d", "caption": "None"}\n'
    )
    for name in ("c.csv", "c.parquet", "c.jsonl"):
        source = TableCaptions(tmp_path / name)
        assert [captioned.caption for captioned in source.read()] == ["red", "None"], "a text is a text"
        assert source.blank == 2
        assert [captioned.image[0] for captioned in source.read(start=1)] == ["d"]


def test_a_streamed_data_set_without_some_captions(tmp_path: Path) -> None:
    frame = pd.DataFrame({"jpg": ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], "txt": ["red", None, " ", "a cup"]})
    frame.to_parquet(tmp_path / "c.parquet")
    source = HubCaptions({"path": "parquet", "data_files": str(tmp_path / "c.parquet")})
    assert [(c.image, c.caption) for c in source.read()] == [("a.jpg", "red"), ("d.jpg", "a cup")]
    assert source.blank == 2
    assert [c.image for c in source.read(start=1)] == ["d.jpg"]


@pytest.mark.parametrize(
    ("caption", "message"),
    [(b"caf\xe9", "row 1: txt: byte 3 of the caption is not UTF-8"), (7, "caption as text, found 7")],
)
def test_a_streamed_caption_that_is_no_text_is_named(tmp_path: Path, caption: object, message: str) -> None:
    pd.DataFrame({"jpg": ["a.jpg"], "txt": [caption]}).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(CondsimError, match=message):
        list(HubCaptions({"path": "parquet", "data_files": str(tmp_path / "c.parquet")}).read())


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("A.JPG", "A.txt"),
        ("a.jfif", "a.TXT"),
        ("a.b.png", "a.b.txt"),
        ("e\u0301.png", "\u00e9.txt"),
        ("a.avif", "a.txt"),
    ],
)
def test_folders_find_images_of_any_spelling(tmp_path: Path, image: str, text: str) -> None:
    (tmp_path / image).write_bytes(jpeg(0))
    (tmp_path / text).write_bytes(b"\xef\xbb\xbfa red cup\n")
    assert [(c.image, c.caption) for c in FolderCaptions(tmp_path).read()] == [(image, "a red cup")]


def test_faults_of_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    (tmp_path / "a.txt").write_bytes(b"un caf\xe9")
    with pytest.raises(CondsimError, match=r"a\.txt: byte 6 is not UTF-8"):
        list(FolderCaptions(tmp_path).read())
    (tmp_path / "a.txt").write_text(" \n")
    assert list(FolderCaptions(tmp_path).read()) == []
    odd = b"caf\xe9".decode("utf-8", "surrogateescape")
    (tmp_path / f"{odd}.jpg").write_bytes(jpeg(0))
    (tmp_path / f"{odd}.txt").write_text("a cup")
    with pytest.raises(CondsimError, match=r"the name holds bytes that are not UTF-8"):
        list(FolderCaptions(tmp_path).read())


MEMORY = """
import resource, sys
from pathlib import Path
from condsim.datasets.mining.captions import Captioned
from condsim.datasets.mining.mine import mine_triplets
from condsim.datasets.mining.relations import Relation

class Source:
    images = Path("images")
    def __init__(self, count):
        self.count, self.identity = count, {"many": count}
    def read(self, start=0):
        for i in range(start, self.count):
            yield Captioned(f"{i:08d}.jpg", f"caption {i}")

class Parser:
    identity = {}
    def __call__(self, captions):
        for caption in captions:
            i = int(caption.split()[1])
            yield tuple(Relation(f"s{i % 997}", "on", f"o{(i * 31 + k) % 4999}", "o") for k in range(2))

for count in map(int, sys.argv[2:]):
    folder = Path(sys.argv[1], str(count))
    mine_triplets(Source(count), Parser(), folder, concreteness=4, count=count, rating=lambda word: 5.0)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_grows_by_far_less_than_two_kilobytes_a_caption(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MEMORY, str(tmp_path), "1000", "60000"]
    small, large = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert (large - small) / 59_000 < 1.5  # a million captions: under 1.5 GiB above the start
