"""The whole recipe, and the checks that concern several sections."""

from collections.abc import Iterable, Iterator
from operator import attrgetter
from types import SimpleNamespace
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from tasks.core.errors import ConfigError
from tasks.core.suggest import suggest_nearest
from tasks.recipe import cleaning_rules, defaults, metric_names, search_space
from tasks.recipe.base import Section
from tasks.recipe.check import Check
from tasks.recipe.clean import Clean
from tasks.recipe.cleaning_rules import CLEANING_RULES
from tasks.recipe.columns import Columns, find_shared_columns
from tasks.recipe.engine import Engine
from tasks.recipe.errors import describe_error
from tasks.recipe.evaluate import Evaluate
from tasks.recipe.export import Export
from tasks.recipe.gate import Rule, Rules, ThresholdRule, rules_errors
from tasks.recipe.ingest import Source
from tasks.recipe.label import Label
from tasks.recipe.pretrain import Pretrain
from tasks.recipe.promote import Promote
from tasks.recipe.split import Split
from tasks.recipe.train import Train
from tasks.recipe.tune import Tune

NAME_PATTERN = "[a-z0-9][a-z0-9-]{0,62}"
PRETRAINABLE_MODALITIES = ("text", "causal_lm")
# Keys that need one class for each row.
SINGLE_CLASS_KEYS = (
    "label.functions",
    "label.errors",
    "train.class_weights",
    "train.label_smoothing",
    "export.distil",
    "train.lexical",
)


class Recipe(Section):
    """One model, from its source to its promotion."""

    name: str = Field(
        pattern=f"^{NAME_PATTERN}$",
        description="The model's name, which is that of the file and of the folder of outputs: "
        "lower-case letters, digits and hyphens.",
    )
    extends: str | None = Field(
        None,
        pattern=f"^{NAME_PATTERN}$",
        description="Another recipe in recipes/; sections that this one lacks are taken from it.",
    )
    description: str | None = Field(
        None, description="What the model is for, in a sentence; the model card shows it."
    )
    license: str | None = Field(
        None,
        description="The terms of use by their SPDX id, such as Apache-2.0; the model card shows "
        "it.",
    )
    modality: defaults.ModalityName = Field(
        description="What the rows are, and so which network is used: texts for an encoder, "
        "images for a convolutional network, a table for a multilayer perceptron, or texts for "
        "a causal language model."
    )
    problem: Literal["classification", "multilabel", "regression", "language"] = Field(
        "classification",
        description="What is predicted: one class, any number of classes, a number, or the next "
        "token, which is the problem of causal_lm and its default.",
    )
    ingest: Source = Field(description="Where the rows come from.")
    columns: Columns = Field(Columns(), description="Which column plays which role.")
    max_dropped: float = Field(
        0.5,
        ge=0,
        le=1,
        description="The largest share of its rows that each of ingest, clean, label and split "
        "may drop; a stage that drops more stops. Rows that erase.csv lists and rows that wait "
        "for a label in the review queue are not counted.",
    )
    check: Check = Field(Check(), description="What has to hold for the data.")
    clean: Clean = Field(description="How rows are cleaned.")
    label: Label = Field(Label(), description="Where labels come from.")
    split: Split = Field(Split(), description="Which rows train, validate and test.")
    pretrain: Pretrain | None = Field(
        None, description="Training on texts without labels, before `train`."
    )
    tune: Tune | None = Field(None, description="A search for better values of `train`.")
    train: Train = Field(Train(), description="How the network is trained.")
    export: Export = Field(Export(), description="How the exported model is made smaller.")
    evaluate: Evaluate = Field(Evaluate(), description="What the test measures.")
    gate: Rules = Field(min_length=1, description="What the model must achieve to be promoted.")
    promote: Promote = Field(Promote(), description="Where an accepted model goes.")
    engine: Engine = Field(Engine(), description="Where data is cleaned.")

    @field_validator("columns")
    @classmethod
    def check_column_roles(cls, columns: Columns, info: ValidationInfo) -> Columns:
        """Refuse a column that has two roles."""
        content = defaults.CONTENT_COLUMN.get(info.data.get("modality", ""))
        for sentence in find_shared_columns(columns.roles(content)):
            raise ValueError(sentence)
        return columns

    @field_validator("clean")
    @classmethod
    def check_rules_fit_modality(cls, clean: Clean, info: ValidationInfo) -> Clean:
        """Refuse rules that do not work on the modality."""
        modality = info.data.get("modality")
        if modality:
            for sentence in unfit_rule_errors(clean.rule_names(), modality):
                raise ValueError(sentence)
            content = defaults.CONTENT_COLUMN[modality]
            cleaning_rules.refuse_typed_roles(list(clean.typed_columns()), (content,))
        return clean

    @field_validator("tune", "train")
    @classmethod
    def check_metric_fits_problem(
        cls, section: Tune | Train | None, info: ValidationInfo
    ) -> Tune | Train | None:
        """Refuse a metric that the problem does not have."""
        problem = info.data.get("problem")
        metric = section.metric if section else None
        if problem and metric:
            refuse_unknown_metric(metric, problem, ())
        return section

    @field_validator("gate")
    @classmethod
    def check_gate_rules(cls, rules: list[Rule], info: ValidationInfo) -> list[Rule]:
        """Refuse rules that judge nothing, twice or against each other."""
        problem = info.data.get("problem")
        for rule in rules:
            metric = getattr(rule, "metric", None)
            if problem and metric:
                refuse_unknown_metric(metric, problem, parts_of_evaluation(rule))
        sentences = list(rules_errors(rules, problem or ""))
        if sentences:
            raise ValueError("; ".join(sentences))
        return rules

    def cross_field_errors(self) -> Iterator[str]:
        """Describe sections that do not go together."""
        yield from self.single_class_errors()
        yield from self.language_errors()
        yield from self.base_errors()

    def single_class_errors(self) -> Iterator[str]:
        """Describe keys that need one class for each row, if the problem has another target."""
        if self.problem not in metric_names.MAIN_METRIC:
            return
        keys = list(SINGLE_CLASS_KEYS)
        if self.problem == "regression":
            keys.append("label.classes")
        default = SimpleNamespace(label=Label(), train=Train(), export=Export())
        changed = [key for key in keys if attrgetter(key)(self) != attrgetter(key)(default)]
        if changed:
            yield (
                f"{' and '.join(changed)}: made for one class a row, and the problem is "
                f"{self.problem}: leave out what needs it"
            )

    def language_errors(self) -> Iterator[str]:
        """Describe what a causal language model cannot have, and what only texts can have."""
        is_writer = self.modality == "causal_lm"
        has_label = self.columns.label is not None
        has_prompt = self.columns.prompt is not None
        if is_writer != (self.problem == "language"):
            yield (
                f"problem: a {self.modality} model does not solve {self.problem}: language is "
                "the problem of causal_lm, and its only one"
            )
        elif is_writer == has_label or is_writer != has_prompt:
            yield (
                "columns: a causal_lm has rows without a label and may have a prompt; the others "
                "have a label and no prompt"
            )
        if is_writer and self.train.base is None:
            yield "train.base: a causal_lm goes on from a base: name one, or have pretrain make it"
        if self.train.lexical and self.modality != "text":
            yield f"train.lexical: only a text has words, and this is {self.modality}: leave it out"

    def base_errors(self) -> Iterator[str]:
        """Describe a section pretrain that cannot make the base of `train`."""
        if self.pretrain is None:
            return
        has_own_base = self.train.base != defaults.pretrained_path(self.name)
        if self.modality not in PRETRAINABLE_MODALITIES:
            yield (
                f"pretrain: only models of modality {' or '.join(PRETRAINABLE_MODALITIES)} learn "
                f"from rows without labels, and this is {self.modality}: leave it out"
            )
        elif has_own_base or self.train.sha256:
            yield (
                "train.base: pretrain makes the base from which train starts: move base and "
                "sha256 to pretrain, or leave pretrain out"
            )

    def with_tuned_values(self, values: dict[str, Any]) -> Self:
        """Return the recipe with these values, named as in `tune.space`, in its section train."""
        train = self.train.model_dump()
        for name, value in values.items():
            train = search_space.set_nested(train, name, value)
        try:
            section = Train.model_validate(train)
        except ValidationError as error:
            mistake = describe_error(Train, error.errors()[0], "train")
            raise ConfigError(f"tune.space: {values} do not go together: {mistake}.") from None
        return self.model_copy(update={"train": section})


def unfit_rule_errors(names: Iterable[str], modality: str) -> Iterator[str]:
    """Describe cleaning rules that do not work on a modality."""
    for name in names:
        allowed = CLEANING_RULES[name].modalities
        if allowed and modality not in allowed:
            yield (
                f"the rule {name} works on modality {' or '.join(allowed)}, and this recipe's is "
                f"{modality}: leave it out"
            )


def refuse_unknown_metric(metric: str, problem: str, parts: Iterable[str]) -> None:
    """Refuse a metric that the problem does not have.

    Args:
        metric: A metric's name, or if there are `parts` the path of a number.
        problem: The problem, such as classification.
        parts: The parts of an evaluation in which a path may begin instead.
    """
    parts = tuple(parts)
    allowed = (*metric_names.METRICS_BY_PROBLEM[problem], *parts)
    name = metric.partition(".")[0] if parts else metric
    if name not in allowed:
        raise ValueError(
            f"metric: {metric!r} is not a metric of {problem}{suggest_nearest(name, allowed)}. "
            f"Allowed: {', '.join(allowed)}"
        )


def parts_of_evaluation(rule: Rule) -> tuple[str, ...]:
    """List the parts of an evaluation, beside the metrics, in which a rule may name a number."""
    if isinstance(rule, ThresholdRule):
        return ("classes", "rows", "baseline", *metric_names.ASPECTS)
    return ()
