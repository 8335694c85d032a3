"""Search."""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from tasks.core import stage
from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.recipe.recipe import Recipe
from tasks.recipe.tune import Tune
from tasks.storage import code_closure, files
from tasks.tuning import study
from tasks.tuning.study import TrialRecord


def search_values(recipe: Recipe, section: Tune, source: Path, studies: Path) -> list[TrialRecord]:
    from tasks.training import checkpoint
    from tasks.tuning import trial  # bring torch, which a recipe without tune need not wait for

    of = [*trial.collect_fingerprint_inputs(recipe, source), code_closure.hash_stage_code("tune")]
    with checkpoint.lock_run_folder(studies, of) as folder:
        done = study.load_trials(folder)[: section.trials]
        while len(done) < section.trials and (
            section.seconds is None or sum(record["seconds"] for record in done) < section.seconds
        ):
            record = run_trial(recipe, section, source, folder, done)
            files.write_json(folder / f"{record['number']:05d}.json", record)
            shutil.rmtree(folder / "trial", ignore_errors=True)
            done.append(record)
            print_trial(section, record, study.find_best_trial(recipe, section, done))
    return done


def run_trial(
    recipe: Recipe, section: Tune, source: Path, folder: Path, done: list[TrialRecord]
) -> TrialRecord:
    """The next trial, carried out; where an earlier one had the same values, what came of that."""
    from tasks.tuning import trial
    from tasks.tuning.trial import TrialPruned

    asked = study.ask_trial(recipe, section, done)
    values = study.decode_values(section, asked)
    about: TrialRecord = {
        "number": len(done),
        "values": values,
        "state": "done",
        "value": None,
        "course": [],
        "seconds": 0.0,
        "note": "",
    }
    stage.report_progress("trial", len(done), section.trials)
    print(
        f"trial {len(done) + 1}/{section.trials}: {format_values(values)}",
        file=sys.stderr,
        flush=True,
    )
    for earlier in done:
        if earlier["values"] == values:
            return (
                about
                | {key: earlier[key] for key in ("state", "value", "course")}
                | {"note": f"as trial {earlier['number'] + 1}"}
            )
    begun = time.monotonic()

    def report(course: list[float]) -> None:
        for value in course[len(about["course"]) :]:
            asked.report(value, len(about["course"]))
            about["course"].append(value)
        if course and asked.should_prune():
            raise TrialPruned

    try:
        about["value"] = trial.train_and_score(
            recipe.with_tuned_values(values), source, folder / "trial", report
        )
    except TrialPruned:
        about |= {"state": "pruned", "value": about["course"][-1]}
    except (ConfigError, RetryableError):
        raise
    except StageError as failure:
        about |= {"state": "failed", "note": str(failure)}
    return about | {"seconds": round(time.monotonic() - begun, 3)}


def print_trial(section: Tune, record: TrialRecord, best: TrialRecord | None) -> None:
    told = record["note"] if record["state"] == "failed" else f"{record['value']:.4f}"
    stage.report_progress("trial", record["number"] + 1, section.trials)
    known = f"; best {best['value']:.4f} of trial {best['number'] + 1}" if best else ""
    print(
        f"trial {record['number'] + 1}/{section.trials} {record['state']}: {told}{known}",
        file=sys.stderr,
        flush=True,
    )


def format_values(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )
