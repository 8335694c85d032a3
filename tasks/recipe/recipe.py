"""Recipe."""

import itertools
from collections.abc import Iterator
from operator import attrgetter
from types import SimpleNamespace
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from tasks.core.errors import ConfigError
from tasks.core.suggest import suggest_nearest
from tasks.recipe import clean as recipe_clean
from tasks.recipe import columns as recipe_columns
from tasks.recipe import defaults, metric_names, search_space
from tasks.recipe import gate as recipe_gate
from tasks.recipe.base import Section
from tasks.recipe.check import Check
from tasks.recipe.clean import Clean
from tasks.recipe.columns import Columns
from tasks.recipe.engine import Engine
from tasks.recipe.errors import describe_error
from tasks.recipe.evaluate import Evaluate
from tasks.recipe.export import Export
from tasks.recipe.gate import BaselineRule, ChampionRule, LatencyRule, ThresholdRule
from tasks.recipe.ingest import (
    FilesSource,
    HttpSource,
    HuggingFaceSource,
    ImagesSource,
    PackageSource,
    RequestLogSource,
    S3Source,
    SqlSource,
)
from tasks.recipe.label import Label
from tasks.recipe.pretrain import Pretrain
from tasks.recipe.promote import Promote
from tasks.recipe.split import Split
from tasks.recipe.train import Train
from tasks.recipe.tune import Tune


class Recipe(Section):
    """One model, from source to promotion. What it does not say is taken, section by section, from the recipe that it `extends`.

    `description` says in a sentence what the model is for, and `license` under which terms, by its SPDX id such as Apache-2.0; the model card shows both.
    `max_dropped` is the share of its rows that each of ingest, clean, label and split may drop; a step that drops more stops. Rows that erase.csv lists
    and rows that wait for a label in the review queue are not counted.
    """

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]{0,62}$")
    extends: str | None = None
    description: str | None = None
    license: str | None = None
    modality: Literal["text", "image", "tabular", "causal_lm"]
    problem: Literal["classification", "multilabel", "regression", "language"] = "classification"
    ingest: Annotated[
        FilesSource
        | HttpSource
        | S3Source
        | ImagesSource
        | SqlSource
        | HuggingFaceSource
        | PackageSource
        | RequestLogSource,
        Field(discriminator="kind"),
    ]
    columns: Columns = Columns()
    max_dropped: float = Field(0.5, ge=0, le=1)
    check: Check = Check()
    clean: Clean
    label: Label = Label()
    split: Split = Split()
    pretrain: Pretrain | None = None
    tune: Tune | None = None
    train: Train = Train()
    export: Export = Export()
    evaluate: Evaluate = Evaluate()
    gate: list[
        Annotated[
            ThresholdRule | BaselineRule | ChampionRule | LatencyRule, Field(discriminator="rule")
        ]
    ] = Field(min_length=1)
    promote: Promote = Promote()
    engine: Engine = Engine()

    @field_validator("columns")
    @classmethod
    def check_column_roles(cls, columns: Columns, about: ValidationInfo) -> Columns:
        roles = {
            role: getattr(columns, role, None)
            for role in (
                "id",
                defaults.CONTENT_COLUMN.get(about.data.get("modality", "")) or "",
                "label",
            )
        }
        for (role, name), (other, its) in itertools.combinations(roles.items(), 2):
            if name is not None and name == its:
                raise ValueError(
                    f"{role} and {other} are both {name!r}, and a column has one role: name another column for one of them"
                )
        return columns

    @field_validator("clean")
    @classmethod
    def check_rules_fit_modality(cls, clean: Clean, about: ValidationInfo) -> Clean:
        modality = about.data.get("modality")
        for name in (name for rule in clean.rules if isinstance(rule, dict) for name in rule):
            allowed = recipe_clean.MODALITIES_OF_RULE.get(name)
            if modality and allowed and modality not in allowed:
                raise ValueError(
                    f"the rule {name} works on modality {' or '.join(allowed)}, and this recipe's is {modality}: leave it out"
                )
        for types in (
            rule["types"] for rule in clean.rules if isinstance(rule, dict) and "types" in rule
        ):
            recipe_columns.refuse_types(
                types["columns"], (defaults.CONTENT_COLUMN.get(modality or ""),)
            )
        return clean

    @field_validator("tune", "train", "gate")
    @classmethod
    def check_metrics_fit_problem(cls, given: Any, about: ValidationInfo) -> Any:
        problem = about.data.get("problem")
        for section in given if isinstance(given, list) else [given]:
            metric, places = (
                getattr(section, "metric", None) or "",
                ("classes", "rows", "baseline", *metric_names.ASPECTS)
                if isinstance(section, ThresholdRule)
                else (),
            )
            allowed = (*metric_names.METRICS_BY_PROBLEM.get(problem or "", ()), *places)
            first = metric.partition(".")[0] if places else metric
            if problem and metric and first not in allowed:
                raise ValueError(
                    f"metric: {metric!r} is not a metric of {problem}{suggest_nearest(first, allowed)}. Allowed: {', '.join(allowed)}"
                )
        return given

    @field_validator("gate")
    @classmethod
    def check_gate_rules(cls, rules: list[Any], about: ValidationInfo) -> list[Any]:
        quality = {"classes", "slices"}.union(*metric_names.METRICS_BY_PROBLEM.values())
        judging = [
            rule
            for rule in rules
            if isinstance(rule, ThresholdRule) and rule.metric.partition(".")[0] in quality
        ]
        floors = [
            rule.metric
            for rule in rules
            if rule.rule == "floor" and metric_names.is_lower_better(rule.metric)
        ]
        wrong = [
            f"less of {metric} is better, so a floor would ask for a bad model: write {{rule: ceiling, metric: {metric}, bound: …}}"
            for metric in floors
        ]
        if not any(
            rule.rule == "floor" or metric_names.is_lower_better(rule.metric) for rule in judging
        ):
            metric = metric_names.MAIN_METRIC.get(about.data.get("problem", ""), "macro_f1")
            kind = "ceiling" if metric_names.is_lower_better(metric) else "floor"
            wrong.append(
                f"has no floor, so nothing could judge the first model: add {{rule: {kind}, metric: {metric}, bound: …}}"
            )
        for (first, one), (second, other) in itertools.combinations(enumerate(rules), 2):
            names = f"gate[{first}] ({recipe_gate.format_rule(one)}) and gate[{second}] ({recipe_gate.format_rule(other)})"
            bounds = {
                rule.rule: rule.bound for rule in (one, other) if isinstance(rule, ThresholdRule)
            }
            if all(
                getattr(one, key, None) == getattr(other, key, None)
                for key in ("rule", "metric", "on", "by", "batch")
            ):
                wrong.append(
                    f"{names} are about the same, of which one rule says all: leave out one"
                )
            elif (
                len(bounds) == 2
                and one.metric == other.metric
                and bounds["floor"] > bounds["ceiling"]
            ):
                wrong.append(
                    f"{names} contradict each other, as no number is both at least {bounds['floor']:g} and at most {bounds['ceiling']:g}: change one"
                )
        if wrong:
            raise ValueError("; ".join(wrong))
        return rules

    def cross_field_errors(self) -> Iterator[str]:
        yield from (*self.single_class_errors(), *self.language_errors(), *self.bases())

    def single_class_errors(self) -> Iterator[str]:
        plain = SimpleNamespace(
            label=Label(), train=Train(), export=Export()
        )  # what is so where nobody says otherwise
        keys = (
            [*SINGLE_CLASS_KEYS, "label.classes"]
            if self.problem == "regression"
            else SINGLE_CLASS_KEYS
        )
        wrong = [key for key in keys if attrgetter(key)(self) != attrgetter(key)(plain)]
        if wrong and self.problem in metric_names.MAIN_METRIC:
            yield f"{' and '.join(wrong)}: made for one class a row, and the problem is {self.problem}: leave out what needs it"

    def language_errors(self) -> Iterator[str]:
        writes = self.modality == "causal_lm"
        if writes != (self.problem == "language"):
            yield f"problem: a {self.modality} model does not solve {self.problem}: language is the problem of causal_lm, and its only one"
        elif writes != (self.columns.label is None) or writes != (self.columns.prompt is not None):
            yield "columns: a causal_lm has rows without a label and may have a prompt; the others have a label and no prompt"
        if writes and self.train.base is None:
            yield "train.base: a causal_lm goes on from a base: name one, or have pretrain make it"
        if self.train.lexical and self.modality != "text":
            yield f"train.lexical: only a text has words, and this is {self.modality}: leave it out"

    def bases(self) -> Iterator[str]:
        if self.pretrain and self.modality not in PRETRAINABLE_MODALITIES:
            yield f"pretrain: only models of modality {' or '.join(PRETRAINABLE_MODALITIES)} learn from rows without labels, and this is {self.modality}: leave it out"
        elif self.pretrain and (
            self.train.base != defaults.pretrained_path(self.name) or self.train.sha256
        ):
            yield "train.base: pretrain makes the base from which train starts: move base and sha256 to pretrain, or leave pretrain out"

    def with_tuned_values(self, values: dict[str, Any]) -> "Recipe":
        """The recipe with these values, named as in tune.space, in its train section."""
        train = self.train.model_dump()
        for name, value in values.items():
            train = search_space.set_nested(train, name, value)
        try:
            return self.model_copy(update={"train": Train.model_validate(train)})
        except ValidationError as error:
            raise ConfigError(
                f"tune.space: {values} do not go together: train.{describe_error(Train, error.errors()[0])}"
            ) from None


PRETRAINABLE_MODALITIES = ("text", "causal_lm")
SINGLE_CLASS_KEYS = (
    "label.functions",
    "label.errors",
    "train.class_weights",
    "train.label_smoothing",
    "export.distil",
    "train.lexical",
)  # keys that need one class a row
