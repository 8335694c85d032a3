"""The graph of stages that dvc.yaml defines: their order, their policy, and what is stale."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tasks import resolve
from tasks.core.errors import StageError
from tasks.recipe.loading import list_registered_names

UNTRACKED_SOURCE_CHANGED = "a source that DVC does not watch has changed"
DEFAULT_TIMEOUT_SECONDS = 3600.0


@dataclass(frozen=True)
class Stage:
    """One stage of one recipe, such as clean@digits, with the policy in its `meta`.

    Attributes:
        name: The stage's name.
        recipe: The recipe's name.
        retries: How often to try again after an error that may pass.
        backoff: Seconds before each retry.
        timeout: The limit in seconds.
        tags: What it needs, such as `gpu`.
        keeps_outputs: Whether it continues from outputs of an earlier run.
    """

    name: str
    recipe: str
    retries: int
    backoff: list[float]
    timeout: float
    tags: list[str]
    keeps_outputs: bool

    @property
    def address(self) -> str:
        """The stage's name in DVC."""
        return f"{self.name}@{self.recipe}"


class Pipeline:
    """DVC's index of one recipe, made once. Several threads must not use it at once."""

    def __init__(self, recipe: str) -> None:
        """Load the recipe's stages from dvc.yaml and dvc.lock.

        Raises:
            StageError: params.yaml does not list the recipe.
        """
        from dvc.repo import Repo
        from dvc.repo.index import Index

        from flows import dvc_recipe

        logging.getLogger("dvc").setLevel(logging.ERROR)
        self.recipe = recipe
        self.repo = Repo(".")
        if recipe not in list_registered_names():
            raise missing_stages_error(recipe)
        stages = list(dvc_recipe.load_project_file(self.repo, recipe).stages.values())
        self.index = Index(self.repo, stages=stages)
        self.dvc_stages = {stage.addressing: stage for stage in stages}

    def list_stages(self) -> list[Stage]:
        """Return the stages that lead to the recipe's gate, each after all that it depends on.

        Raises:
            StageError: dvc.yaml has no such gate.
        """
        import networkx

        gate = self.dvc_stages.get(f"gate@{self.recipe}")
        if gate is None:
            raise missing_stages_error(self.recipe)
        graph = self.index.graph  # an edge points from a stage to what it needs
        needed = graph.subgraph(networkx.descendants(graph, gate) | {gate}).reverse()
        ordered = networkx.lexicographical_topological_sort(
            needed, key=lambda stage: stage.addressing
        )
        return [build_stage(stage) for stage in ordered]

    def stale_reasons(self, stage: Stage) -> list[str]:
        """Return what changed since the stage last ran, seen from the files as they are now.

        Ask once for each stage, before it runs: its entry of dvc.lock was read with the index.
        The list is empty if nothing changed and the stage's outputs are there.
        """
        dvc_stage = self.dvc_stages[stage.address]
        if not any(dep.hash_info for dep in dvc_stage.deps):
            return ["it has not run yet"]
        with self.repo.lock:
            status = dvc_stage.status(check_updates=True)
        reasons: list[str] = []
        for entry in status.get(stage.address, []):
            reasons += describe_changes(entry)
        if not reasons and stage.name == "resolve" and resolve.is_outdated(stage.recipe):
            return [UNTRACKED_SOURCE_CHANGED]
        return reasons


def missing_stages_error(recipe: str) -> StageError:
    """Return the error for a recipe that has no stages."""
    return StageError(
        f"dvc.yaml has no stage gate@{recipe}: is {recipe} among the recipes of params.yaml?"
    )


def build_stage(dvc_stage: Any) -> Stage:
    """Return a stage of DVC with the policy in its `meta`."""
    name, _, recipe = dvc_stage.addressing.partition("@")
    meta = dvc_stage.meta or {}
    return Stage(
        name=name,
        recipe=recipe,
        retries=meta.get("retries", 0),
        backoff=meta.get("backoff", []),
        timeout=meta.get("timeout", DEFAULT_TIMEOUT_SECONDS),
        tags=meta.get("tags", []),
        keeps_outputs=any(out.persist for out in dvc_stage.outs),
    )


def describe_changes(entry: str | Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each change in one entry of `dvc status`."""
    if isinstance(entry, str):
        yield entry
        return
    for kind, changes in entry.items():
        for path, change in changes.items():
            if isinstance(change, dict):  # parameters: file, key, change
                for key, state in change.items():
                    yield f"{key} in {path} is {state}"
            elif kind == "changed deps":
                yield f"{path} is {change}"
            else:
                yield f"its output {path} is {change}"
