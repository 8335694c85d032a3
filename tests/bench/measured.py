"""Run a function in its own process; measure its time and the peak memory of its processes."""

import multiprocessing
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import psutil


class Figures(NamedTuple):
    seconds: float  # inside the function; what its modules take to import is not counted
    peak: float  # MiB
    result: Any


def measured(function: Callable[..., Any], *arguments: Any) -> Figures:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=timed, args=(theirs, function, arguments))
    process.start()
    peak, watched = 0, psutil.Process(process.pid)
    while not ours.poll(0.05):
        if not process.is_alive() and not ours.poll(0):
            raise RuntimeError(f"{function.__name__} ended with status {process.exitcode}")
        peak = max(peak, held(watched))
    seconds, result = ours.recv()
    process.join()
    return Figures(seconds, peak / 2**20, result)


def held(process: psutil.Process) -> int:
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def timed(pipe: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    import ftfy  # noqa: F401
    import pandas  # noqa: F401

    import tasks.sources.files  # noqa: F401

    begun = time.perf_counter()
    result = function(*arguments)
    pipe.send((time.perf_counter() - begun, result))
