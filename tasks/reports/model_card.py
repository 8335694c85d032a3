"""The model card (Mitchell et al. 2019): what a model is for, what it was made from, how good it is and what the gate said, for people and for the model hub.

It tells what the steps have written, and nothing that they have not.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml
from cyclonedx.spdx import is_supported_id

from tasks.contracts.evaluation import Evaluation
from tasks.contracts.evidence import Evidence
from tasks.contracts.model_info import ModelInfo
from tasks.contracts.run_record import StageEntry
from tasks.contracts.snapshot import Snapshot
from tasks.recipe.ingest import HuggingFaceSource
from tasks.recipe.loading import RECIPES_FOLDER
from tasks.recipe.metric_names import ASPECTS
from tasks.recipe.recipe import Recipe
from tasks.storage import files
from tasks.storage.layout import ModelFolder

Report = dict[str, Any]  # by a step, or by the flow
STAGE_REPORTS = {
    "ingest": "raw/snapshot.json",
    "clean": "clean/report.json",
    "label": "labelled/report.json",
    "split": "split/report.json",
}
HUB_TASKS = {
    ("causal_lm", "language"): "text-generation",
    ("tabular", "regression"): "tabular-regression",
}  # the others of a modality are its classification
MIN_ROWS = 30  # rows, with fewer of which a class or slice says little
MAX_SHOWN = 12  # numbers of an aspect
MAX_WORST = 5
TEMPLATES = jinja2.Environment(  # noqa: S701
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
TEMPLATES.filters["yaml"] = lambda value: yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
TEMPLATES.filters["cell"] = lambda value: " ".join(str(value).split()).replace("|", "\\|")


def render_model_card(
    recipe: Recipe,
    folder: Path,
    version: str,
    evidence: Evidence,
    stages: Sequence[StageEntry] = (),
) -> str:
    """Render Markdown, with the hub's metadata as its header, from the recipe's outputs.

    Args:
        recipe: The resolved recipe.
        folder: The folder of its outputs.
        version: The version that the card is about.
        evidence: The gate's verdict on it.
        stages: The stages of the run that made it.
    """
    metrics = Evaluation.read(folder / "evaluation" / "metrics.json").numbers()
    cost = files.read_json(folder / "evaluation" / "cost.json")
    history = [
        json.loads(line) for line in (folder / "model" / "history.jsonl").read_text().splitlines()
    ]
    return TEMPLATES.get_template("model_card.md").render(
        recipe=recipe, version=version, verdict=evidence.gate, override=evidence.override, metrics=metrics, cost=cost, history=history, shown=MAX_SHOWN,
        snapshot=Snapshot.read(folder / STAGE_REPORTS["ingest"]), about=ModelInfo.read(ModelFolder(folder / "model").info),
        header=build_hub_metadata(recipe, metrics), purpose=describe_purpose(recipe), steps=count_rows_by_stage(folder), intervals=select_intervals(metrics), limits=describe_limits(folder, metrics),
        worst=sorted(metrics["classes"].items(), key=lambda one: one[1]["f1"]["value"])[:MAX_WORST],
        trained=next((entry for entry in stages if entry.stage.startswith("train@") and entry.state == "ran"), None),
        aspects={name: found for name in ASPECTS if (found := list(flatten_numbers(metrics.get(name))))},
    )  # fmt: skip


def build_hub_metadata(recipe: Recipe, metrics: dict[str, Any]) -> dict[str, Any]:
    """The metadata that the model hub reads; what is not known is left out, but for the licence."""
    said, base, task = (
        recipe.license,
        recipe.train.base or "",
        HUB_TASKS.get((recipe.modality, recipe.problem), f"{recipe.modality}-classification"),
    )
    source = (
        recipe.ingest.name
        if isinstance(recipe.ingest, HuggingFaceSource) and not Path(recipe.ingest.name).exists()
        else None
    )
    # the hub knows one F1, and says in the name how it is averaged
    found = [
        {"type": "f1" if name.endswith("f1") else name, "name": name, "value": one["value"]}
        for name, one in select_intervals(metrics).items()
    ]
    result = {
        "task": {"type": task},
        "dataset": {"type": source or recipe.name, "name": recipe.name, "split": "test"},
        "metrics": found,
    }
    values = {
        "license": "unknown" if not said else said.lower() if is_supported_id(said) else "other",
        "license_name": None if not said or is_supported_id(said) else said,
        "language": [
            code
            for rule in recipe.clean.rules
            if isinstance(rule, dict)
            for code in rule.get("language", {}).get("allow", [])
        ],
        "library_name": "onnx",
        "tags": ["onnx", "millrace", recipe.modality, recipe.problem],
        "pipeline_tag": task,
        "base_model": base
        if base.count("/") == 1 and ":" not in base and not Path(base).exists()
        else None,
        "datasets": [source] if source else None,
        "metrics": sorted({one["type"] for one in found}),
        "model-index": [{"name": recipe.name, "results": [result]}],
    }
    return {key: value for key, value in values.items() if value}


def describe_purpose(recipe: Recipe) -> str:
    """What the recipe says that the model is for: its description, or the first line of comment in its file."""
    path = RECIPES_FOLDER / f"{recipe.name}.yaml"
    first = path.read_text(encoding="utf-8").partition("\n")[0] if path.is_file() else ""
    return (
        recipe.description
        or (first.removeprefix("#").partition("   ")[0].strip() if first.startswith("#") else "")
        or "Not stated."
    )


def select_intervals(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The metrics among what an evaluation says: each a value with its interval."""
    return {
        name: value
        for name, value in evaluation.items()
        if isinstance(value, dict) and "value" in value
    }


def count_rows_by_stage(folder: Path) -> list[dict[str, Any]]:
    """What became of the rows at each step."""
    rows = []
    for name, report in STAGE_REPORTS.items():
        told = files.read_json(folder / report)
        out = told["rows"]
        rules = Counter(
            files.read_table((folder / report).with_name("rejects.parquet"), ["rule"])[
                "rule"
            ].to_pylist()
        )
        why = ", ".join(f"{rule} {count}" for rule, count in sorted(rules.items()))
        rows.append(
            {
                "step": name,
                "rows in": told["rows_in"],
                "rows out": out,
                "rejects": told["rejects"],
                "by rule": why,
            }
        )
    return rows


def flatten_numbers(found: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The numbers of an aspect with their paths; one with an interval as one."""
    if isinstance(found, dict) and isinstance(found.get("low"), float):
        yield path, f"{found['value']:.4g} ({found['low']:.4g} to {found['high']:.4g})"
    elif isinstance(found, dict):
        for name, value in found.items():
            yield from flatten_numbers(value, f"{path}.{name}" if path else name)
    elif isinstance(found, (int, float)):
        yield path, f"{found:,}" if isinstance(found, int) else f"{found:.4g}"


def describe_limits(folder: Path, metrics: dict[str, Any]) -> list[str]:
    """Where the model is known to be weak, or not known well, one sentence each."""
    with (folder / "evaluation" / "plots" / "confusion.csv").open(
        encoding="utf-8", newline=""
    ) as file:
        wrong = Counter(
            (row["actual"], row["predicted"])
            for row in csv.DictReader(file)
            if row["actual"] != row["predicted"]
        )
    sizes = {name: one["support"] for name, one in metrics["classes"].items()}
    told = [
        f"{count} of the {sizes.get(true, metrics['rows'])} test rows of {true} were taken for {said}."
        for (true, said), count in wrong.most_common(MAX_WORST)
    ]
    sizes |= {
        f"{column} {name}": one["rows"]
        for column, part in metrics.get("slices", {}).items()
        if isinstance(part, dict)
        for name, one in part.items()
    }
    small = [
        f"{name} ({count})"
        for name, count in sorted(sizes.items(), key=lambda one: one[1])
        if count < MIN_ROWS
    ]
    more = f" and {len(small) - MAX_SHOWN} more" if len(small) > MAX_SHOWN else ""
    return told + (
        [
            f"Fewer than {MIN_ROWS} test rows, too few to say much: {', '.join(small[:MAX_SHOWN])}{more}."
        ]
        if small
        else []
    )
