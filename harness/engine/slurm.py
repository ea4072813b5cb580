"""``engine=slurm``: the runs of a sweep as a job array of SLURM, by submitit. The only module that imports submitit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from condsim.harness.engine.engine import Held, Item, Lost, Result, divided
from condsim.harness.engine.worker import Surroundings, answer, packed, result_of, unpacked
from condsim.harness.errors import CondsimError, first_line
from condsim.harness.terminal.console import console


class SlurmEngine:
    """Jobs that SLURM starts when there is room, each with some of the items."""

    interactive = False

    def __init__(
        self,
        cluster: Literal["slurm", "local"] = "slurm",
        groups: int = 16,
        at_once: int = 16,
        minutes: int = 240,
        partition: str | None = None,
        cpus: int = 4,
        gpus: int = 0,
        folder: str | Path = "slurm",
        wait: bool = True,
    ) -> None:
        """
        ``cluster``: "local" starts processes on this machine, to try it. ``groups``: tasks of the job array, which
        share the items in their order; at most ``at_once`` of them run at the same time, ``minutes`` each.
        ``folder``: for submitit's files, which all machines must see. ``wait``: False leaves after submitting.
        """
        for name, number in (("groups", groups), ("at_once", at_once), ("minutes", minutes), ("cpus", cpus)):
            if number < 1:
                raise CondsimError(f"engine.{name}={number}: must be at least 1")
        self.workers = groups
        self._cluster, self._folder, self._wait, self._cpus = cluster, Path(folder), wait, cpus
        self._parameters: dict[str, Any] = {
            "name": "condsim", "timeout_min": minutes, "cpus_per_task": cpus, "gpus_per_node": gpus,
        }  # fmt: skip
        if cluster == "slurm":
            self._parameters |= {"slurm_array_parallelism": at_once}
            self._parameters |= {} if partition is None else {"slurm_partition": partition}

    def work(
        self, make: Callable[[], Callable[[Item], Result]], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result | Lost]]:
        try:
            import submitit
        except ImportError:
            raise CondsimError("engine=slurm needs submitit: pip install 'condsim[slurm]'") from None
        todo = list(items)
        if not todo:
            return
        shares = divided(len(todo), min(self.workers, len(todo)))
        groups = [todo[share.start : share.stop] for share in shares]
        try:
            executor = submitit.AutoExecutor(folder=str(self._folder.absolute()), cluster=self._cluster)
            executor.update_parameters(**self._parameters)
            surroundings = Surroundings.here(self._cpus)
            with executor.batch():
                jobs = [executor.submit(_Group(surroundings, packed((make, group)))) for group in groups]
        except (RuntimeError, OSError, submitit.core.utils.FailedJobError) as error:
            raise CondsimError(f"engine=slurm: the jobs cannot be submitted: {first_line(error)}") from error
        console.print(f"{len(jobs)} jobs submitted, the first is {jobs[0].job_id}; logs in {self._folder}")
        if not self._wait:
            return
        group_of = {job.job_id: group for job, group in zip(jobs, groups, strict=True)}
        for job in submitit.helpers.as_completed(jobs, poll_frequency=1 if self._cluster == "local" else 15):
            group = group_of[job.job_id]
            try:
                answered: list[bytes] = job.result()
            except submitit.core.utils.UncompletedJobError:
                lost = Lost(f"job {job.job_id} ended before it was done; its log is {job.paths.stderr}")
                yield from ((item, lost) for item in group)
                continue
            except submitit.core.utils.FailedJobError as error:
                raise CondsimError(f"job {job.job_id}: {error}") from error
            for item, one in zip(group, answered, strict=True):
                yield item, result_of(one)

    def hold(self, makes: Sequence[Callable[[], object]]) -> Held:
        raise CondsimError("jobs of SLURM cannot exchange messages, which a gallery in parts needs: use engine=ray")

    def close(self) -> None: ...


@dataclass(frozen=True)
class _Group:
    """What one job does: its items, one after the other."""

    surroundings: Surroundings
    packed: bytes
    """The pickled pair (make, items), which can be read once the surroundings are entered."""

    def __call__(self) -> list[bytes]:
        self.surroundings.enter()
        make, items = unpacked(self.packed)
        do = make()
        return [answer(lambda item=item: do(item)) for item in items]  # type: ignore[misc]
