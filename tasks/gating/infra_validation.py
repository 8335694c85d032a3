"""Can a version be served? It is loaded from its files alone, and asked its golden requests.

TFX calls this infra validation: what a gate on metrics cannot see, such as a missing tokenizer, a
label map of another model, or an operator that the runtime lacks.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks import modalities
from tasks.contracts.manifest import GOLDEN
from tasks.contracts.model_info import ModelInfo
from tasks.contracts.validation_result import ValidationResult
from tasks.core import stage
from tasks.core.errors import StageError
from tasks.modalities.base import InputRow, Predictor
from tasks.recipe.promote import Promote
from tasks.statistics.array_types import Floats
from tasks.storage import files
from tasks.storage.layout import ModelFolder

# An int8 network gives slightly other answers on another CPU: MiniLM's moved by up to 0.023 without
# AVX2 or without graph optimisation. Another model moves most of them by far more.
TOLERANCE = 0.05
MAX_DEVIATING_SHARE = 0.1
QUANTILE = 0.95
MIN_CALLS = 20
MAX_REASON = 300
MAX_LABELS = 5
# What onnxruntime says of inputs of another type, name or shape.
WRONG_INPUT = ("data type", "input feed", "Invalid rank", "Invalid Feed Input Name", "dimensions")


class ValidationFault(StageError):  # noqa: N818  a verdict on the version
    """The version cannot be served."""


@dataclass(frozen=True)
class GoldenRequests:
    """Rows, the answers that the evaluation recorded, `[rows, width]`, and their labels."""

    inputs: list[InputRow]
    answers: Floats
    labels: list[str]


def validate_folder(folder: Path, budgets: Promote) -> ValidationResult:
    """Load the version in a folder, ask it its golden requests, and measure it.

    Args:
        folder: The version's files, verified.
        budgets: The limits of latency and memory.
    """
    try:
        return measure_version(folder, budgets)
    except StageError as error:
        return ValidationResult(verdict="fail", reason=str(error))


def measure_version(folder: Path, budgets: Promote) -> ValidationResult:
    """Return the result of a version that passes.

    Raises:
        StageError: It fails, and why.
    """
    info = ModelInfo.read(ModelFolder(folder).info)
    require_serving_files(folder, info)
    predictor = load_model(folder)
    if not (folder / GOLDEN).is_file():  # a version from before there were golden requests
        return ValidationResult(verdict="pass", reason="It loads; it has no golden requests.")
    golden = read_golden_requests(folder / GOLDEN)
    answers = ask(predictor, golden.inputs)
    require_labels(info, answers, golden)
    deviation = require_same_answers(answers, golden)
    latency = measure_latency(predictor, golden.inputs)
    memory = stage.peak_resident_mib()
    require_budgets(budgets, latency, memory)
    return ValidationResult(
        verdict="pass",
        reason=f"It answers its {len(answers)} golden requests.",
        requests=len(answers),
        max_deviation=round(deviation, 6),
        latency_ms=round(latency, 3),
        memory_mib=memory,
    )


def require_serving_files(folder: Path, info: ModelInfo) -> None:
    """Raise ValidationFault if a file is missing that this kind of model cannot do without."""
    needed = ["model.onnx"]
    if "tokenizer.json" in info.input.SERVING_FILES:
        needed.append("tokenizer.json")
    for name in needed:
        if not (folder / name).is_file():
            what = "tokenizer" if name == "tokenizer.json" else "file"
            raise ValidationFault(
                f"The version has no {what} {name}, without which it cannot answer: train it again."
            )


def load_model(folder: Path) -> Predictor:
    """Load the model as it is served.

    Raises:
        StageError: The runtime cannot load it.
    """
    try:
        return modalities.load_predictor(folder)
    except StageError:
        raise
    except Exception as error:  # whatever the libraries raise is a verdict
        reason = " ".join(str(error).split())
        raise ValidationFault(
            f"The model cannot be loaded ({type(error).__name__}: {reason[:MAX_REASON]})."
        ) from error


def read_golden_requests(path: Path) -> GoldenRequests:
    """Read golden requests.

    Raises:
        ValidationFault: The file holds none.
    """
    try:
        table = files.read_table(path)
        inputs = table["input"].to_pylist()
        answers = np.array(table["answers"].to_pylist(), dtype=np.float64)
        labels = table["labels"].to_pylist()
    except (StageError, KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise ValidationFault(
            f"{path.name} holds no golden requests ({type(error).__name__}): evaluate the model "
            "again."
        ) from error
    if not inputs or answers.ndim != 2 or not np.isfinite(answers).all():
        raise ValidationFault(
            f"{path.name} holds no golden request with finite answers: evaluate the model again."
        )
    return GoldenRequests(inputs, answers, labels[0])


def ask(predictor: Predictor, rows: Sequence[InputRow]) -> Floats:
    """Return the answers, `[rows, width]`.

    Raises:
        ValidationFault: The model cannot read the rows, or gives numbers that are not finite.
    """
    try:
        answers = np.asarray(predictor(rows), dtype=np.float64)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValidationFault(describe_failed_answer(reason, type(error).__name__)) from error
    if answers.ndim != 2 or len(answers) != len(rows):
        raise ValidationFault(
            f"The model gives answers of shape {answers.shape} for {len(rows)} rows."
        )
    if not np.isfinite(answers).all():
        broken = int((~np.isfinite(answers)).any(axis=1).sum())
        raise ValidationFault(
            f"The model gives NaN or infinite answers to {broken} of {len(rows)} golden requests: "
            "its weights are broken; train it again."
        )
    return answers


def describe_failed_answer(reason: str, kind: str) -> str:
    """Return the sentence for a model that fails on its golden requests."""
    if any(text in reason for text in WRONG_INPUT):
        return (
            f"model.onnx takes inputs of another type, name or shape than are fed to it "
            f"({reason[:MAX_REASON]}): export it with the Millrace that serves it."
        )
    return f"The model fails on its golden requests ({kind}: {reason[:MAX_REASON]})."


def require_labels(info: ModelInfo, answers: Floats, golden: GoldenRequests) -> None:
    """Raise ValidationFault if the labels in model.json are not those of the outputs."""
    widths = {"the model": answers.shape[1], "its golden requests": golden.answers.shape[1]}
    if len(set(widths.values())) > 1:
        raise ValidationFault(
            f"The label map is wrong: the model gives {answers.shape[1]} numbers for a row, but "
            f"its golden requests have {golden.answers.shape[1]}."
        )
    if info.labels != golden.labels:
        raise ValidationFault(
            f"The label map is wrong: model.json names the labels {shorten(info.labels)}, but the "
            f"model was judged with {shorten(golden.labels)}."
        )
    has_output_per_label = info.problem in ("classification", "multilabel")
    if has_output_per_label and answers.shape[1] != len(info.labels):
        raise ValidationFault(
            f"The label map is wrong: model.json names {len(info.labels)} labels, but the model "
            f"gives {answers.shape[1]} numbers for a row."
        )


def shorten(labels: Sequence[str]) -> str:
    """Return the first labels."""
    shown = ", ".join(labels[:MAX_LABELS])
    return f"{shown}, …" if len(labels) > MAX_LABELS else shown


def require_same_answers(answers: Floats, golden: GoldenRequests) -> float:
    """Return the largest deviation from the recorded answers.

    Raises:
        ValidationFault: Too many answers are others.
    """
    spread = max(1.0, float(np.ptp(golden.answers)))  # of a regression; probabilities have 1
    deviations = np.abs(answers - golden.answers).max(axis=1) / spread
    deviating = int((deviations > TOLERANCE).sum())
    if deviating <= MAX_DEVIATING_SHARE * len(answers):
        return float(deviations.max())
    if is_reordered(answers, golden.answers):
        raise ValidationFault(
            "The label map is wrong: the answers are those that were recorded, but in another "
            "order of the labels."
        )
    raise ValidationFault(
        f"{deviating} of {len(answers)} golden requests are answered by other numbers than the "
        f"evaluation recorded (by up to {deviations.max():.3g}, allowed {TOLERANCE}): these are "
        "not the files that were judged, or this CPU computes otherwise."
    )


def is_reordered(answers: Floats, recorded: Floats) -> bool:
    """Return whether answers differ from recorded ones only by the order of their columns."""
    distances = np.abs(answers[:, :, None] - recorded[:, None, :]).sum(axis=0)
    matches = distances.argmin(axis=1)
    is_permutation = len(set(matches.tolist())) == len(matches)
    return is_permutation and bool(np.abs(answers - recorded[:, matches]).max() <= TOLERANCE)


def measure_latency(predictor: Predictor, rows: Sequence[InputRow]) -> float:
    """Return the 95th percentile of the time for one row, in milliseconds."""
    seconds = []
    for call in range(max(MIN_CALLS, len(rows))):
        start = time.perf_counter()
        predictor([rows[call % len(rows)]])
        seconds.append(time.perf_counter() - start)
    return 1000 * float(np.quantile(seconds, QUANTILE))


def require_budgets(budgets: Promote, latency_ms: float, memory_mib: int) -> None:
    """Raise ValidationFault if the version is slower or larger than the recipe allows."""
    if budgets.latency_ms is not None and latency_ms > budgets.latency_ms:
        raise ValidationFault(
            f"The model is too slow: one row takes {latency_ms:.1f} ms (95th percentile), but "
            f"promote.latency_ms allows {budgets.latency_ms:g} ms."
        )
    if budgets.memory_mib is not None and memory_mib > budgets.memory_mib:
        raise ValidationFault(
            f"The model is too big: serving it takes {memory_mib} MiB of memory, but "
            f"promote.memory_mib allows {budgets.memory_mib} MiB."
        )
