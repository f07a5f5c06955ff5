"""One runner for all long work: in this process, on the cores of this machine, or on a cluster (Dask).

A job is any value that can be pickled, and the work is a function of it in a module. Results return to the process that
asked, and only that process records them, so workers need no place to write to.
"""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from hypernas.errors import UserError

if TYPE_CHECKING:
    from distributed import Client, Future

# Jobs with the scheduler at once, for each worker and at least: enough to keep all busy while the driver records rows,
# few enough that a long list of jobs is not kept in memory and a second driver of the same work gets its part.
JOBS_A_WORKER, FEWEST_JOBS = 2, 16
# Settings of Dask: no lines of its own, and no profiler, a rare look at memory.
QUIET = {
    "distributed.logging.distributed": "critical",
    "distributed.comm.timeouts.connect": "60s",
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.system-monitor.disk": False,
    "distributed.worker.memory.monitor-interval": "5s",
    # Dask's own value has malloc return memory at each turn: 1.6 times the CPU of a row of trees. One arena cures it.
    "distributed.nanny.pre-spawn-environ": {"MALLOC_ARENA_MAX": "1"},
}
# What a worker imports, some four seconds of it. Where processes can be forked it is imported once, in a process that
# has no threads, and a worker is a copy of that: it starts in a tenth of a second, and a lost one is replaced as fast.
IMPORTED = ("distributed.nanny", "hypernas.lab.recording", "scipy.stats", "sklearn.ensemble")
START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
# Seconds until a scheduler that does not answer is given up.
ANSWER_SECONDS = 20


@dataclass(frozen=True)
class Workers:
    """Where jobs run: in this process, in `workers` local processes, or on the workers of a `scheduler` address.

    `threads` sets PyTorch's threads in each of them; 0 means its default here and one thread in a worker. A job waits
    for a worker that offers the `resources`, such as `{"GPU": 1}`. Jobs that fail are retried `retries` times; those
    whose worker was lost are always retried.
    """

    workers: int = 1
    threads: int = 0
    scheduler: str = ""
    resources: Mapping[str, float] = field(default_factory=dict)
    retries: int = 0

    @property
    def in_process(self) -> bool:
        return self.workers == 1 and not self.scheduler

    def at_most(self, n_jobs: int) -> Workers:
        """Return the same with no more processes than jobs, because each takes seconds to start."""
        return dataclasses.replace(self, workers=max(min(self.workers, n_jobs), 1))

    def __str__(self) -> str:
        if self.scheduler:
            return f"the workers of {self.scheduler}"
        return "this process" if self.in_process else f"{self.workers} workers"


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def begin_to_start(workers: Workers, imported: Sequence[str] = IMPORTED) -> None:
    """Start the imports of the workers now, alongside those of this process; a `Runner` does so if nobody has.

    Importing torch reads the number of threads, and glibc that of arenas, so both are in the environment by then.
    """
    if workers.in_process or workers.scheduler or START_METHOD != "forkserver":
        return
    from multiprocessing import forkserver

    environment = {**_environment(workers), "MALLOC_ARENA_MAX": "1"}
    before = {name: os.environ.get(name) for name in environment}
    multiprocessing.get_context(START_METHOD).set_forkserver_preload(list(imported))
    os.environ.update(environment)
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _environment(workers: Workers) -> dict[str, str]:
    """Variables of a worker."""
    threads = str(workers.threads or 1)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return dict.fromkeys(names, threads) | {"DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "critical"}


class Done(NamedTuple):
    """A job with its result or the error that ended it, where it ran, and for how many seconds."""

    job: Any
    result: Any = None
    error: Exception | None = None
    where: str = ""
    seconds: float = 0.0


class Runner:
    """Runs jobs on `workers` that have `imported` some modules. A context manager; the workers end with it."""

    def __init__(self, workers: Workers | None = None, imported: Sequence[str] = IMPORTED) -> None:
        self.workers, self.imported = workers or Workers(), imported
        self._client: Client | None = None
        self._cluster: Any = None
        self._open = ExitStack()

    def __enter__(self) -> Runner:
        if not self.workers.in_process:
            self._open.enter_context(_hidden_script())
            self._connect()
        return self

    def __exit__(self, *_: object) -> None:
        for part in (self._client, self._cluster):
            if part is not None:
                part.close()
        self._client = self._cluster = None
        self._open.close()

    def map(self, work: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[Done]:
        """Yield each job as soon as it is done, or with the error if it failed.

        Jobs are drawn when a worker has room.
        """
        if self._client is None:
            return (_here(work, job, self.workers.threads) for job in jobs)
        return self._elsewhere(work, iter(jobs))

    def _connect(self) -> None:
        import dask
        from distributed import Client, LocalCluster

        # A lost worker is told as a failed or repeated job, so Dask's own lines about it are left out.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        dask.config.set(QUIET | {"distributed.worker.multiprocessing-method": START_METHOD})
        if self.workers.scheduler:
            try:
                self._client = Client(self.workers.scheduler, timeout=ANSWER_SECONDS, set_as_default=False)
            except (OSError, ValueError) as error:
                rule = "the scheduler must be the address of a running one, such as tcp://host:8786"
                raise UserError(f"{rule}, got {self.workers.scheduler!r}: {error}") from error
        else:
            begin_to_start(self.workers, self.imported)
            try:
                self._cluster = LocalCluster(
                    n_workers=self.workers.workers,
                    threads_per_worker=1,
                    dashboard_address="127.0.0.1:0",
                    memory_limit=0,
                    silence_logs=logging.CRITICAL,
                    resources=dict(self.workers.resources),
                    env=_environment(self.workers),
                )
            except RuntimeError as error:
                raise UserError(f"the processes must start, got {error}: ask for fewer workers") from error
            self._client = Client(self._cluster, set_as_default=False)
        self._tell_of_missing_resources()

    def _tell_of_missing_resources(self) -> None:
        assert self._client is not None
        offered = [worker["resources"] for worker in self._client.scheduler_info(n_workers=-1)["workers"].values()]
        for name, amount in self.workers.resources.items():
            if not any(resources.get(name, 0) >= amount for resources in offered):
                logging.getLogger("hypernas").warning(
                    "No worker offers %s=%g yet; the work waits for one.", name, amount
                )

    def _room(self) -> int:
        """How many jobs may be with the scheduler at once."""
        assert self._client is not None
        return max(JOBS_A_WORKER * len(self._client.nthreads()), FEWEST_JOBS)

    def _elsewhere(self, work: Callable[[Any], Any], jobs: Iterator[Any]) -> Iterator[Done]:
        from distributed import as_completed

        client = self._client
        assert client is not None
        running: dict[Future, Any] = {}
        finished = as_completed(loop=client.loop, with_results=True, raise_errors=False)
        options: dict[str, Any] = {
            "resources": dict(self.workers.resources) or None,
            "retries": self.workers.retries,
            "pure": False,
        }

        def fill() -> None:
            more = list(islice(jobs, max(self._room() - len(running), 0)))
            futures = client.map(partial(_there, work, threads=self.workers.threads or 1), more, **options)
            running.update(zip(futures, more, strict=True))
            finished.update(futures)

        fill()
        try:
            for batch in finished.batches():
                for future, result in batch:
                    job = running.pop(future)
                    yield _lost(job, future) if future.status != "finished" else Done(job, *result)
                    future.release()
                fill()
        finally:
            client.cancel(list(running))


@contextmanager
def _hidden_script() -> Iterator[None]:
    """Keep new processes from importing the script that asks for them, which would run it again in each.

    `multiprocessing` finds it by these two attributes. A script needs no guard by `__name__` then.
    """
    script = vars(sys.modules["__main__"])
    hidden: dict[str, Any] = {name: script[name] for name in ("__file__", "__spec__") if name in script}
    script.pop("__file__", None)
    script["__spec__"] = None
    try:
        yield
    finally:
        script.update(hidden)


def _here(work: Callable[[Any], Any], job: Any, threads: int) -> Done:
    if threads:
        _set_threads(threads)
    start = time.perf_counter()
    try:
        result = work(job)
    except Exception as error:
        return Done(job, None, error, "this process", time.perf_counter() - start)
    return Done(job, result, None, "this process", time.perf_counter() - start)


def _there(work: Callable[[Any], Any], job: Any, threads: int) -> tuple[Any, None, str, float]:
    """In a worker: all of a `Done` but the job."""
    from distributed import get_worker

    _set_threads(threads)
    where = f"{socket.gethostname()} {get_worker().name}"
    start = time.perf_counter()
    try:
        result = work(job)
    except Exception as error:
        # What an exception carries travels with it, and Dask sees that the job failed.
        error.ran = (where, time.perf_counter() - start)  # type: ignore[attr-defined]
        raise
    return result, None, where, time.perf_counter() - start


def _set_threads(threads: int) -> None:
    """Of PyTorch, whether it is imported already or will be: notebooks start without it."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _lost(job: Any, future: Future) -> Done:
    from distributed.scheduler import KilledWorker

    error = future.exception()
    if isinstance(error, KilledWorker):
        error = UserError(f"its worker was lost {error.allowed_failures + 1} times while it ran")
    where, seconds = getattr(error, "ran", ("", 0.0))
    return Done(job, None, error, where, seconds)
