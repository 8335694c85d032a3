"""The candidate: the version that the outputs in this workspace make, and its provenance."""

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.dvc_graph import Stage
from tasks.contracts.evaluation import Evaluation
from tasks.contracts.manifest import GOLDEN, Manifest, ModelFile
from tasks.contracts.model_info import ModelInfo
from tasks.contracts.provenance import Provenance, StageProvenance
from tasks.core import timestamps
from tasks.core.errors import StageError
from tasks.recipe import resolved
from tasks.registry import manifests
from tasks.storage import hashing
from tasks.storage.layout import StagePaths

CONSTRAINTS_FILE = Path("constraints.txt")
DVC_LOCK_FILE = Path("dvc.lock")


@dataclass(frozen=True)
class Candidate:
    """A version that may be promoted.

    Attributes:
        recipe: The recipe's name.
        channel: The channel that it is for.
        manifest: What the version is.
        provenance: How it was made.
    """

    recipe: str
    channel: str
    manifest: Manifest
    provenance: Provenance

    @property
    def version(self) -> str:
        """The version's name."""
        return self.manifest.version


def build_candidate(
    recipe: str, run: str, stages: list[Stage], channel: str | None = None
) -> Candidate:
    """Return the candidate that the outputs of the stages make, for the recipe's own channel.

    Args:
        recipe: The recipe's name.
        run: The id of the flow run.
        stages: The stages that made it.
        channel: Another channel that it is for.

    Raises:
        StageError: The model is not the one that was evaluated.
    """
    paths = StagePaths.of_recipe(recipe)
    manifest = build_manifest(recipe, paths)
    return Candidate(
        recipe=recipe,
        channel=channel or resolved.read_resolved_recipe(recipe).promote.channel,
        manifest=manifest,
        provenance=build_provenance(manifest, run, stages),
    )


def build_manifest(recipe: str, paths: StagePaths) -> Manifest:
    """Return the manifest of the model that was evaluated.

    Raises:
        StageError: The model's files are not those of the evaluation.
    """
    evaluation = Evaluation.read(paths.evaluation.metrics)
    model_files = manifests.list_model_files(paths.model.path, ModelInfo.read(paths.model.info))
    golden = paths.evaluation.golden
    golden_file = ModelFile(sha256=hashing.sha256(golden), size=golden.stat().st_size)
    manifest = Manifest(
        model=recipe,
        files={**model_files, GOLDEN: golden_file},
        recipe_sha256=manifests.hash_recipe(paths),
        data=manifests.hash_data(paths),
        metrics=evaluation.metrics,
        runtime={"python": ".".join(platform.python_version_tuple()[:2])},
    )
    if manifest.model_hashes != evaluation.model_sha256:
        raise StageError(
            f"{paths.model.path} is not the model that was evaluated: run "
            f"`dvc repro gate@{recipe}`, which evaluates it again; nothing was promoted."
        )
    return manifest


def build_provenance(manifest: Manifest, run: str, stages: list[Stage]) -> Provenance:
    """Return who makes the version: this run, on this machine, with this code."""
    lock = yaml.safe_load(DVC_LOCK_FILE.read_text())["stages"]
    return Provenance(
        model=manifest.model,
        version=manifest.version,
        run=run,
        created=timestamps.format_utc_now(),
        host=platform.node(),
        platform=platform.platform(),
        python=platform.python_version(),
        commit=read_git_commit(),
        constraints_sha256=hashing.sha256(CONSTRAINTS_FILE),
        stages={stage.address: parse_lock_entry(lock[stage.address]) for stage in stages},
    )


def parse_lock_entry(entry: Mapping[str, Any]) -> StageProvenance:
    """Return what DVC's lock file records of a stage."""
    return StageProvenance(
        deps={item["path"]: item.get("md5") for item in entry.get("deps", [])},
        outs={item["path"]: item.get("md5") for item in entry.get("outs", [])},
    )


def read_git_commit() -> str | None:
    """Return the commit that is checked out; None outside of git."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
