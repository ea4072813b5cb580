from condsim.harness.categories import bags_from_panoptic


def test_bags_hold_categories_above_one_percent_of_the_pixels() -> None:
    annotation = {
        "images": [{"id": 7, "width": 100, "height": 100}],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "wall-other-merged"}, {"id": 3, "name": "cup"}],
        "annotations": [
            {
                "image_id": 7,
                "segments_info": [
                    {"category_id": 1, "area": 60},
                    {"category_id": 1, "area": 50},
                    {"category_id": 2, "area": 900},
                    {"category_id": 3, "area": 100},
                ],
            }
        ],
    }
    assert bags_from_panoptic(annotation) == {7: frozenset({"person", "wall"})}
