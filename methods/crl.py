"""CRL (NeurIPS 2025): an image is described by its similarities to the texts of a criterion. Training-free."""

from __future__ import annotations

from condsim.harness.condition_features import mean_features
from condsim.harness.errors import NotApplicable
from condsim.harness.method import Gallery, Method, Queries, Scorer
from condsim.harness.one_vector import inner_products, unit
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import Condition, Task, condition_text
from condsim.methods.phrases.lexicon import phrase_source
from condsim.methods.phrases.source import Phrases, check_conditions
from condsim.methods.shared.checks import at_least, has_slot
from condsim.methods.shared.conditional_map import ConditionalMap

POSITIONS = ("left", "right", "top", "lower", "mid")
"""Where the released code looks for the condition's object: "a photo with a dog on the left"."""


class Crl(Method):
    """score = R(ref) . R(d), R(x) = unit(x T^T), T the unit text features of the values of the condition."""

    sharded = True

    def __init__(self, template: str = "a photo of {}", phrases: Phrases | None = None) -> None:
        has_slot(template=template)
        self.template = template
        self.phrases = phrase_source(phrases)

    def check(self, task: Task) -> None:
        super().check(task)
        check_conditions(self.phrases, task)

    def prepare(self, gallery: Gallery) -> Scorer:
        texts = [self._texts(condition, gallery) for condition in gallery.conditions]

        def embed(condition: int, features: Tensor) -> Tensor:
            return unit(unit(features) @ texts[condition].T)

        return ConditionalMap(gallery.features, embed)

    def _texts(self, condition: Condition, gallery: Gallery) -> Tensor:
        """T [n, D]; the values of several texts are stacked. [ours]"""
        values = dict.fromkeys(value for text in condition for value in self.phrases.values(text))
        return unit(gallery.encode_texts([self.template.format(value) for value in values]).to(gallery.features))


class CrlComposed(Crl):
    """score = weight unit(R(ref) . R(d)) + unit(text . d), for conditions that name something to be there.

    The form of the released code for GeneCIS's object tasks: R is one criterion for all conditions, the text's score is
    the mean over five prompts that place the condition's object, and both rows of scores are made unit vectors over the
    candidates. A candidate's score therefore depends on the others.
    """

    pointwise = False
    sharded = False

    def __init__(
        self,
        criterion: str = "scene",
        weight: float = 10.0,
        template: str = "a photo with a scene of {}",
        prompt: str = "a photo with a {} on the {position}",
        phrases: Phrases | None = None,
    ) -> None:
        super().__init__(template, phrases)
        has_slot(prompt=prompt)
        at_least(0, weight=weight)
        self.criterion = criterion
        self.weight = weight
        self.prompt = prompt

    def check(self, task: Task) -> None:
        Method.check(self, task)
        if self.phrases.missing([self.criterion]):
            raise NotApplicable(
                f"the lexicon has no values for method.criterion={self.criterion}. "
                f"{self.phrases.how_to_add([self.criterion])}"
            )

    def prepare(self, gallery: Gallery) -> Scorer:
        items = unit(gallery.features)
        texts = self._texts((self.criterion,), gallery)
        described = unit(items @ texts.T)
        conditions = self._conditions(gallery)

        def score(queries: Queries, rows: Tensor | None = None) -> Tensor:
            alike = inner_products(unit(unit(queries.reference) @ texts.T), described, rows)
            named = inner_products(conditions[queries.condition], items, rows)
            if rows is not None and rows.ndim == 2:
                alike, named = (side.masked_fill(rows < 0, 0.0) for side in (alike, named))
            return self.weight * unit(alike) + unit(named)

        return score

    def _conditions(self, gallery: Gallery) -> Tensor:
        """[C, D] per condition the mean of the unit features of its prompts."""
        names = [condition_text(condition) for condition in gallery.conditions]
        prompts = [[self.prompt.format(name, position=place) for place in POSITIONS] for name in names]
        return mean_features(prompts, gallery.encode_texts).to(gallery.features)
