"""Cost: what the model takes to serve. Its size is a metric; times, memory and energy are those of this machine and moment, and lie in cost.json.

They are measured in a process of its own with one thread, which does nothing but load the exported model and predict test rows. Energy is codecarbon's
estimate, where that is installed.
"""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tasks import modalities
from tasks.core import stage
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.modalities.base import Predictor
from tasks.storage import files
from tasks.telemetry import energy

TRAINING_ONLY_FILES = (
    "history.jsonl",
    "model.safetensors",
    "trained_on.parquet",
)  # what training leaves for those who come after it
MIN_SECONDS = 1.0  # of predictions for each size of batch
MIN_CALLS = 3  # calls, however long they take; the first fifth of all warms up
BATCH_SIZES = (1, 32)
N_THREADS = 1  # many requests share the cores better than the parts of one


def measure(case: EvaluationContext) -> AspectResult:
    served = {
        path.name: path.stat().st_size
        for path in sorted(case.model.iterdir())
        if path.name not in TRAINING_ONLY_FILES
    }
    metrics = {
        "bytes": sum(served.values()),
        "parameters": files.read_json(case.model / "model.json")["parameters"],
    }
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        timed = pool.submit(measure_serving, case.model, case.rows[:256]).result()
    return AspectResult(metrics, {"files": served, "timed": timed}, timed)


def measure_serving(folder: Path, rows: list[Any]) -> dict[str, Any]:
    """Latency in milliseconds, throughput in rows a second, the time to load in seconds, the most memory held in MiB, energy in watt-hours."""
    begun = time.perf_counter()
    predictor = modalities.load_predictor(folder, N_THREADS)
    found: dict[str, Any] = {"load_s": round(time.perf_counter() - begun, 3)}
    for size in BATCH_SIZES:
        taken = time_calls(predictor, rows, size)
        warm = taken[max(1, len(taken) // 5) :]
        points = np.quantile(warm, [0.5, 0.95, 0.99]) * 1000
        found[f"latency_ms_batch_{size}"] = {
            **dict(zip(("p50", "p95", "p99"), points.round(3).tolist(), strict=True)),
            "calls": len(warm),
        }
    found |= {"rows_per_s": round(size * len(warm) / sum(warm), 1), **stage.measure_peak_memory()}
    tracker = energy.start_tracker()
    if tracker:
        count = size * len(time_calls(predictor, rows, size))
        tracker.stop()
        found["energy_wh_per_1000"] = round(
            tracker.final_emissions_data.energy_consumed * 1e6 / count, 6
        )
    return found


def time_calls(predictor: Predictor, rows: list[Any], size: int) -> list[float]:
    """The seconds of each call with so many rows, one batch after the other and round again."""
    batches = [
        [rows[(start + at) % len(rows)] for at in range(size)]
        for start in range(0, len(rows), size)
    ]
    taken: list[float] = []
    while len(taken) < MIN_CALLS or sum(taken) < MIN_SECONDS:
        begun = time.perf_counter()
        predictor(batches[len(taken) % len(batches)])
        taken.append(time.perf_counter() - begun)
    return taken
