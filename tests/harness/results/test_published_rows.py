"""The published numbers that ship with condsim."""

from __future__ import annotations

from pathlib import Path

import condsim.conf
from condsim.harness.results.published import read_published

FILE = Path(condsim.conf.__file__).parents[1] / "results/reference/published.csv"


def test_training_free_rows_of_five_sets_are_there_and_disagreeing_values_stay_two() -> None:
    published = read_published(FILE)
    frozen = ("text_only", "image_only", "image_plus_text_unit", "product", "weicom", "freedom", "basic")
    sets = (("icir", "test"), *((name, "average") for name in ("imagenet_r", "minidomainnet", "nico_pp", "ltll")))
    for benchmark, task in sets:
        for method in frozen:
            assert published[benchmark, task, method, "ViT-L-14/openai"], (benchmark, method)
    two = published["nico_pp", "average", "image_only", "ViT-L-14/openai"]
    assert sorted(reported.values["map_trapezoid_eps"] for reported in two) == [6.32, 6.82]
    assert published["icir", "test", "basic", "ViT-L-14/openai"][0].values == {"map_trapezoid_eps": 31.64}


def test_landmark_rows_name_their_average_precision_and_their_crops() -> None:
    published = read_published(FILE)
    (gem,) = published["roxford5k", "hard", "gem", "R-[37]-GeM (ResNet101-GeM)"]
    assert set(gem.values) == {"map_trapezoid"}
    for benchmark in ("roxford5k", "rparis6k", "roxford5k_1m", "rparis6k_1m"):
        backbones = {backbone for name, _, _, backbone in published if name == benchmark}
        assert {backbone for backbone in backbones if "DOLG" in backbone} <= {
            backbone for backbone in backbones if "queries not cropped" in backbone
        }
    two = [published["patterncom", "existence", "image_only", "ViT-L-14/openai"]][0]
    assert sorted(reported.values["map"] for reported in two) == [13.5, 16.47], "both versions of the README"


def test_cola_rows_are_on_the_group_score() -> None:
    published = {key: rows for key, rows in read_published(FILE).items() if key[0] == "cola"}
    assert len(published) == 7
    (clip,) = published["cola", "multi_object", "text_only", "ViT-L-14/openai"]
    assert clip.values == {"grouped_recall@1": 27.6}
