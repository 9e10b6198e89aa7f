"""Where several steps run at once: processes of this machine, or Ray tasks. Both give futures, and news from the inside."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from paredown.core.errors import MachineError, MissingExtra

LOST = "a worker process was killed, perhaps for want of memory"
GO_ON = "the same command goes on; fewer --jobs leave more memory to each step"
_news: Any = None  # where this process, if it is a worker, puts what it has to say
_working = False  # whether this process, if it is a worker, has something that can be interrupted
_stopped = False  # whether it was told to begin nothing more
_saying = False  # whether it is amid a word; an interrupt then leaves the queue's locks held, so it waits
_wanted = False  # whether an interrupt waits


def say(*item: Any) -> None:
    """Send news from a worker to whoever waits for it."""
    global _saying
    if _news is None:
        return
    _saying = True
    try:
        _news.put(item)
    finally:
        _saying = False
    if _wanted:
        _interrupt()


class Pool(Protocol):
    """Workers for functions of a module with arguments that can be pickled."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Run it in a worker. The future raises MachineError where the worker was lost."""

    def news(self) -> list[tuple[Any, ...]]:
        """What the workers said since the last call."""

    def close(self, *, stop: bool) -> None:
        """Wait for the workers; with `stop`, begin nothing new and interrupt what can be interrupted."""


class Processes:
    """A pool of processes of this machine. They end with this process, in whatever way it ends."""

    def __init__(self, workers: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._queue: Any = spawn.Queue()
        self._word, self._open = spawn.Pipe(duplex=False)  # workers hold the one end; closing the other tells all of them to stop
        self._pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin, initargs=(self._queue, self._word))

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        outer: Future[Any] = Future()

        def hand_on(inner: Future[Any]) -> None:
            error = inner.exception() if not inner.cancelled() else None
            if isinstance(error, BrokenProcessPool):
                error = MachineError(LOST, kept="all finished steps", todo=GO_ON)
            if inner.cancelled():
                outer.cancel()
            elif error is not None:
                outer.set_exception(error)
            else:
                outer.set_result(inner.result())

        try:
            with _no_interrupts():  # a worker that is starting would answer Ctrl-C with a traceback
                inner = self._pool.submit(_work, function, *arguments)
        except BrokenProcessPool:
            outer.set_exception(MachineError(LOST, kept="all finished steps", todo=GO_ON))
        else:
            inner.add_done_callback(hand_on)
        return outer

    def news(self) -> list[tuple[Any, ...]]:
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._queue.get_nowait())
        return found

    def close(self, *, stop: bool) -> None:
        if stop:
            self._open.close()
        self._pool.shutdown(wait=True, cancel_futures=stop)
        for end in (self._open, self._word):
            end.close()


class RayTasks:
    """Ray tasks on this machine or on the cluster that RAY_ADDRESS names."""

    def __init__(self, workers: int) -> None:
        ray = start_ray(workers)
        from ray.util.queue import Queue

        self._ray, self._queue = ray, Queue()
        # Ray gives a worker one thread; sums of another number of threads round otherwise, and the run must give the same bytes.
        threads = str(len(os.sched_getaffinity(0)))
        passed = {name: os.environ[name] for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY") if name in os.environ}
        self._remote = ray.remote(_call).options(runtime_env={"env_vars": {"OMP_NUM_THREADS": threads, **passed}}, max_retries=0)
        self._open: list[Any] = []

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        outer: Future[Any] = Future()
        reference = self._remote.remote(self._queue, function, *arguments)
        self._open.append(reference)

        def hand_on(inner: Future[Any]) -> None:
            error = inner.exception()
            if error is None:
                outer.set_result(inner.result())
                return
            cause = getattr(error, "cause", None) or error
            if isinstance(cause, self._ray.exceptions.RayError):
                text = " ".join(str(cause).split())[:300]
                cause = MachineError(f"a Ray worker was lost: {type(cause).__name__}: {text}", kept="all finished steps", todo=GO_ON)
            outer.set_exception(cause)

        reference.future().add_done_callback(hand_on)
        return outer

    def news(self) -> list[tuple[Any, ...]]:
        return list(self._queue.get_nowait_batch(self._queue.qsize()))

    def close(self, *, stop: bool) -> None:
        if stop:
            for reference in self._open:
                self._ray.cancel(reference)
        if self._open:
            self._ray.wait(self._open, num_returns=len(self._open))
        self._queue.shutdown()


def start_ray(workers: int) -> Any:
    """The module ray, connected: to the cluster that RAY_ADDRESS names, or to one started here with so many workers.

    Raises:
        MissingExtra: Ray is not installed.
        MachineError: the cluster cannot be reached.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingExtra("ray", "the engine ray", "ray") from None
    if not ray.is_initialized():
        here: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
        try:
            ray.init(log_to_driver=False, logging_level=40, **here)
        except ConnectionError as error:
            raise MachineError(
                f"the Ray cluster cannot be reached: {error}", where=f"RAY_ADDRESS={os.environ.get('RAY_ADDRESS', '')}",
                todo="see ray status; without RAY_ADDRESS a cluster is started on this machine",
            ) from None  # fmt: skip
    return ray


def end_with_parent() -> None:
    """Of a process that another one started to work for it: die when that one is gone, rather than wait for work for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Ctrl-C waits; processes that are started inside begin deaf to it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(news: Any, word: Any) -> None:
    """Make this process a worker: it stops what it does on Ctrl-C and at a word, and is not troubled by either where it does nothing."""
    _listen(news)
    news.cancel_join_thread()  # what nobody hears any more must not keep this process
    end_with_parent()
    signal.signal(signal.SIGINT, _interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    main = threading.main_thread().ident

    def wait() -> None:
        global _stopped
        with contextlib.suppress(EOFError, OSError):
            word.recv_bytes()
        _stopped = True
        if main is not None:
            signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


def _interrupt(*_: object) -> None:
    global _wanted, _working
    _wanted = _working and _saying
    if _working and not _saying:
        _working = False  # once: what cleans up is left in peace
        raise KeyboardInterrupt


def _work(function: Callable[..., Any], *arguments: Any) -> Any:
    global _working
    _working = True
    try:
        if _stopped:
            raise KeyboardInterrupt
        return function(*arguments)
    finally:
        _working = False


def _listen(news: Any) -> None:
    global _news
    _news = news


def _call(news: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    _listen(news)
    return function(*arguments)
