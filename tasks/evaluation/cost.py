"""Cost: what the model takes to serve.

Size and parameters are metrics. Times, memory and energy belong to this machine and moment, so
they lie in cost.json. They are measured in a process of its own, with one thread, which does
nothing but load the exported model and predict test rows.
"""

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tasks import modalities
from tasks.contracts.base import JsonObject
from tasks.core import stage
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.modalities.base import Predictor
from tasks.telemetry import energy

MIN_SECONDS = 1.0  # of predictions, for each batch size
MIN_CALLS = 3  # however long they take
MAX_CALLS = 1000  # which is enough for the 99th percentile, however quick they are
WARM_UP_FRACTION = 5  # the first fifth of all calls warms up
BATCH_SIZES = (1, 32)
N_THREADS = 1  # many requests share the cores better than the parts of one
MAX_ROWS = 256


def measure(context: EvaluationContext) -> AspectResult:
    """Measure the model's size, and what serving it costs on this machine."""
    served_files = {
        path.name: path.stat().st_size
        for path in sorted(context.model.path.iterdir())
        if context.info.is_needed_to_serve(path.name)
    }
    metrics = {
        "bytes": sum(served_files.values()),
        "parameters": context.info.parameters,
    }
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        rows = context.inputs[:MAX_ROWS]
        timings = pool.submit(measure_serving, context.model.path, rows).result()
    return AspectResult(metrics, {"files": served_files, "timings": timings}, timings)


def measure_serving(folder: Path, rows: list[Any]) -> JsonObject:
    """Measure serving in this process.

    Returns:
        Latency in milliseconds by batch size, throughput in rows per second, seconds to load,
        peak memory in MiB and, with codecarbon, energy in watt-hours per 1,000 predictions.
    """
    start = time.perf_counter()
    predictor = modalities.load_predictor(folder, N_THREADS)
    costs: JsonObject = {"load_s": round(time.perf_counter() - start, 3)}
    for size in BATCH_SIZES:
        seconds = time_calls(predictor, rows, size)
        warm = seconds[max(1, len(seconds) // WARM_UP_FRACTION) :]
        costs[f"latency_ms_batch_{size}"] = summarize_latency(warm)
        costs["rows_per_s"] = round(size * len(warm) / sum(warm), 1)  # of the largest size
    costs |= stage.measure_peak_memory()
    watt_hours = measure_energy_per_1000(predictor, rows)
    if watt_hours is not None:
        costs["energy_wh_per_1000"] = watt_hours
    return costs


def summarize_latency(seconds: Sequence[float]) -> dict[str, float | int]:
    """Return the median, 95th and 99th percentile in milliseconds, and the number of calls."""
    p50, p95, p99 = (np.quantile(seconds, [0.5, 0.95, 0.99]) * 1000).round(3).tolist()
    return {"p50": p50, "p95": p95, "p99": p99, "calls": len(seconds)}


def measure_energy_per_1000(predictor: Predictor, rows: list[Any]) -> float | None:
    """Return watt-hours per 1,000 predictions in large batches; None without codecarbon."""
    tracker = energy.start_tracker()
    if tracker is None:
        return None
    size = BATCH_SIZES[-1]
    n_rows = size * len(time_calls(predictor, rows, size))
    tracker.stop()
    kilowatt_hours = tracker.final_emissions_data.energy_consumed
    return round(float(kilowatt_hours * 1e6 / n_rows), 6)


def time_calls(predictor: Predictor, rows: list[Any], size: int) -> list[float]:
    """Return the seconds of each call, going through the rows in batches, round and round."""
    starts = range(0, len(rows), size)
    batches = [cycle_rows(rows, start, size) for start in starts]
    seconds: list[float] = []
    while needs_more_calls(seconds):
        batch = batches[len(seconds) % len(batches)]
        start_time = time.perf_counter()
        predictor(batch)
        seconds.append(time.perf_counter() - start_time)
    return seconds


def needs_more_calls(seconds: Sequence[float]) -> bool:
    """Return whether these calls are too few to tell what a call takes."""
    if len(seconds) < MIN_CALLS:
        return True
    return len(seconds) < MAX_CALLS and sum(seconds) < MIN_SECONDS


def cycle_rows(rows: list[Any], start: int, size: int) -> list[Any]:
    """Return `size` rows from `start` on, beginning again at the end."""
    return [rows[(start + offset) % len(rows)] for offset in range(size)]
