"""The composition gap on queries that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from condsim.harness.errors import CondsimError
from condsim.harness.statistics.composition_gap import composition_gap, composition_gaps


def test_each_query_is_compared_with_its_own_better_modality() -> None:
    """Four queries: both fail and composing helps; the text is enough; the image is enough; composing loses it."""
    gaps = composition_gaps([1, 1, 0.5, 0], [0, 0, 0.5, 0.2], [0, 1, 0.1, 1])
    np.testing.assert_allclose(gaps, [1, 0, 0, -1])


def test_the_better_of_both_beats_the_better_method_on_average() -> None:
    """Image and text each find one half: the better method has 0.5, the better modality per query 1."""
    image, text = np.repeat([1.0, 0.0], 50), np.repeat([0.0, 1.0], 50)
    gap = composition_gap(np.full(100, 0.75), image, text)
    assert gap.value == pytest.approx(-0.25)
    assert gap.low <= gap.value <= gap.high


def test_the_interval_is_that_of_the_mean_over_clusters() -> None:
    """Ten equal queries per cluster say no more than one: the interval is about sqrt(10) times wider."""
    rng = np.random.default_rng(0)
    side = np.repeat(rng.integers(0, 2, 20), 10).astype(float)
    zeros = np.zeros(200)
    alone = composition_gap(side, zeros, zeros)
    clustered = composition_gap(side, zeros, zeros, np.repeat(np.arange(20), 10))
    assert clustered.value == pytest.approx(alone.value)
    assert clustered.high - clustered.low > 2 * (alone.high - alone.low)
    assert clustered == composition_gap(side, zeros, zeros, np.repeat(np.arange(20), 10))


def test_queries_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CondsimError, match="same queries"):
        composition_gaps([1, 0], [1], [0, 0])
    with pytest.raises(CondsimError, match="text_only: the value of query 1 is not a finite number"):
        composition_gaps([1, 0], [1, 0], [0, np.nan])
