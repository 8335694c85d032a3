"""A study: what its trials tried and achieved, each kept in a file of its own, and what the next one is to try.

That is a function of the seed and of the trials before it (tree-structured Parzen estimator, Bergstra et al. 2011), and so is what is ended early (median
stopping rule, Golovin et al. 2017): a study that was cut off goes on as if it had not been.
"""

import json
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.errors import ConfigError
from tasks.recipe.metric_names import LOWER_IS_BETTER
from tasks.recipe.recipe import Recipe
from tasks.recipe.tune import Tune
from tasks.storage import files

if TYPE_CHECKING:
    import optuna


N_STARTUP_TRIALS = 6  # trials that are drawn before the others are judged by them
TrialRecord = dict[
    str, Any
]  # number, state, values, value, course (the value after each epoch or fold), seconds, note


def load_trials(folder: Path) -> list[TrialRecord]:
    """The trials that are done, in their order."""
    return [files.read_json(path) for path in sorted(folder.glob("[0-9]*.json"))]


def ask_trial(recipe: Recipe, section: Tune, done: list[TrialRecord]) -> "optuna.Trial":
    """The next trial, in a study made of those that are done. The first has the recipe's own values, where the space holds them."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise ConfigError(
            "tune: optuna is not installed: run `pip install -e '.[tune]' -c constraints.txt`, or take tune out of the recipe."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options = {name: build_distribution(section.space[name]) for name in sorted(section.space)}
    sampler = optuna.samplers.TPESampler(
        seed=section.seed * 1_000_003 + len(done), n_startup_trials=N_STARTUP_TRIALS
    )
    pruner = (
        optuna.pruners.MedianPruner(N_STARTUP_TRIALS, n_warmup_steps=1)
        if section.pruning
        else optuna.pruners.NopPruner()
    )
    lower = get_objective_metric(recipe, section) in LOWER_IS_BETTER
    study = optuna.create_study(
        direction="minimize" if lower else "maximize", sampler=sampler, pruner=pruner
    )
    for record in done:
        complete = record["state"] == "done"
        state = (
            optuna.trial.TrialState.COMPLETE if complete else optuna.trial.TrialState.PRUNED
        )  # one that failed is as bad as can be
        value = record["value"] if complete else None
        tried = {
            name: encode_choice(section.space[name], value)
            for name, value in record["values"].items()
        }
        seen = dict(enumerate(record["course"]))
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=value,
                params=tried,
                distributions=options,
                intermediate_values=seen,
            )
        )
    if not done:
        study.enqueue_trial(
            {
                name: encode_choice(section.space[name], value)
                for name, value in get_recipe_values(recipe, section).items()
                if is_within(section.space[name], value)
            }
        )
    return study.ask(options)


def get_recipe_values(recipe: Recipe, section: Tune) -> dict[str, Any]:
    """The recipe's own values of what is searched."""
    return {name: reduce(getattr, name.split("."), recipe.train) for name in section.space}


def decode_values(section: Tune, trial: "optuna.Trial") -> dict[str, Any]:
    """What a trial is to try, by the keys of train."""
    return {
        name: json.loads(value) if isinstance(section.space[name], list) else value
        for name, value in sorted(trial.params.items())
    }


def build_distribution(option: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(option, list):
        return CategoricalDistribution([encode_choice(option, value) for value in option])
    return (IntDistribution if isinstance(option["low"], int) else FloatDistribution)(
        option["low"], option["high"], log=option["log"]
    )


def encode_choice(option: Any, value: Any) -> Any:
    """Values of a list are told apart by their JSON, since they may be lists themselves."""
    return json.dumps(value) if isinstance(option, list) else value


def is_within(option: Any, value: Any) -> bool:
    return (
        value in option
        if isinstance(option, list)
        else bool(option["low"] <= value <= option["high"])
    )


def get_objective_metric(recipe: Recipe, section: Tune) -> str:
    return section.metric or recipe.train.metric


def find_best_trial(recipe: Recipe, section: Tune, done: list[TrialRecord]) -> TrialRecord | None:
    """The first of those trials that went to their end with the best value."""
    sign = 1 if get_objective_metric(recipe, section) in LOWER_IS_BETTER else -1
    return min(
        (record for record in done if record["state"] == "done"),
        key=lambda record: sign * record["value"],
        default=None,
    )
