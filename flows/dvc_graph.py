"""The pipeline as dvc.yaml defines it: stages, their order and policy, and which of them are stale and why."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tasks import resolve
from tasks.core.errors import StageError

UNTRACKED_SOURCE_CHANGED = "a source that DVC does not watch has changed"


@dataclass(frozen=True)
class Stage:
    """One stage of one recipe, such as clean@digits, with the policy in its `meta`."""

    name: str
    recipe: str
    retries: int
    backoff: list[float]  # seconds before each retry
    timeout: float  # seconds
    tags: list[str]
    keeps: bool  # whether it takes up what an earlier run left among its outputs

    @property
    def address(self) -> str:
        return f"{self.name}@{self.recipe}"


class Pipeline:
    """DVC's index of this workspace. Not for use by several threads at once."""

    def __init__(self) -> None:
        from dvc.repo import Repo

        logging.getLogger("dvc").setLevel(logging.ERROR)
        self.repo = Repo(".")

    def of(self, address: str) -> Any:
        """DVC's own stage of this address, or None."""
        return next(
            (
                stage
                for stage in self.repo.index.stages
                if getattr(stage, "addressing", "") == address
            ),
            None,
        )

    def stages(self, recipe: str) -> list[Stage]:
        """The stages that lead to the recipe's gate, each after all that it depends on."""
        import networkx

        gate = self.of(f"gate@{recipe}")
        if gate is None:
            raise StageError(
                f"dvc.yaml has no stage gate@{recipe}: is {recipe} among the recipes of params.yaml?"
            )
        graph = self.repo.index.graph  # an edge points from a stage to what it needs
        needed = graph.subgraph(networkx.descendants(graph, gate) | {gate}).reverse()
        return [
            build_stage(stage)
            for stage in networkx.lexicographical_topological_sort(
                needed, key=lambda stage: stage.addressing
            )
        ]

    def stale_reasons(self, stage: Stage) -> list[str]:
        """What changed since the stage last ran, in words; empty where nothing did and its outputs are there."""
        self.repo._reset()
        found = self.of(stage.address)
        if not any(dep.hash_info for dep in found.deps):
            return ["it has not run yet"]
        with self.repo.lock:
            reasons = [
                reason
                for entry in found.status(check_updates=True).get(stage.address, [])
                for reason in describe_changes(entry)
            ]
        return (
            [UNTRACKED_SOURCE_CHANGED]
            if not reasons and stage.name == "resolve" and resolve.is_outdated(stage.recipe)
            else reasons
        )


def build_stage(stage: Any) -> Stage:
    name, _, recipe = stage.addressing.partition("@")
    meta, keeps = stage.meta or {}, any(out.persist for out in stage.outs)
    return Stage(
        name,
        recipe,
        meta.get("retries", 0),
        meta.get("backoff", []),
        meta.get("timeout", 3600),
        meta.get("tags", []),
        keeps,
    )


def describe_changes(entry: Any) -> Iterator[str]:
    """A line for each change in one entry of `dvc status`."""
    if isinstance(entry, str):
        yield entry
        return
    for kind, changes in entry.items():
        for path, change in changes.items():
            if isinstance(change, dict):  # parameters: file → key → change
                yield from (f"{key} in {path} is {what}" for key, what in change.items())
            else:
                yield (
                    f"{path} is {change}"
                    if kind == "changed deps"
                    else f"its output {path} is {change}"
                )
