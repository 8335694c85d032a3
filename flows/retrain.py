"""Retrain: run a recipe's stages, judge the result against what is in production, and promote it where the verdict allows.

Each stage of dvc.yaml is one task. DVC is the only cache; Prefect retries, limits, shows.
"""

import contextlib
import datetime
import itertools
import json
import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows import process, storage
from flows.pipeline import OUTSIDE, Pipeline, Stage
from flows.progress import Bar
from tasks import card, drops, files, materials, registry, resolve
from tasks import champion as champions
from tasks.recipe import load
from tasks.registry import Pointer
from tasks.step import Failure, Mistake, Retryable
from tasks.store import Store, locked

LOCK = Path(".millrace/lock")
RUNS = Path("runs")
DOCUMENTS = ("card.md", "bom.cdx.json")  # of a version, beside its manifest
PASSING = re.compile(
    r"/checks/\w+$|/evaluation/(cost\.json|report\.html)$"
)  # outputs that are others each time
ROUNDS = 3  # gates against a champion that moved while we judged
NETWORK: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [2, 10, 30],
    "cache_policy": NO_CACHE,
}


def may_pass(task: Any, run: Any, state: Any) -> bool:
    """Prefect's question whether to retry: only what may pass by itself. It must be a plain function, or retries are silently off."""
    return isinstance(state.result(raise_on_failure=False), Retryable)


@task(cache_policy=NO_CACHE, retry_condition_fn=may_pass)
def run_stage(stage: Stage, why: list[str]) -> dict[str, Any]:
    """Run one stage as `dvc repro` would; returns its record."""
    logger = get_run_logger()
    logger.info("%s: %s", stage.address, "; ".join(why))
    begun = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "dvc",
        "--wait-for-lock",
        "repro",
        "--single-item",
        *(["--force"] if why == [OUTSIDE] else []),
        stage.address,
    ]

    bar = Bar(stage.address)
    measured: dict[str, Any] = {}

    def log(line: str) -> None:
        bar.see(line)
        if not chatter(line):
            logger.log(logging.WARNING if line.startswith("warning:") else logging.INFO, line)

    with gpus(stage) as alone:
        lines = process.run([*alone, *command], log, stage.timeout, stage.address, measured)
    ran = any(line.startswith("Running stage") for line in lines)
    return {
        "stage": stage.address,
        "state": "ran" if ran else "restored",
        "why": why,
        "seconds": round(time.monotonic() - begun, 2),
        **measured,
    }


@contextlib.contextmanager
def gpus(stage: Stage) -> Iterator[list[str]]:
    """Hold as many of this machine's GPUs as a stage with the tag gpu has processes, whatever workspace others run in; gives the words before its command
    that show it these alone.

    A killed run's slots come back in a minute. Workspaces with a Prefect server each share no slots, so lock files say which GPUs are taken.
    """
    given = os.environ.get("MILLRACE_GPUS", "")
    if given and not given.isdecimal():
        raise Mistake(
            f"MILLRACE_GPUS is {given!r}: set it to how many GPUs runs may use, such as 2, or unset it."
        )
    found = int(given or len(list(Path("/dev").glob("nvidia[0-9]*"))))
    section = (
        getattr(load(stage.recipe), stage.name, None) if "gpu" in stage.tags and found else None
    )
    if not section:
        yield []  # it needs none, or has nothing to do
        return
    numbers = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(found)))).split(
        ","
    )
    wanted = min(found, len(numbers), getattr(section, "processes", 1))
    name = f"gpu-{platform.node()}"
    with (
        get_client(sync_client=True) as client,
        contextlib.suppress(ObjectAlreadyExists),
    ):  # two that make it at once: one is refused
        client.upsert_global_concurrency_limit_by_name(name, found)
    lock = f"{tempfile.gettempdir()}/millrace-{os.getuid()}-gpu-"
    with (
        concurrency(name, strict=True, occupy=wanted, lease_duration=60),
        contextlib.ExitStack() as held,
    ):
        while (
            len(
                mine := list(
                    itertools.islice(
                        (
                            one
                            for one in numbers
                            if held.enter_context(locked(Path(lock + one), wait=False))
                        ),
                        wanted,
                    )
                )
            )
            < wanted
        ):
            held.close()
            time.sleep(process.POLL_SECONDS)
        yield ["env", f"CUDA_VISIBLE_DEVICES={','.join(mine)}"]


def chatter(line: str) -> bool:
    """Whether this is DVC's advice to a person at a terminal, which a log has no use for."""
    return not line.strip() or line.strip().startswith(
        ("git add", "dvc config", "To track", "To enable", "Use `dvc push`")
    )


@task(name="push", retry_condition_fn=may_pass, **NETWORK)
def push(store: Store, recipe: str, stages: list[Stage]) -> None:
    """Push the stages' outputs to the DVC remote in the same store, so that every promoted model can be traced to its data."""
    storage.name_remote(store.settings)
    dvc = [*storage.without_profile(store.settings), sys.executable, "-m", "dvc"]
    command = [
        *dvc,
        "push",
        "--quiet",
        "--remote",
        storage.REMOTE,
        *(stage.address for stage in stages),
    ]
    process.run(command, get_run_logger().info, 3600, "dvc push")


@task(name="gate against the champion", retry_condition_fn=may_pass, **NETWORK)
def judge(
    store: Store,
    recipe: str,
    version: str,
    champion: Pointer | None,
    override: dict[str, str] | None,
) -> dict[str, Any]:
    """The gate's result for the candidate and this champion. What was judged once stays so: only a new version is a new look at the champion."""
    name, out = champion.version if champion else None, files.folder_of(recipe) / "gate.json"
    known = registry.judged(store, recipe, version, name)
    if (
        override
    ):  # what a person promotes all the same need not be judged again, which may be what fails
        return {**(known or files.read_json(out)), "champion": name, "override": override}
    if champion and not known:
        folder = registry.fetch(store, recipe, champion.version, champions.FOLDER / recipe)
        look = registry.look(store, recipe, version, champion.version)
        out = Path(".millrace") / f"gate-{recipe}.json"
        command = [
            sys.executable,
            "-m",
            "tasks.gate",
            recipe,
            str(folder),
            champion.version,
            str(look),
            str(out),
        ]
        process.run(command, get_run_logger().info, 3600, "gate")
    judged: dict[str, Any] = known or files.read_json(out)
    if judged["verdict"] != "promote":  # where it is, that is written once the version is
        registry.once(
            store, registry.evidence_of(recipe, version, name), registry.canonical(judged)
        )
    return judged


@task(name="fetch the champion", retry_condition_fn=may_pass, **NETWORK)
def note_champion(store: Store, recipe: str, channel: str) -> None:
    """Put what is in production where the stages find it: training is to start from it."""
    pointer = registry.read(store, recipe, channel)
    folder = (
        registry.fetch(store, recipe, pointer.version, champions.FOLDER / recipe)
        if pointer
        else None
    )
    champions.note(
        recipe, pointer.version if pointer else None, files.hashes(folder) if folder else {}
    )


@task(name="promote", retry_condition_fn=may_pass, **NETWORK)
def promote(
    store: Store,
    recipe: str,
    channel: str,
    manifest: bytes,
    evidence: dict[str, Any],
    champion: Pointer | None,
    run: str,
) -> registry.Move:
    """Publish the version and move the channel's pointer to it, if the champion is still the one in the evidence."""
    version = registry.publish(store, recipe, files.folder_of(recipe) / "model", manifest)
    for name in DOCUMENTS:
        store.upload(f"{recipe}/versions/{version}/{name}", files.folder_of(recipe) / name)
    by = evidence.get("override") or {"actor": "flow", "reason": f"run {run}"}
    return registry.move(
        store, recipe, channel, version, evidence, champion, by["actor"], by["reason"]
    )


@flow(name="retrain", flow_run_name="{recipe}", log_prints=True)
def retrain(recipe: str, override: dict[str, str] | None = None) -> State:
    """Retrain, judge and promote one registered recipe. Ends as Promoted, Unchanged, Rejected, Inconclusive, Superseded, or failed with a sentence.

    With `override`, an actor and a reason, no stage runs, and what was judged is promoted whatever the verdict was.
    """
    run = str(flow_run.get_id() or "local")
    record: dict[str, Any] = {
        "run": run,
        "recipe": recipe,
        "started": now(),
        "commit": commit(),
        "stages": [],
    }
    path = RUNS / f"{run}.json"
    try:
        with workspace(), storage.opened() as store:
            try:
                outcome, message = steps(store, recipe, run, record, override)
            except Failure as failure:
                outcome, message = "Failed", str(failure)
            files.write_json(
                path, record | {"outcome": outcome, "message": message, "ended": now()}
            )
            store.upload(f"{recipe}/runs/{path.name}", path)
    except Failure as failure:
        outcome, message = "Failed", str(failure)
        files.write_json(path, record | {"outcome": outcome, "message": message, "ended": now()})
    return (
        Failed(message=message) if outcome == "Failed" else Completed(name=outcome, message=message)
    )


def steps(
    store: Store, recipe: str, run: str, record: dict[str, Any], override: dict[str, str] | None
) -> tuple[str, str]:
    """The run itself; returns the flow's state and its reason."""
    said = load(recipe)
    if champions.wanted(said) and not override:
        note_champion(store, recipe, said.promote.channel)
    pipeline = Pipeline()
    stages = pipeline.stages(recipe)
    bring_back(recipe, stages)
    for stage in stages if not override else ():
        why, begun = pipeline.why(stage), time.monotonic()
        entry: dict[str, Any] = {
            "stage": stage.address,
            "state": "failed" if why else "cached",
            "why": why,
            "seconds": 0.0,
        }
        record["stages"].append(entry)
        if stage.name == "ingest" and not why:
            get_run_logger().info("%s (unchanged since the last run)", held(recipe))
        if why:
            options: dict[str, Any] = {
                "name": stage.name,
                "retries": stage.retries,
                "retry_delay_seconds": stage.backoff or None,
                "tags": stage.tags,
            }
            try:
                entry |= run_stage.with_options(**options)(stage, why)
            except Failure:
                entry["seconds"] = round(time.monotonic() - begun, 2)
                raise
    channel = files.read_json(resolve.path_of(recipe))["promote"]["channel"]
    manifest = candidate(recipe, stages)
    version = registry.version_of(manifest)
    record |= {"version": version, "channel": channel, "warnings": shown(recipe)}
    for _ in range(ROUNDS):
        champion = registry.read(store, recipe, channel)
        if champion and champion.version == version:
            return (
                "Unchanged",
                f"{recipe} {version} is in production already (generation {champion.generation}).",
            )
        verdict = judge(store, recipe, version, champion, override)
        if verdict["model_sha256"] != {
            name: about["sha256"] for name, about in json.loads(manifest)["files"].items()
        }:
            raise Failure(
                f"The gate judged other files than those of {recipe} {version}: run `dvc repro gate@{recipe}`; nothing was promoted."
            )
        record |= {
            key: verdict.get(key)
            for key in ("verdict", "reason", "checks", "champion", "changed", "override")
        }
        rules = [
            {key: check.get(key) for key in ("rule", "metric", "outcome", "reason")}
            for check in verdict["checks"]
        ]
        create_table_artifact(
            rules,
            key=f"{recipe}-gate",
            description=f"**{verdict['verdict']}**: {verdict['reason']}",
        )
        document(recipe, manifest, verdict, record["stages"])
        if verdict["verdict"] != "promote" and not override:
            return "Rejected" if verdict["verdict"] == "reject" else "Inconclusive", verdict[
                "reason"
            ]
        push(store, recipe, stages)
        moved = promote(store, recipe, channel, manifest, verdict, champion, run)
        if moved.won:
            create_markdown_artifact(
                f"**{recipe} {version}** is in `{channel}`.\n\n{verdict['reason']}",
                key=f"{recipe}-version",
            )
            told = (
                f"{override['actor']} overrode the verdict {verdict['verdict']}: {override['reason']} "
                if override
                else ""
            )
            return "Promoted", f"{recipe} {version} is now in {channel}. {told}{verdict['reason']}"
    winner = (
        f"{moved.now.version} by {moved.now.record['reason']}" if moved.now else "nothing by nobody"
    )
    return "Superseded", f"{channel} moved while this run judged: it names {winner}."


def held(recipe: str) -> str:
    """How many rows the source held when it was last read, and what became of them."""
    told = files.read_json(files.folder_of(recipe) / "raw" / "snapshot.json")
    return drops.line("ingest", told["rows_in"], told["rows"], told["rules"])


def bring_back(recipe: str, stages: list[Stage]) -> None:
    """In a new workspace, restore from DVC's cache what stages take up: parts that need not be read again, the snapshot to compare with."""
    if not any(files.folder_of(recipe).glob("*/")) and Path("dvc.lock").is_file():
        kept = [stage.address for stage in stages if stage.keeps]
        with contextlib.suppress(Failure):  # the cache may know nothing of it
            process.run(
                [sys.executable, "-m", "dvc", "checkout", "--quiet", *kept],
                get_run_logger().debug,
                600,
                "dvc checkout",
            )


@contextlib.contextmanager
def workspace() -> Iterator[None]:
    """Hold the workspace's lock, and clear away what a killed run has left."""
    LOCK.parent.mkdir(exist_ok=True)
    with locked(LOCK, wait=False) as held:
        if not held:
            raise Failure(
                f"Another run works in {Path.cwd()}: wait until it has ended, or use another clone."
            )
        process.sweep(get_run_logger().warning)
        process.repair_locks(get_run_logger().warning)
        yield


def candidate(recipe: str, stages: list[Stage]) -> bytes:
    """The manifest of what was judged: refuses a model whose files are not those of the evaluation."""
    folder = files.folder_of(recipe)
    lock = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    lineage = {
        stage.address: {
            # what the checks keep of earlier snapshots is no part of what this model was made from, and what a clock said of it neither
            kind: {
                item["path"]: item.get("md5")
                for item in lock[stage.address].get(kind, [])
                if not PASSING.search(item["path"])
            }
            for kind in ("deps", "outs")
        }
        for stage in stages
    }
    evaluation = files.read_json(folder / "evaluation" / "metrics.json")
    runtime = {"python": ".".join(platform.python_version_tuple()[:2])}
    manifest = registry.manifest(
        recipe, folder / "model", lineage, card.intervals_of(evaluation), runtime
    )
    if {
        name: about["sha256"] for name, about in json.loads(manifest)["files"].items()
    } != evaluation["model_sha256"]:
        raise Failure(
            f"{folder / 'model'} is not the model that was evaluated: run `dvc repro gate@{recipe}`, which evaluates it again; nothing was promoted."
        )
    return manifest


def document(
    recipe: str, manifest: bytes, verdict: dict[str, Any], stages: list[dict[str, Any]]
) -> None:
    """Write the model card and the bill of materials of what was judged, whatever the verdict, and show the card."""
    folder, said = files.folder_of(recipe), resolve.read(recipe)
    text = card.card(
        said, folder, registry.version_of(manifest), verdict, stages, verdict.get("override")
    )
    files.write_text(folder / DOCUMENTS[0], text)
    files.write_json(folder / DOCUMENTS[1], materials.bill(said, folder, manifest))
    create_markdown_artifact(
        text.split("---\n", 2)[2],
        key=f"{recipe}-card",
        description="The model card, without the hub's metadata.",
    )


def shown(recipe: str) -> list[str]:
    """Show what became of the rows, the metrics and what the checks warn of, also where they ran in an earlier flow; returns the warnings."""
    folder = files.folder_of(recipe)
    create_table_artifact(
        card.steps(folder),
        key=f"{recipe}-data",
        description="Rows in = rows out + rejects, at every step.",
    )
    evaluation = files.read_json(folder / "evaluation" / "metrics.json")
    metrics = [
        {
            "metric": name,
            "model": value["value"],
            "interval": f"{value['low']} to {value['high']}",
            "baseline": evaluation["baseline"][name]["value"],
        }
        for name, value in card.intervals_of(evaluation).items()
    ]
    create_table_artifact(
        metrics,
        key=f"{recipe}-metrics",
        description="The exported model on the test split, beside the baseline.",
    )
    warnings = [
        line
        for suite in ("raw", "ready")
        for line in files.read_json(folder / "checks" / suite / "result.json")["warnings"]
    ]
    if warnings:
        create_markdown_artifact(
            "\n".join(f"- {line}" for line in warnings), key=f"{recipe}-warnings"
        )
    return warnings


def commit() -> str | None:
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else None


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
