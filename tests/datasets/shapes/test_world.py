"""The world's combinations, its sampling and its pictures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from condsim.datasets.shapes import render as r
from condsim.datasets.shapes import world as w


def combinations(scenes: w.Scenes) -> set[tuple[int, ...]]:
    rows = np.stack([scenes.shape, scenes.color, scenes.texture], axis=-1)[scenes.present]
    return {tuple(int(v) for v in row) for row in rows}


def test_splits_share_no_combination_and_each_knows_every_value() -> None:
    allowed = [w.allowed_combinations(s) for s in w.SPLITS]
    assert (sum(a.astype(int) for a in allowed) == 1).all()  # type: ignore[union-attr]
    for split in allowed:
        for axes in ((1, 2), (0, 2), (0, 1)):
            assert split.any(axis=axes).all()


def test_one_colour_of_each_shape_is_never_trained() -> None:
    trained = w.allowed_combinations("train").any(axis=2) | w.allowed_combinations("val").any(axis=2)
    assert (trained == ~w.unseen_pairs()).all()
    assert (w.unseen_pairs().sum(axis=1) == 1).all()


@pytest.mark.parametrize("split", w.SPLITS)
def test_scenes_hold_only_their_splits_combinations_and_distinct_shapes(split: w.Split) -> None:
    scenes = w.sample_scenes(np.random.default_rng(0), 500, split)
    allowed = w.allowed_combinations(split)
    assert all(allowed[c] for c in combinations(scenes))
    assert all(len(set(row)) == 4 for row in scenes.shape)
    assert set(scenes.count) == {1, 2, 3, 4}


def test_objects_lie_on_the_canvas_and_do_not_touch() -> None:
    scenes = w.sample_scenes(np.random.default_rng(0), 500, "train")
    inside = (np.minimum(scenes.x, scenes.y) >= scenes.radius) & (np.maximum(scenes.x, scenes.y) <= 1 - scenes.radius)
    assert inside[scenes.present].all()
    for i in range(len(scenes)):
        for a in range(scenes.count[i]):
            for b in range(a):
                apart = np.hypot(scenes.x[i, a] - scenes.x[i, b], scenes.y[i, a] - scenes.y[i, b])
                assert apart > max(scenes.radius[i, a], scenes.radius[i, b])


def test_resembling_scenes_agree_in_all_but_shape_and_stay_in_their_split() -> None:
    rng = np.random.default_rng(0)
    scenes = w.resemble(rng, w.sample_scenes(rng, 64, "train", (1,)), 8, "train")
    for name in ("background", "pattern"):
        assert (getattr(scenes, name).reshape(8, 8) == getattr(scenes, name)[::8, None]).all()
    assert (scenes.color[:, 0].reshape(8, 8) == scenes.color[::8, 0, None]).all()
    assert len(set(scenes.shape[:8, 0])) > 1
    assert all(w.allowed_combinations("train")[c] for c in combinations(scenes))


def test_pictures_follow_the_seed() -> None:
    def pictures(seed: int) -> torch.Tensor:
        return r.render(w.sample_scenes(np.random.default_rng(seed), 20, "test"))

    assert pictures(1).shape == (20, 3, 64, 64)
    assert pictures(1).dtype == torch.uint8
    assert torch.equal(pictures(1), pictures(1))
    assert not torch.equal(pictures(1), pictures(2))


def test_a_picture_does_not_depend_on_its_batch() -> None:
    scenes = w.sample_scenes(np.random.default_rng(3), 70, "test")
    apart = torch.cat([r.render(scenes.take(slice(i, i + 1))) for i in range(len(scenes))])
    difference = (r.render(scenes).int() - apart.int()).abs()
    assert difference.max() <= 1  # vector and scalar arithmetic may round a pixel differently


def test_a_solid_objects_centre_has_its_colour() -> None:
    rng = np.random.default_rng(0)
    scenes = w.sample_scenes(rng, 200, "train", (1,))
    solid = scenes.replace(texture=np.zeros_like(scenes.texture), shape=np.zeros_like(scenes.shape))  # circles
    pictures = r.render(solid, 64, grain=0.0)
    rows, columns = (solid.y[:, 0] * 64).astype(int), (solid.x[:, 0] * 64).astype(int)
    middle = pictures[torch.arange(200), :, rows, columns].float()
    distance = torch.cdist(middle, torch.tensor(r._RGB, dtype=torch.float32))
    assert (distance.argmin(dim=1).numpy() == solid.color[:, 0]).mean() > 0.98


def test_coloured_light_changes_colour_and_nothing_where_it_is_white() -> None:
    scenes = w.sample_scenes(np.random.default_rng(0), 10, "test")
    assert torch.equal(r.render(scenes, light=0.0), r.render(scenes))
    assert not torch.equal(r.render(scenes, light=0.2), r.render(scenes))


def test_crops_are_those_of_genecis_with_black_padding() -> None:
    boxes = np.array([[0.5, 0.4, 0.2, 0.2], [0.0, 0.4, 0.2, 0.2], [0.9, 0.1, 0.1, 0.4]])
    views = r.crop_views(boxes)
    np.testing.assert_allclose(views.keep[0], [0.36, 0.26, 0.70, 0.60])  # grows to the left and the top only
    np.testing.assert_allclose(views.keep[1], [0.0, 0.26, 0.34, 0.60])
    np.testing.assert_allclose(views.keep[2], [0.83, 0.0, 1.0, 0.68])
    np.testing.assert_allclose(views.side[2], 0.68)
    scenes = w.sample_scenes(np.random.default_rng(0), 1, "test")
    picture = r.render(scenes, 64, r.Views(*(getattr(views, f.name)[2:] for f in dataclasses.fields(views))))
    assert (picture[:, :, :, :20] == 0).all()
    assert (picture[:, :, :, -20:] == 0).all()
    assert (picture[:, :, :, 28:36] > 0).any()
