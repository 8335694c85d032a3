"""The model card (Mitchell et al. 2019), for people and for the model hub.

It says what a model is for, what it was made from, how good it is, and what the gate decided: what
the stages have written, and nothing else.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml
from huggingface_hub import ModelCardData

from tasks import problems
from tasks.contracts.base import JsonObject
from tasks.contracts.cleaning_report import CleaningReport
from tasks.contracts.evaluation import ClassMetrics, Evaluation
from tasks.contracts.evidence import Evidence
from tasks.contracts.label_report import LabelReport
from tasks.contracts.manifest import Manifest
from tasks.contracts.model_info import ModelInfo
from tasks.contracts.run_record import StageEntry
from tasks.contracts.snapshot import Snapshot
from tasks.contracts.split_report import SplitReport
from tasks.contracts.stage_report import StageReport
from tasks.problems.multilabel import NO_LABEL
from tasks.recipe.loading import RECIPES_FOLDER
from tasks.recipe.metric_names import ASPECTS
from tasks.recipe.recipe import Recipe
from tasks.reports.hub_metadata import build_hub_metadata
from tasks.reports.model_usage import describe_usage
from tasks.storage import files
from tasks.storage.layout import ModelFolder, StagePaths

MIN_ROWS = 30  # a class or slice with fewer test rows says little
MAX_NUMBERS = 12  # that are shown of an aspect, and small classes that are named
MAX_WORST = 5


def quote_cell(value: object) -> str:
    """Write a value for a cell of a Markdown table."""
    return " ".join(str(value).split()).replace("|", "\\|")


def dump_yaml(value: object) -> str:
    """Write a value as YAML, its keys in their own order."""
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


TEMPLATES = jinja2.Environment(  # noqa: S701  (Markdown is not escaped as HTML is)
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
TEMPLATES.filters["yaml"] = dump_yaml
TEMPLATES.filters["cell"] = quote_cell


def render_model_card(
    recipe: Recipe,
    paths: StagePaths,
    version: str,
    evidence: Evidence,
    stages: Sequence[StageEntry] = (),
) -> str:
    """Render Markdown, with the hub's metadata as its header, from the outputs of the stages.

    Args:
        recipe: The resolved recipe.
        paths: Where the outputs of its stages lie.
        version: The version that the card is about.
        evidence: The gate's verdict on it.
        stages: The stages of the run that made it.
    """
    evaluation = Evaluation.read(paths.evaluation.metrics)
    model_info = ModelInfo.read(paths.model.info)
    usage = describe_usage(model_info)
    metadata = build_hub_metadata(recipe, evaluation.metrics, usage.library)
    return TEMPLATES.get_template("model_card.md").render(
        recipe=recipe,
        version=version,
        header=metadata.to_dict(),  # type: ignore[no-untyped-call]
        purpose=describe_purpose(recipe),
        model_info=model_info,
        usage=usage,
        snapshot=Snapshot.read(paths.raw.snapshot),
        stage_rows=count_rows_by_stage(paths),
        history=read_history(paths.model),
        training_stage=find_training_stage(stages),
        evaluation=evaluation,
        worst_classes=find_worst_classes(evaluation),
        aspects=list_aspects(evaluation),
        max_shown=MAX_NUMBERS,
        cost=files.read_json(paths.evaluation.cost),
        limits=describe_limits(paths, evaluation),
        verdict=evidence.gate,
        override=evidence.override,
    )


def render_short_card(folder: Path, manifest: Manifest) -> str:
    """Render a card from a version's own files and its manifest, without what a run knows."""
    model_info = ModelInfo.read(ModelFolder(folder).info)
    usage = describe_usage(model_info)
    metadata = ModelCardData(
        library_name=usage.library, tags=["onnx", "safetensors", "millrace", model_info.modality]
    )
    return TEMPLATES.get_template("short_card.md").render(
        header=metadata.to_dict(),  # type: ignore[no-untyped-call]
        manifest=manifest,
        model_info=model_info,
        usage=usage,
    )


def read_history(folder: ModelFolder) -> list[JsonObject]:
    """Read the record of each epoch."""
    lines = folder.history.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def describe_purpose(recipe: Recipe) -> str:
    """Say what the model is for: the recipe's description, or the first comment in its file."""
    return recipe.description or read_first_comment(recipe) or "Not stated."


def read_first_comment(recipe: Recipe) -> str:
    """Return the first line of the recipe's file if it is a comment, up to three blanks."""
    path = RECIPES_FOLDER / f"{recipe.name}.yaml"
    if not path.is_file():
        return ""
    line, _, _ = path.read_text(encoding="utf-8").partition("\n")
    if not line.startswith("#"):
        return ""
    comment, _, _ = line.removeprefix("#").partition("   ")
    return comment.strip()


@dataclass(frozen=True)
class StageRows:
    """What became of the rows in one stage."""

    stage: str
    rows_in: int
    rows: int
    rejects: int
    by_rule: str

    @classmethod
    def from_report(cls, stage: str, report: StageReport) -> "StageRows":
        """Take the counts of a stage's report."""
        rules = sorted((rule, count) for rule, count in report.by_rule.items() if count)
        by_rule = ", ".join(f"{rule} {count}" for rule, count in rules)
        return cls(stage, report.rows_in, report.rows, report.rejects, by_rule)

    def to_table_row(self) -> dict[str, str | int]:
        """Return the cells by the headings of a table."""
        return {
            "stage": self.stage,
            "rows in": self.rows_in,
            "rows out": self.rows,
            "rejects": self.rejects,
            "by rule": self.by_rule,
        }


def count_rows_by_stage(paths: StagePaths) -> list[StageRows]:
    """Count what became of the rows in each stage."""
    return [
        StageRows.from_report("ingest", Snapshot.read(paths.raw.snapshot)),
        StageRows.from_report("clean", CleaningReport.read(paths.clean.report)),
        StageRows.from_report("label", LabelReport.read(paths.labelled.report)),
        StageRows.from_report("split", SplitReport.read(paths.split.report)),
    ]


def find_training_stage(stages: Sequence[StageEntry]) -> StageEntry | None:
    """Return the stage that trained the model, if it ran."""
    for entry in stages:
        if entry.stage.startswith("train@") and entry.state == "ran":
            return entry
    return None


def find_worst_classes(evaluation: Evaluation) -> list[tuple[str, ClassMetrics]]:
    """Return the classes with the lowest F1, the lowest first."""
    by_f1 = sorted(evaluation.classes.items(), key=lambda item: item[1].f1.value)
    return by_f1[:MAX_WORST]


def list_aspects(evaluation: Evaluation) -> dict[str, list[tuple[str, str]]]:
    """List the numbers of each aspect that has any."""
    aspects = {name: list(flatten_numbers(evaluation.aspects.get(name))) for name in ASPECTS}
    return {name: numbers for name, numbers in aspects.items() if numbers}


def flatten_numbers(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the numbers of an aspect with their paths; an interval counts as one number."""
    if isinstance(value, dict) and isinstance(value.get("low"), float):
        interval = f"{value['low']:.4g} to {value['high']:.4g}"
        yield path, f"{value['value']:.4g} ({interval})"
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from flatten_numbers(item, f"{path}.{name}" if path else name)
    elif isinstance(value, int):
        yield path, f"{value:,}"
    elif isinstance(value, float):
        yield path, f"{value:.4g}"


def describe_limits(paths: StagePaths, evaluation: Evaluation) -> list[str]:
    """Describe what the model is known to be bad at, or what too few rows tell of."""
    supports = {name: values.support for name, values in evaluation.classes.items()}
    limits = [
        describe_confusion(actual, predicted, count, supports)
        for (actual, predicted), count in count_confusions(paths).most_common(MAX_WORST)
    ]
    small = find_small_groups(supports | count_slices(evaluation))
    return [*limits, describe_small_groups(small)] if small else limits


def count_confusions(paths: StagePaths) -> Counter[tuple[str, str]]:
    """Count the wrong predictions by their actual and their predicted class."""
    problem = problems.from_model_info(ModelInfo.read(paths.model.info))
    table = files.read_table(paths.evaluation.predictions)
    predictions = problem.read_predictions(table)["model"]
    pairs = problem.confusion_pairs(problem.targets(table), predictions)
    return Counter(pair for pair in pairs if pair[0] != pair[1])


def describe_confusion(actual: str, predicted: str, count: int, supports: Mapping[str, int]) -> str:
    """Say how often one class was predicted as another, or a label was missed or added."""
    if actual == NO_LABEL:
        return f"{count} test rows were predicted as {predicted}, which they are not."
    rows = f"{count} of the {supports[actual]} test rows of {actual}"
    if predicted == NO_LABEL:
        return f"{rows} were not predicted as {actual}."
    return f"{rows} were predicted as {predicted}."


def count_slices(evaluation: Evaluation) -> dict[str, int]:
    """Count the test rows of each slice."""
    rows: dict[str, int] = {}
    for column, slices in evaluation.aspects.get("slices", {}).items():
        if isinstance(slices, dict):
            rows |= {f"{column} {name}": values["rows"] for name, values in slices.items()}
    return rows


def find_small_groups(rows_by_group: Mapping[str, int]) -> list[str]:
    """Name the classes and slices with few test rows, the smallest first."""
    by_size = sorted(rows_by_group.items(), key=lambda item: item[1])
    return [f"{name} ({rows})" for name, rows in by_size if rows < MIN_ROWS]


def describe_small_groups(groups: Sequence[str]) -> str:
    """Say which classes and slices have too few test rows."""
    rest = len(groups) - MAX_NUMBERS
    more = f" and {rest} more" if rest > 0 else ""
    shown = ", ".join(groups[:MAX_NUMBERS])
    return f"Fewer than {MIN_ROWS} test rows, too few to say much: {shown}{more}."
