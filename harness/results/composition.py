"""What composing gains over one modality alone: the composition gap of every run of a question set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from condsim.harness.results.question_set import QuestionSet
from condsim.harness.results.stored_run import StoredRun

if TYPE_CHECKING:
    from condsim.harness.statistics.intervals import Interval

BASELINES = ("image_only", "text_only")
GAP_NOTE = (
    "Gap: the value minus the better of image_only and text_only, chosen per query; with one modality it is at most 0"
)


def run_gaps(question_set: QuestionSet, values: Mapping[StoredRun, NDArray[np.float64]]) -> dict[StoredRun, Interval]:
    """Run -> its composition gap with the 95 % interval, for runs whose backbone has runs of both baselines. [ours]

    ``values``: run -> [Q] one metric of every query, with the baselines' own. They have no gap themselves.

    The gap is the mean over queries of value - max(image_only, text_only). The better of the two is chosen per query,
    with knowledge of the answer: no method with one modality can reach it, so a useful method may have a gap below 0.
    """
    from condsim.harness.statistics.intervals import mean_intervals  # imports SciPy

    known = {(run.record.backbone, run.record.method): column for run, column in values.items()}
    gaps = {}
    for run, column in values.items():
        sides = [known.get((run.record.backbone, baseline)) for baseline in BASELINES]
        if run.record.method not in BASELINES and sides[0] is not None and sides[1] is not None:
            gaps[run] = column - np.maximum(sides[0], sides[1])
    if not gaps:
        return {}
    intervals = mean_intervals(np.stack([*gaps.values()], axis=1), question_set.clusters, limits=(-1.0, 1.0))
    return dict(zip(gaps, intervals, strict=True))
