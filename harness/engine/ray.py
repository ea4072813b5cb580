"""``engine=ray``: workers of Ray on this machine or on a cluster. The only module that imports Ray."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from socket import gethostname
from typing import Any, Literal

from condsim.harness.engine.engine import Held, Item, Lost, Result
from condsim.harness.engine.worker import Surroundings, answer, packed, result_of, unpacked
from condsim.harness.errors import CondsimError, EngineError, counted, first_line
from condsim.harness.terminal.console import console, warn

_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Set where the user has not: nothing is reported to Ray's makers, and no advice on future versions is printed."""
_SETTLED = 2.0
"""Seconds after which Ray knows that a worker which ended has freed its cores."""


class RayEngine:
    """Workers that stay, with what they have loaded, until the engine is closed."""

    interactive = True

    def __init__(
        self,
        address: str = "local",
        workers: int | None = None,
        cpus: int = 1,
        gpus: float | Literal["auto"] = "auto",
        retries: int = 3,
        patience: float = 600,
    ) -> None:
        """
        ``address``: "local" starts workers of this command alone, "auto" joins the cluster that it was started in, and
        HOST:PORT joins that one. ``workers``: None is one per GPU, else one per ``cpus`` cores. ``cpus``, ``gpus``: of
        each worker; "auto" is 1 where there are GPUs. ``retries``: how often an item is tried again whose worker died.
        ``patience``: seconds to wait while no worker is up.
        """
        for name, number, least in (("workers", workers or 1, 1), ("cpus", cpus, 1), ("retries", retries, 0)):
            if number < least:
                raise CondsimError(f"engine.{name}={number}: must be at least {least}")
        self._address, self._most, self._cpus, self._gpus = address, workers, cpus, gpus
        self.retries, self.patience = retries, patience
        self._workers: list[_Worker] = []
        self._room: int | None = None
        self._own = False
        self._numbers = count()

    @property
    def workers(self) -> int:
        return self._start()

    def work(
        self, make: Callable[[], Callable[[Item], Result]], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result | Lost]]:
        room, source = self._start(), iter(items)
        import ray

        number, start = next(self._numbers), ray.put(packed(make))
        waiting: deque[tuple[Item, int]] = deque()  # with the number of times that each was tried
        running: dict[Any, tuple[_Worker, Item, int]] = {}
        idle = deque(worker for worker in self._workers if worker.host is not None)
        starts = _Starts(self)

        def more() -> bool:
            waiting.extend((item, 0) for item in _next(source))
            return bool(waiting)

        try:
            while True:
                while idle and (waiting or more()):
                    worker, (item, tries) = idle.popleft(), waiting.popleft()
                    call = worker.actor.do.remote(number, start, packed(item))
                    running[call] = worker, item, tries + 1
                starting = {worker.ready: worker for worker in self._workers if worker.host is None}
                while len(self._workers) < room and (
                    len(waiting) > len(starting) or (more() and len(waiting) > len(starting))
                ):
                    worker = self._add()
                    starting[worker.ready] = worker
                if not running and not waiting:
                    return
                for call in starts.wait([*running, *starting], bool(running)):
                    if call in starting:
                        if starts.finish(starting[call]):
                            idle.append(starting[call])
                        continue
                    worker, item, tries = running.pop(call)
                    try:
                        answered = ray.get(call)
                    except ray.exceptions.RayError as error:
                        reason = self._lose(worker, error)
                        if tries > self.retries:
                            yield item, Lost(reason)
                        else:
                            waiting.appendleft((item, tries))
                        continue
                    idle.append(worker)
                    yield item, result_of(answered)
        finally:
            for worker, _, _ in running.values():  # the work was left early
                self._remove(worker)

    def hold(self, makes: Sequence[Callable[[], object]]) -> Held:
        self._start()
        return _Objects(self, [packed(make) for make in makes])

    def close(self) -> None:
        if self._room is None:
            return
        import ray

        for worker in list(self._workers):
            self._remove(worker)
        if self._own:
            ray.shutdown()
        self._room, self._own = None, False

    def _start(self) -> int:
        """Start or join Ray, the first time; the number of workers that there is room for."""
        if self._room is not None:
            return self._room
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError:
            raise EngineError("engine=ray needs Ray: pip install 'condsim[ray]'") from None
        started = time.monotonic()
        if not ray.is_initialized():
            own: dict[str, Any] = {}
            if self._address == "local":  # without an address, ray.init joins whatever cluster it finds
                cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
                own = {"num_cpus": self._cpus * (self._most or max(1, cores // self._cpus)), "include_dashboard": False}
            while not ray.is_initialized():
                try:
                    with _quiet(ray):
                        ray.init(self._address, log_to_driver=False, logging_level=logging.CRITICAL, **own)
                except Exception as error:  # Ray raises bare ones
                    with suppress(Exception):
                        ray.shutdown()
                    if "timed out" in str(error) and time.monotonic() < started + self.patience:
                        continue  # a machine under load: Ray waits 30 seconds for its own processes
                    raise EngineError(
                        f"engine.address={self._address}: Ray cannot be started there: {first_line(error)}"
                    ) from error
            self._own = True
        resources = ray.cluster_resources()
        if self._gpus == "auto":
            self._gpus = min(1.0, resources.get("GPU", 0))
        room = resources.get("CPU", 0) // self._cpus
        if self._gpus:
            room = min(room, resources.get("GPU", 0) // self._gpus)
        self._room = self._most or max(1, int(room))
        nodes = len({node["NodeID"] for node in ray.nodes() if node["Alive"]})
        room = f"{counted(self._room, 'worker')} on {counted(nodes, 'node')}"
        console.print(f"Ray: {room}, up after {time.monotonic() - started:.0f} s")
        return self._room

    def _add(self) -> _Worker:
        """Start one more worker. The first one says so where it has to wait for others to end."""
        import ray

        if not self._workers:
            self._report_wait()
        remote = ray.remote(num_cpus=self._cpus, num_gpus=self._gpus)(_Actor)
        actor = remote.remote(Surroundings.here(self._cpus))
        self._workers.append(_Worker(actor, actor.host.remote()))
        return self._workers[-1]

    def _report_wait(self) -> None:
        """One line where the cluster has no room for a worker, and why."""
        import ray

        needed = {name: number for name, number in (("CPU", self._cpus), ("GPU", self._gpus)) if number}
        until = time.monotonic() + _SETTLED
        while lacking := [name for name in needed if ray.available_resources().get(name, 0) < needed[name]]:
            if time.monotonic() > until:
                free = ray.available_resources().get(lacking[0], 0)
                warn(
                    f"Ray: engine.address={self._address} waits: a worker needs {needed[lacking[0]]:g} "
                    f"{lacking[0]}s, and {free:g} of {ray.cluster_resources().get(lacking[0], 0):g} are free. Another "
                    f"command or engine has them, or there are too few. It stops after {self.patience:g} s "
                    "(engine.patience)"
                )
                return
            time.sleep(0.1)

    def _lose(self, worker: _Worker, error: Exception) -> str:
        """Report a worker that died, once; why, in words."""
        text = str(error)
        reason = "its process ended unexpectedly"
        if "running low on memory" in text:
            reason = "it ran out of memory"
        elif "its node has died" in text:
            reason = "its node is gone"
        elif "in its creation task" in text:  # condsim cannot be imported there, for example
            reason = text.strip().splitlines()[-1]
        if worker in self._workers:
            self._remove(worker)
            warn(f"Ray: lost a worker on {worker.host or 'a node'}: {reason}")
        return reason

    def _remove(self, worker: _Worker) -> None:
        import ray

        if worker in self._workers:
            self._workers.remove(worker)
            with suppress(ray.exceptions.RayError, ValueError):
                ray.kill(worker.actor)


@dataclass(eq=False)
class _Worker:
    """The driver's view of one worker."""

    actor: Any
    ready: Any
    """The reference to the name of its host, which is there as soon as the worker is up."""
    host: str | None = None


class _Starts:
    """Waits for calls and for workers to come up; raises EngineError if no worker does."""

    def __init__(self, engine: RayEngine) -> None:
        self.engine = engine
        self.failures = 0
        self.since = time.monotonic()

    def wait(self, calls: list[Any], busy: bool) -> list[Any]:
        """The first of ``calls`` that is done; waits without end only while workers are busy."""
        import ray

        if busy:
            self.since = time.monotonic()
        left = None if busy else max(0.0, self.since + self.engine.patience - time.monotonic())
        done, _ = ray.wait(calls, timeout=left)
        if not done and not busy:
            needs = f"{self.engine._cpus} CPUs" + f" and {self.engine._gpus:g} GPUs" * bool(self.engine._gpus)
            here = {name: int(number) for name, number in ray.cluster_resources().items() if name in ("CPU", "GPU")}
            raise EngineError(
                f"no worker of Ray was up after engine.patience={self.engine.patience:g} seconds. A worker needs "
                f"{needs}, and the cluster has {here or 'nothing'}. Lower engine.cpus or engine.gpus, or increase "
                "engine.patience"
            )
        return list(done)

    def finish(self, worker: _Worker) -> bool:
        """Whether a worker is up. Raises what its start raised, and EngineError if starts fail again and again."""
        import ray

        try:
            worker.host = result_of(ray.get(worker.ready))
        except ray.exceptions.RayError as error:
            reason = self.engine._lose(worker, error)
            self.failures += 1
            if self.failures > self.engine.retries:
                raise EngineError(f"{counted(self.failures, 'worker')} of Ray died at the start: {reason}") from error
            return False
        self.failures = 0
        return True


class _Objects:
    """Objects on workers; object ``i`` is on the worker ``i`` modulo their number."""

    def __init__(self, engine: RayEngine, makes: list[bytes]) -> None:
        self._engine, self._makes, self._number = engine, makes, next(engine._numbers)
        self._calls: list[tuple[str, Any]] = []
        self._on: list[_Worker] = []
        self._get_workers(min(len(makes), engine.workers))
        self._ask([(place, "hold", makes[place :: len(self._on)]) for place in range(len(self._on))])

    def __len__(self) -> int:
        return len(self._makes)

    def all(self, name: str, *arguments: Any) -> list[Any]:
        import ray

        sent = ray.put(packed(arguments))
        by_worker = self._ask([(place, name, sent) for place in range(len(self._on))])
        self._calls.append((name, sent))
        return [by_worker[i % len(self._on)][i // len(self._on)] for i in range(len(self))]

    @contextmanager
    def batch(self) -> Iterator[None]:
        before = len(self._calls)
        try:
            yield
        finally:
            del self._calls[before:]

    def release(self) -> None:
        import ray

        for worker in self._on:
            with suppress(ray.exceptions.RayError):
                worker.actor.release.remote(self._number)
        self._makes, self._calls, self._on = [], [], []

    def _get_workers(self, number: int) -> None:
        """Wait until ``number`` workers are up, or, if patience ends, some of them."""
        engine, starts = self._engine, _Starts(self._engine)
        while len(engine._workers) < number:
            engine._add()
        while starting := {worker.ready: worker for worker in engine._workers if worker.host is None}:
            for call in starts.wait(list(starting), busy=False):
                starts.finish(starting[call])
            while len(engine._workers) < number:
                engine._add()
        self._on = engine._workers[:number]

    def _ask(self, calls: list[tuple[int, str, Any]]) -> list[list[Any]]:
        """Send every call before any is waited for; a call whose worker dies is repeated on a new worker."""
        import ray

        sent = [self._send(*call) for call in calls]
        results = []
        for (place, name, arguments), call in zip(calls, sent, strict=True):
            for tries in count(1):
                try:
                    results.append(result_of(ray.get(call)))
                    break
                except ray.exceptions.RayError as error:
                    reason = self._engine._lose(self._on[place], error)
                    if tries > self._engine.retries:
                        raise CondsimError(f"{tries} workers died at the same call {name!r}: {reason}") from error
                    call = self._again(place, name, arguments)
        return results

    def _send(self, place: int, name: str, arguments: Any) -> Any:
        actor = self._on[place].actor
        if name == "hold":
            return actor.hold.remote(self._number, arguments)
        return actor.call.remote(self._number, name, arguments)

    def _again(self, place: int, name: str, arguments: Any) -> Any:
        """The call on a new worker, which makes the objects and repeats the earlier calls before."""
        self._on[place] = worker = self._engine._add()
        starts = _Starts(self._engine)
        while not starts.wait([worker.ready], busy=False) or not starts.finish(worker):
            self._on[place] = worker = self._engine._add()
        made = self._send(place, "hold", self._makes[place :: len(self._on)])
        if name == "hold":
            return made
        for earlier in self._calls:  # an actor does its calls in order
            self._send(place, *earlier)
        return self._send(place, name, arguments)


class _Actor:
    """A worker, on its own side."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings: Surroundings | None = surroundings
        self._number = -1
        self._do: Callable[[Any], Any] | None = None
        self._objects: dict[int, list[Any]] = {}

    def host(self) -> bytes:
        def enter() -> str:
            if self._surroundings is not None:
                self._surroundings.enter()
            return gethostname()

        return answer(enter)

    def do(self, number: int, make: bytes, item: bytes) -> bytes:
        def call() -> Any:
            if (do := self._do) is None or self._number != number:
                do = self._do = unpacked(make)()
                self._number = number
            return do(unpacked(item))

        return answer(call)

    def hold(self, number: int, makes: list[bytes]) -> bytes:
        def make() -> None:
            self._objects[number] = [unpacked(make)() for make in makes]

        return answer(make)

    def call(self, number: int, name: str, arguments: bytes) -> bytes:
        def call() -> list[Any]:
            given = unpacked(arguments)
            return [getattr(held, name)(*given) for held in self._objects[number]]

        return answer(call)

    def release(self, number: int) -> None:
        self._objects.pop(number, None)


@contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Inside: ``ray.init`` starts no thread that prints a paragraph about every worker that dies. We print a line."""
    listener = getattr(ray._private.worker, "listen_error_messages", None)
    ray._private.worker.listen_error_messages = lambda *_: None
    try:
        yield
    finally:
        ray._private.worker.listen_error_messages = listener


def _next(items: Iterator[Item]) -> list[Item]:
    """The next item, if there is one."""
    for item in items:
        return [item]
    return []
