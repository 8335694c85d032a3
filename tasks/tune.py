"""Tune: search better values for the recipe's train section, where the recipe says which.

    python -m tasks.tune support-desk

Writes tuned/best.json (the chosen values, by their keys in train; {} without a `tune` section), trials.csv for `dvc plots` and index.html. A search that was
cut off is taken up from checkpoints/.tune/<recipe>/<fingerprint>/; one whose `trials` were raised adds to those that are there. It never reads the test split.
"""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from tasks import code, energy, files, resolve, study, study_report
from tasks.recipe import Recipe, Tune
from tasks.step import Failure, Mistake, Retryable, main
from tasks.study import Record


def tune(name: str) -> None:
    folder = files.folder_of(name)
    run(
        resolve.read(name),
        folder / "split",
        folder / "tuned",
        files.of_repository(f"checkpoints/.tune/{name}"),
    )


def run(recipe: Recipe, source: Path, target: Path, studies: Path) -> None:
    done: list[Record] = []
    if recipe.tune:
        with energy.measured():
            done = search(recipe, recipe.tune, source, studies)
    best = study.best(recipe, recipe.tune, done) if recipe.tune else None
    if done and best is None:
        raise Failure(
            f"tune: none of {len(done)} trials could be trained; the first: {done[0]['note']}"
        )
    files.write_json(target / "best.json", best["values"] if best else {})
    files.write_csv(target / "trials.csv", table(recipe, done))
    files.write_text(target / "index.html", study_report.rendered(recipe, done, best))


def search(recipe: Recipe, section: Tune, source: Path, studies: Path) -> list[Record]:
    from tasks import (
        checkpoint,
        trial,
    )  # bring torch, which a recipe without tune need not wait for

    of = [*trial.fingerprint(recipe, source), code.fingerprint(__file__)]
    with checkpoint.own(studies, of) as folder:
        done = study.records(folder)[: section.trials]
        while len(done) < section.trials and (
            section.seconds is None or sum(record["seconds"] for record in done) < section.seconds
        ):
            record = attempt(recipe, section, source, folder, done)
            files.write_json(folder / f"{record['number']:05d}.json", record)
            shutil.rmtree(folder / "trial", ignore_errors=True)
            done.append(record)
            say(section, record, study.best(recipe, section, done))
    return done


def attempt(
    recipe: Recipe, section: Tune, source: Path, folder: Path, done: list[Record]
) -> Record:
    """The next trial, carried out; where an earlier one had the same values, what came of that."""
    from tasks import trial

    asked = study.ask(recipe, section, done)
    values = study.values(section, asked)
    about: Record = {
        "number": len(done),
        "values": values,
        "state": "done",
        "value": None,
        "course": [],
        "seconds": 0.0,
        "note": "",
    }
    print(f"trial {len(done) + 1}/{section.trials}: {listed(values)}", file=sys.stderr, flush=True)
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
            raise trial.Behind

    try:
        about["value"] = trial.run(recipe.tuned(values), source, folder / "trial", report)
    except trial.Behind:
        about |= {"state": "pruned", "value": about["course"][-1]}
    except (Mistake, Retryable):
        raise
    except Failure as failure:
        about |= {"state": "failed", "note": str(failure)}
    return about | {"seconds": round(time.monotonic() - begun, 3)}


def say(section: Tune, record: Record, best: Record | None) -> None:
    told = record["note"] if record["state"] == "failed" else f"{record['value']:.4f}"
    known = f"; best {best['value']:.4f} of trial {best['number'] + 1}" if best else ""
    print(
        f"trial {record['number'] + 1}/{section.trials} {record['state']}: {told}{known}",
        file=sys.stderr,
        flush=True,
    )


def listed(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def table(recipe: Recipe, done: list[Record]) -> list[list[Any]]:
    """The heading, and a row for each trial, numbered from 1."""
    names = sorted(recipe.tune.space) if recipe.tune else []
    rows = (
        [
            record["number"] + 1,
            record["state"],
            record["value"],
            *(record["values"][name] for name in names),
        ]
        for record in done
    )
    return [["trial", "state", "value", *names], *rows]


if __name__ == "__main__":
    main(tune)
