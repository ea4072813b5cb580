"""The specific solutions of GeneCIS (section 6.1, appendix B), each made for the way in which its task was built."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from condsim.harness.categories import categories_of, read_categories, spelling
from condsim.harness.errors import NotApplicable
from condsim.harness.files.paths import resolve
from condsim.harness.method import Gallery, Method, Queries, Scorer
from condsim.harness.one_vector import InnerProduct, inner_products, unit
from condsim.harness.process.tensors import Tensor
from condsim.harness.task import ImageTable, Task
from condsim.methods.phrases.lexicon import phrase_source
from condsim.methods.phrases.source import Phrases, check_conditions
from condsim.methods.shared.checks import one_of

TEMPLATES = ("imagenet", "plain")


def class_features(names: Sequence[str], gallery: Gallery, templates: str) -> Tensor:
    """Unit text features [len(names), D] of classes, as in CLIP's zero-shot classifiers.

    ``imagenet``: the mean of the unit features of the 80 prompts published with CLIP; ``plain``: the name alone.
    """
    if templates == "plain":
        return unit(gallery.encode_texts(names).to(gallery.features))
    import open_clip  # seconds to import, and needed by this choice only

    frames = open_clip.OPENAI_IMAGENET_TEMPLATES
    prompts = [frame(name) for name in names for frame in frames]
    features = unit(gallery.encode_texts(prompts).to(gallery.features))
    return unit(features.reshape(len(names), len(frames), -1).mean(dim=1))


class _Specific(Method):
    """A method that runs only on the tasks that its user names.

    No score depends on ``tasks``, so the method does not depend on a benchmark. The setting lists the tasks for which
    the assumption of the solution holds (such as: distractors share the reference's category), because no property of a
    task shows it. The defaults are GeneCIS's names.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = tuple(tasks)

    def check(self, task: Task) -> None:
        super().check(task)
        if task.name not in self.tasks:
            raise NotApplicable(
                f"the method is made for the tasks {', '.join(self.tasks)}, not for {task.full_name}: "
                f"to run it there, add {task.name} to method.tasks"
            )


class SpecificFocusAttribute(_Specific):
    """query = text of the value of the condition that CLIP predicts for the reference (zero-shot).

    Several conditions at once: the sum of their texts. [ours]
    """

    sharded = True

    def __init__(
        self, tasks: Sequence[str] = ("focus_attribute",), templates: str = "plain", phrases: Phrases | None = None
    ) -> None:
        super().__init__(tasks)
        one_of(TEMPLATES, templates=templates)
        self.templates = templates
        self.phrases = phrase_source(phrases)

    def check(self, task: Task) -> None:
        super().check(task)
        check_conditions(self.phrases, task)

    def prepare(self, gallery: Gallery) -> Scorer:
        types = sorted({text for condition in gallery.conditions for text in condition})
        values = {text: class_features(self.phrases.values(text), gallery, self.templates) for text in types}

        def embed(queries: Queries) -> Tensor:
            query = torch.zeros_like(queries.reference)
            for condition in torch.unique(queries.condition).tolist():
                mine = (queries.condition == condition).nonzero()[:, 0]
                for text in gallery.conditions[condition]:
                    seen = (queries.reference[mine] @ values[text].T).argmax(dim=1)
                    query[mine] += values[text][seen]
            return query

        return InnerProduct(unit(gallery.features), embed)


class SpecificChangeAttribute(_Specific):
    """query = text of "attribute category", with the category that CLIP predicts for the reference (zero-shot)."""

    sharded = True

    def __init__(
        self,
        tasks: Sequence[str] = ("change_attribute",),
        templates: str = "imagenet",
        categories: str = "category",
        phrases: Phrases | None = None,
    ) -> None:
        super().__init__(tasks)
        one_of(TEMPLATES, templates=templates)
        self.templates = templates
        self.phrases = phrase_source(phrases)
        self.categories = categories

    def check(self, task: Task) -> None:
        super().check(task)
        self.phrases.values(self.categories)

    def prepare(self, gallery: Gallery) -> Scorer:
        names = self.phrases.values(self.categories)
        classifier = class_features(names, gallery, self.templates)

        def embed(queries: Queries) -> Tensor:
            seen = (queries.reference @ classifier.T).argmax(dim=1).tolist()
            texts = [
                " ".join((*gallery.conditions[condition], names[category]))
                for condition, category in zip(queries.condition.tolist(), seen, strict=True)
            ]
            distinct = sorted(set(texts))
            features = gallery.encode_texts(distinct).to(queries.reference)
            place = {text: i for i, text in enumerate(distinct)}
            return features[[place[text] for text in texts]]

        return InnerProduct(unit(gallery.features), embed)


class SpecificObject(_Specific):
    """Candidates without the condition's category last; the others by the similarity of their bags of categories."""

    needs_row = True

    def __init__(
        self,
        categories: str | None = None,
        min_score: float = 0.0,
        tasks: Sequence[str] = ("focus_object", "change_object"),
    ) -> None:
        super().__init__(tasks)
        self.categories = categories
        self.min_score = min_score

    def check(self, task: Task) -> None:
        super().check(task)
        if self.categories is None:
            raise NotApplicable(
                f"the method needs the objects in the images of {task.full_name}: give "
                "method.categories=FILE, a table with the columns image and category"
            )
        self._seen(task.images)

    def prepare(self, gallery: Gallery) -> Scorer:
        seen = self._seen(gallery.table)
        wanted = [{spelling(text) for text in condition} for condition in gallery.conditions]
        names = sorted(set().union(*seen, *wanted))
        place = {name: i for i, name in enumerate(names)}
        bags = _multi_hot([[place[name] for name in bag] for bag in seen], len(names)).to(gallery.features)
        conditions = _multi_hot([[place[name] for name in bag] for bag in wanted], len(names)).to(gallery.features)
        items = bags[torch.from_numpy(gallery.rows).to(bags.device)]
        satisfies = items @ conditions.T == conditions.sum(
            dim=1
        )  # [N, C]: the item has all categories of the condition
        directions = unit(items)

        def score(queries: Queries, rows: Tensor | None = None) -> Tensor:
            similarity = inner_products(unit(bags[queries.reference_row]), directions, rows)
            if rows is None:
                valid = satisfies[:, queries.condition].T
            elif rows.ndim == 1:
                valid = satisfies[rows][:, queries.condition].T
            else:
                valid = satisfies[rows.clamp(min=0), queries.condition[:, None]]
            return torch.where(valid, similarity, -1.0)

        return score

    def _seen(self, images: ImageTable) -> tuple[frozenset[str], ...]:
        assert self.categories is not None
        file = str(resolve(self.categories, images.root))
        listed = categories_of(images.names, read_categories(file, self.min_score), file)
        return tuple(frozenset(map(spelling, bag)) for bag in listed)


def _multi_hot(lists: Sequence[Sequence[int]], width: int) -> Tensor:
    out = torch.zeros(len(lists), width)
    for row, places in enumerate(lists):
        out[row, list(places)] = 1
    return out
