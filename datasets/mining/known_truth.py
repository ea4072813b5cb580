"""The relations that the rendered world's captions state, from their grammar: ground truth for parsed relations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import permutations

from condsim.datasets.shapes.world import BACKGROUNDS, COLORS, PATTERNS, SHAPES, SIZES, TEXTURES

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
