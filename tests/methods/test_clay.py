from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from builders import make_task
from condsim.harness.errors import CondsimError, NotApplicable
from condsim.harness.method import Gallery
from condsim.harness.one_vector import unit
from condsim.harness.task import Condition
from condsim.methods.clay import Clay, leading_directions, random_subspace, text_subspace, union
from condsim.methods.inner_product import ImageOnly
from condsim.methods.shared.sphere import direction_sum, log_map, mean_direction, rotate
from encoders import Space

FLAGS = [
    {},
    {"rank": 3},
    {"rotation": False},
    {"manifold": False},
    {"manifold": False, "rotation": False},
    {"symmetric": False, "rank": 5},
    {"symmetric": False, "rotation": False, "rank": 5},
    {"centering": True, "rank": 7},
    {"renormalize": False, "rank": 4},
    {"prompts": 9},
    {"subspace": "random", "rank": 5},
    {"subspace": "single"},
    {"subspace": "single", "symmetric": False},
    {"several": "balanced", "rank": 6},
    {"several": "qr_union", "rank": 6},
    {"several": "mean", "rank": 6},
]


def unfolded(method: Clay, gallery: Gallery, reference: Tensor, condition: Condition) -> Tensor:
    """csim as the paper writes it: rotate every image, map it at the texts' mean, project it, take the cosine."""
    mean_image = mean_direction(direction_sum(gallery.features))
    totals = []
    features = {text: gallery.encode_texts(method.prompts_of(text)) for text in condition}
    for subspace in method.subspaces(condition, features):

        def mapped(x: Tensor, subspace: Any = subspace) -> Tensor:
            x = unit(x.double())
            x = rotate(x, mean_image, subspace.base) if method.rotation else x
            return log_map(x, subspace.base) if method.manifold else x

        query, items = mapped(reference[None])[0] @ subspace.basis, mapped(gallery.features)
        if method.symmetric:
            items = items @ subspace.basis
        else:
            query = subspace.basis @ query
        totals.append(torch.cosine_similarity(query[None], items) if method.renormalize else items @ query)
    return torch.stack(totals).mean(dim=0).float()


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("condition", [0, 3])
def test_folded_scores_equal_the_papers_formula(space: Space, flags: dict[str, Any], condition: int) -> None:
    if condition == 3 and flags.get("several") == "qr_union":
        pytest.skip("the union lives on the images' side: tested by itself")
    if condition == 3 and flags.get("several") != "mean" and flags.get("subspace", "text") != "text":
        pytest.skip("several single or random subspaces are joined on the images' side")
    gallery, method = space.gallery(), Clay(**flags)
    queries = space.queries(gallery, [3, 17], [condition, condition])
    scores = method.prepare(gallery)(queries)
    for i in range(2):
        expected = unfolded(method, gallery, queries.reference[i], gallery.conditions[condition])
        torch.testing.assert_close(scores[i], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("flags", FLAGS)
def test_lists_of_candidates_and_mixed_batches_score_as_the_whole_gallery_does(
    space: Space, flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = space.gallery()
    scorer = Clay(**flags).prepare(gallery)
    queries = space.queries(gallery, [1, 2, 3, 4, 5], [2, 0, 3, 0, 1])
    whole = scorer(queries)
    rows = torch.randint(40, (5, 7))
    rows[:, 6] = rows[:, 0]
    listed = scorer(queries, rows)
    torch.testing.assert_close(listed, whole.gather(1, rows), atol=2e-6, rtol=0)
    assert torch.equal(listed[:, 6], listed[:, 0])
    torch.testing.assert_close(scorer(queries, torch.tensor([7, 7, 2])), whole[:, [7, 7, 2]], atol=2e-6, rtol=0)
    monkeypatch.setattr(
        scorer, "whole", None
    )  # a chunk under several conditions needs the coordinates of its own items
    torch.testing.assert_close(scorer(queries, torch.arange(5, 9)), whole[:, 5:9], atol=2e-6, rtol=0)
    rows[:, 3] = -1
    assert torch.isfinite(scorer(queries, rows)).all()


def test_full_rank_without_manifold_is_image_only(space: Space) -> None:
    gallery = space.gallery()
    queries = space.queries(gallery, [0, 9], [0, 1])
    expected = ImageOnly().prepare(gallery)(queries)
    for rotation in (True, False):
        scorer = Clay(rank=space.width, manifold=False, rotation=rotation).prepare(gallery)
        torch.testing.assert_close(scorer(queries), expected, atol=1e-6, rtol=0)


def test_candidates_that_agree_within_the_subspace_score_one_whatever_else_they_are(space: Space) -> None:
    """The whole point: a color subspace sees color only."""
    gallery = space.gallery(n=60, conditions=(("color",),))
    method = Clay(rank=4, rotation=False, manifold=False)
    basis = method.subspaces(("color",), {"color": space.encode_texts(method.prompts_of("color"))})[0].basis.float()
    seen = torch.randn(1, 4) @ basis.T
    unseen = torch.randn(60, space.width)
    unseen = unseen - unseen @ basis @ basis.T
    alike = type(gallery)(**{**gallery.__dict__, "features": seen + unseen})
    scores = method.prepare(alike)(space.queries(alike, [0], [0]))
    torch.testing.assert_close(scores, torch.ones(1, 60), atol=1e-5, rtol=0)


def test_the_log_map_of_images_cannot_change_a_symmetric_ranking(space: Space) -> None:
    """In the tangent space log only stretches: where the basis is tangent, the cosine does not notice it."""
    gallery = space.gallery()
    queries = space.queries(gallery, [4, 8], [0, 2])
    method = Clay(rank=6)
    scorer: Any = method.prepare(gallery)
    basis = scorer.subspaces(0)[0].basis
    flat = unit(gallery.features) @ basis
    expected = torch.cosine_similarity(flat[4][None], flat)
    torch.testing.assert_close(scorer(queries)[0], expected, atol=1e-5, rtol=0)


def test_the_subspace_is_spanned_by_the_log_maps_of_the_prompts(space: Space) -> None:
    texts = space.encode_texts([f"value {i}" for i in range(9)])
    subspace = text_subspace(texts, rank=50)
    points = log_map(unit(texts.double()), subspace.base)
    assert subspace.basis.shape == (space.width, 8)  # seen from their mean, nine points span eight dimensions
    torch.testing.assert_close(subspace.basis.T @ subspace.basis, torch.eye(8, dtype=torch.float64))
    torch.testing.assert_close(points @ subspace.basis @ subspace.basis.T, points)
    assert (subspace.base @ subspace.basis).abs().max() < 1e-9


def test_leading_directions_are_those_of_the_largest_variance_and_stop_at_the_numerical_rank() -> None:
    axes = torch.diag(torch.tensor([1.0, 9.0, 4.0, 0.0], dtype=torch.float64))
    found = leading_directions(axes, 2)
    torch.testing.assert_close(found.abs(), torch.eye(4, dtype=torch.float64)[:, [1, 2]])
    assert leading_directions(axes, 50).shape == (4, 3)
    assert leading_directions(torch.zeros(3, 4, dtype=torch.float64), 2).shape == (4, 0)


def test_centering_takes_the_mean_out_of_the_points() -> None:
    texts = torch.tensor([[1.0, 0.1, 0.0], [1.0, -0.1, 0.0]])
    plain = text_subspace(texts, 3, manifold=False)
    centered = text_subspace(texts, 3, manifold=False, centering=True)
    assert plain.basis.shape[1] == 2
    torch.testing.assert_close(centered.basis.abs(), torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64))


def test_weights_count_as_repeats_do(space: Space) -> None:
    texts = space.encode_texts([f"value {i}" for i in range(4)])
    weighted = text_subspace(texts, 2, weights=torch.tensor([3.0, 1, 1, 1]))
    repeated = text_subspace(texts[[0, 0, 0, 1, 2, 3]], 2)
    torch.testing.assert_close(weighted.base, repeated.base)
    torch.testing.assert_close(weighted.basis @ weighted.basis.T, repeated.basis @ repeated.basis.T)


def test_the_random_control_has_the_same_dimensions_and_is_the_same_every_time(space: Space) -> None:
    base = unit(torch.randn(space.width, dtype=torch.float64))
    first, again, other = (random_subspace(base, 5, seed).basis for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.01
    torch.testing.assert_close(first.T @ first, torch.eye(5, dtype=torch.float64))
    assert (base @ first).abs().max() < 1e-12
    gallery = space.gallery()
    queries = space.queries(gallery, [0], [0])
    seeds = [Clay(rank=5, subspace="random", seed=s).prepare(gallery)(queries) for s in (0, 0, 1)]
    assert torch.equal(seeds[0], seeds[1])
    assert not torch.equal(seeds[0], seeds[2])


def test_the_union_spans_both_and_drops_what_depends() -> None:
    eye = torch.eye(6, dtype=torch.float64)
    both = union([eye[:, :2], torch.stack([(eye[1] + eye[0]) / 2**0.5, eye[4]], dim=1)])
    assert both.shape == (6, 3)
    torch.testing.assert_close(both @ both.T, torch.diag(torch.tensor([1.0, 1, 0, 0, 1, 0], dtype=torch.float64)))


def test_two_conditions_joined_by_union_see_what_either_sees(space: Space) -> None:
    wide = type(space)(width=64)
    gallery = wide.gallery()
    scorer: Any = Clay(rank=5, several="qr_union").prepare(gallery)
    joined = scorer.subspaces(3)[0].basis
    for single in (0, 1):
        basis = scorer.subspaces(single)[0].basis
        torch.testing.assert_close(joined @ (joined.T @ basis), basis, atol=1e-5, rtol=0)


def test_the_mean_of_similarities_is_the_mean_of_the_single_conditions(space: Space) -> None:
    gallery = space.gallery()
    scorer = Clay(rank=5, several="mean").prepare(gallery)
    scores = [scorer(space.queries(gallery, [6], [condition])) for condition in (0, 1, 3)]
    torch.testing.assert_close(scores[2], (scores[0] + scores[1]) / 2)


def test_balanced_conditions_weigh_the_same_however_many_values_they_have(space: Space, tmp_path: Path) -> None:
    from condsim.methods.phrases.lexicon import Lexicon

    few, many = "few: [a, b]", "many: [" + ", ".join(f"v{i}" for i in range(40)) + "]"
    (tmp_path / "my.yaml").write_text(f"{few}\n{many}\n")
    phrases = Lexicon(file=str(tmp_path / "my.yaml"))
    texts = {text: space.encode_texts(Clay(phrases=phrases).prompts_of(text)) for text in ("few", "many")}
    means = {text: unit(unit(features[1:].double()).mean(dim=0)) for text, features in texts.items()}
    for several, leans in (("stacked", True), ("balanced", False)):
        base = Clay(phrases=phrases, several=several).subspaces(("few", "many"), texts)[0].base
        nearer_to_many = bool(base @ means["many"] > base @ means["few"] + 0.05)
        assert nearer_to_many == leans


def test_items_outside_the_subspace_score_zero(space: Space) -> None:
    gallery = space.gallery(conditions=(("color",),))
    method = Clay(rank=4, rotation=False, manifold=False)
    basis = method.subspaces(("color",), {"color": space.encode_texts(method.prompts_of("color"))})[0].basis.float()
    outside = gallery.features - gallery.features @ basis @ basis.T
    features = torch.cat([gallery.features[:1], outside[1:20], torch.zeros(1, space.width)])
    scores = method.prepare(type(gallery)(**{**gallery.__dict__, "features": features}))(
        space.queries(gallery, [0], [0])
    )
    assert scores[0, 0] == pytest.approx(1)
    assert (scores[0, 1:] == 0).all()


def test_prompts_that_the_backbone_cannot_tell_apart_are_an_error(space: Space) -> None:
    gallery = space.gallery(conditions=(("color",),))
    same = type(gallery)(**{**gallery.__dict__, "encode_texts": lambda texts: torch.ones(len(texts), space.width)})
    with pytest.raises(CondsimError, match="'color'"):
        Clay().prepare(same)(space.queries(gallery, [0], [0]))


def test_the_number_of_prompts_takes_the_first_values() -> None:
    assert Clay(prompts=2).prompts_of("Color") == ["a photo of Color", "a photo of red", "a photo of blue"]
    assert len(Clay().prompts_of("color")) > 51


def test_conditions_without_values_say_so() -> None:
    Clay().check(make_task(("color",), ("shape", "material")))
    with pytest.raises(NotApplicable, match=r"method.phrases.file"):
        Clay().check(make_task(("with a dog",), ("wall",)))
    with pytest.raises(CondsimError, match="'with a dog'") as error:
        Clay().check(make_task(("color",), ("with a dog",)))
    assert not isinstance(error.value, NotApplicable)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank"),
        ({"template": "a photo"}, "template"),
        ({"prompts": 1}, "single"),
        ({"subspace": "txt"}, "'text'"),
        ({"several": "stack"}, "'stacked'"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CondsimError, match=message):
        Clay(**settings)


@pytest.mark.parametrize("flags", [{}, {"rank": 3}, {"rotation": False}, {"manifold": False}, {"prompts": 4}])
def test_why_names_the_values_that_the_papers_formula_says_are_nearest(space: Any, flags: dict[str, Any]) -> None:
    gallery, method = space.gallery(), Clay(**flags)
    queries = space.queries(gallery, [3, 17], [0, 3])
    rows = torch.tensor([[5, 9], [0, 39]])
    scorer: Any = method.prepare(gallery)
    reasons = scorer.why(queries, rows)
    mean_image = mean_direction(direction_sum(gallery.features))

    def nearest(image: Tensor, text: str, count: int) -> str:
        values = method.prompts_of(text)[1:]
        prompts = unit(gallery.encode_texts(values).double())
        subspace = text_subspace(prompts, method.rank, manifold=method.manifold)
        x = unit(image.double())
        x = rotate(x[None], mean_image, subspace.base)[0] if method.rotation else x
        points = torch.cat((x[None], prompts))
        inside = unit((log_map(points, subspace.base) if method.manifold else points) @ subspace.basis)
        best, places = (inside[1:] @ inside[0]).topk(count)
        names = [values[place].removeprefix("a photo of ") for place in places]
        return ", ".join(f"{name} {cosine:.2f}" for name, cosine in zip(names, best.tolist(), strict=True))

    def expected(query: int, row: int, text: str) -> str:
        return f"{nearest(gallery.features[row], text, 2)} (query: {nearest(queries.reference[query], text, 1)})"

    assert reasons[0] == [expected(0, 5, "color"), expected(0, 9, "color")]
    assert reasons[1][0] == f"color: {expected(1, 0, 'color')}; shape: {expected(1, 0, 'shape')}"
    random: Any = Clay(subspace="random").prepare(gallery)
    assert random.why(queries, rows) == [["", ""], ["", ""]]
