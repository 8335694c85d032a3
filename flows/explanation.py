"""What a run of a recipe would do, and which versions were trained on rows to be erased."""

from collections.abc import Mapping
from dataclasses import dataclass

from flows import registry_access
from flows.dvc_graph import Pipeline
from tasks.recipe.recipe import Recipe
from tasks.registry import channel_pointer, manifests
from tasks.sources import erasure
from tasks.storage.layout import StagePaths


@dataclass(frozen=True)
class StageExplanation:
    """What a run would do with one stage.

    Attributes:
        stage: The stage's name.
        state: `would run`; `may run`, if an earlier stage gives something new; `up to date`.
        reasons: What has changed, or on which stage it depends.
    """

    stage: str
    state: str
    reasons: list[str]


@dataclass(frozen=True)
class ErasureReport:
    """The rows to be erased, and the versions that were trained on them.

    Attributes:
        ids: How many rows are to be erased.
        in_production: The version that is in production.
        versions: Of how many of these rows each version was trained; None if it is not known.
    """

    ids: int
    in_production: str | None
    versions: Mapping[str, int | None]


def explain_stages(recipe: str) -> list[StageExplanation]:
    """Return what a run would do with each stage, in order."""
    pipeline = Pipeline(recipe)
    explanations = []
    last_stale = ""
    for stage in pipeline.list_stages():
        reasons = pipeline.stale_reasons(stage)
        if reasons:
            state = "would run"
            last_stale = stage.name
        elif last_stale:
            state = "may run"
            reasons = [f"if {last_stale} gives something new"]
        else:
            state = "up to date"
        explanations.append(StageExplanation(stage.name, state, reasons))
    return explanations


def report_erasure(recipe: Recipe) -> ErasureReport:
    """Return which versions were trained on the rows that data/RECIPE/erase.csv lists."""
    ids = erasure.read_erased_ids(StagePaths.of_recipe(recipe.name).erased_ids)
    if not ids:
        return ErasureReport(ids=0, in_production=None, versions={})
    with registry_access.open_registry() as registry:
        versions = manifests.count_known_rows(registry, recipe.name, ids)
        pointer = channel_pointer.read_pointer(registry, recipe.name, recipe.promote.channel)
    return ErasureReport(len(ids), pointer.version if pointer else None, versions)
