"""The search: one trial after another, each kept, until there are enough or the time is over."""

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core import stage
from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.recipe.recipe import Recipe
from tasks.recipe.tune import Tune
from tasks.storage import code_closure
from tasks.storage.layout import SplitFolder
from tasks.tuning import study
from tasks.tuning.study import TrialRecord, TrialState, Values

if TYPE_CHECKING:
    import optuna

TRIAL_FOLDER = "trial"  # in the folder of a study: checkpoints of the running trial


def search_values(
    recipe: Recipe, config: Tune, split: SplitFolder, studies: Path
) -> list[TrialRecord]:
    """Carry out the trials of a study, and return all of them.

    Args:
        recipe: The recipe.
        config: Its section `tune`.
        split: The rows to train and to measure on.
        studies: The folder of the recipe's studies.
    """
    # These bring torch, which a recipe without `tune` need not wait for.
    from tasks.training import checkpoint
    from tasks.tuning import trial

    fingerprint = [
        *trial.collect_fingerprint_inputs(recipe, config, split),
        code_closure.hash_stage_code("tune"),
    ]
    with checkpoint.lock_run_folder(studies, fingerprint) as folder:
        trials = study.load_trials(folder)[: config.trials]
        while len(trials) < config.trials and is_time_left(config, trials):
            record = run_trial(recipe, config, split, folder, trials)
            study.write_trial(folder, record)
            shutil.rmtree(folder / TRIAL_FOLDER, ignore_errors=True)
            trials.append(record)
            print_trial(config, record, study.find_best_trial(recipe, config, trials))
    return trials


def is_time_left(config: Tune, trials: list[TrialRecord]) -> bool:
    """Return whether the search may begin another trial."""
    return config.seconds is None or sum(record.seconds for record in trials) < config.seconds


@dataclass(frozen=True)
class TrialResult:
    """What came of a trial."""

    state: TrialState
    value: float | None
    curve: list[float]
    note: str = ""


def run_trial(
    recipe: Recipe, config: Tune, split: SplitFolder, folder: Path, trials: list[TrialRecord]
) -> TrialRecord:
    """Carry out the next trial; if an earlier one had the same values, take its result instead."""
    optuna_trial = study.ask_trial(recipe, config, trials)
    values = study.decode_values(config, optuna_trial)
    number = len(trials)
    stage.report_progress("trial", number, config.trials)
    print_line(f"trial {number + 1}/{config.trials}: {format_values(values)}")
    for earlier in trials:
        if earlier.values == values:
            note = f"as trial {earlier.number + 1}"
            return earlier.model_copy(update={"number": number, "seconds": 0.0, "note": note})
    start_time = time.monotonic()
    result = execute_trial(
        recipe.with_tuned_values(values), split, folder / TRIAL_FOLDER, optuna_trial
    )
    return TrialRecord(
        number=number,
        values=values,
        state=result.state,
        value=result.value,
        curve=result.curve,
        seconds=round(time.monotonic() - start_time, 3),
        note=result.note,
    )


def execute_trial(
    recipe: Recipe, split: SplitFolder, folder: Path, optuna_trial: "optuna.Trial"
) -> TrialResult:
    """Train and measure a recipe with the values to try, as long as it keeps up with the others.

    Raises:
        ConfigError: The recipe cannot be trained, with whatever values.
        RetryableError: Something failed that another try may not meet.
    """
    from tasks.tuning import trial
    from tasks.tuning.trial import TrialPruned

    curve: list[float] = []

    def report(values: list[float]) -> None:
        for value in values[len(curve) :]:
            optuna_trial.report(value, len(curve))
            curve.append(value)
        if values and optuna_trial.should_prune():
            raise TrialPruned

    try:
        value = trial.train_and_score(recipe, split, folder, report)
    except TrialPruned:
        return TrialResult("pruned", curve[-1], curve)
    except (ConfigError, RetryableError):
        raise
    except StageError as error:
        return TrialResult("failed", None, curve, str(error))
    return TrialResult("done", value, curve)


def print_trial(config: Tune, record: TrialRecord, best: TrialRecord | None) -> None:
    """Print what a trial achieved, and the best so far."""
    number = record.number + 1
    stage.report_progress("trial", number, config.trials)
    result = record.note if record.state == "failed" else f"{record.value:.4f}"
    best_so_far = f"; best {best.value:.4f} of trial {best.number + 1}" if best else ""
    print_line(f"trial {number}/{config.trials} {record.state}: {result}{best_so_far}")


def print_line(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


def format_values(values: Values) -> str:
    """Return values as `key value, key value`."""
    parts = []
    for name, value in values.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        parts.append(f"{name} {text}")
    return ", ".join(parts)
