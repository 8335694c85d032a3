"""A study: what its trials tried and achieved, and what the next one is to try.

Each trial is kept in a file of its own. The next one is a function of the seed and of the trials
before it (tree-structured Parzen estimator, Bergstra et al. 2011), and so is which trial ends early
(median stopping rule, Golovin et al. 2017). So a study that was cut off goes on as if it had not
been.
"""

import json
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import JsonValue

from tasks.contracts.base import Record
from tasks.core.errors import ConfigError
from tasks.recipe.metric_names import LOWER_IS_BETTER
from tasks.recipe.recipe import Recipe
from tasks.recipe.tune import Tune
from tasks.storage import files

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

N_STARTUP_TRIALS = 6  # trials that are drawn at random, before the others are judged by them
TRIAL_FILES = "[0-9]*.json"
Values = dict[str, JsonValue]  # by their keys in `train`, such as `augment.shift`
TrialState = Literal["done", "pruned", "failed"]
Option = Any  # of the search space: a list of values, or an interval with low, high and log


class TrialRecord(Record):
    """What a trial tried and achieved."""

    number: int  # from 0
    values: Values
    state: TrialState
    value: float | None  # of the objective; None if the trial failed
    curve: list[float]  # the value after each epoch, or each fold
    seconds: float
    note: str = ""


def trial_path(folder: Path, number: int) -> Path:
    """Return the file of a trial."""
    return folder / f"{number:05d}.json"


def write_trial(folder: Path, record: TrialRecord) -> None:
    """Keep a trial that has ended."""
    files.write_json(trial_path(folder, record.number), record.model_dump(mode="json"))


def load_trials(folder: Path) -> list[TrialRecord]:
    """Load the trials that have ended, in their order."""
    paths = sorted(folder.glob(TRIAL_FILES))
    return [TrialRecord.model_validate(files.read_json(path)) for path in paths]


def ask_trial(recipe: Recipe, config: Tune, trials: list[TrialRecord]) -> "optuna.Trial":
    """Ask for the next trial.

    The first one has the recipe's own values, as far as they lie in the search space.

    Args:
        recipe: The recipe.
        config: Its section `tune`.
        trials: The trials that have ended.

    Raises:
        ConfigError: optuna is not installed.
    """
    study = create_study(recipe, config, len(trials))
    distributions = {}
    for name in sorted(config.space):
        distributions[name] = build_distribution(config.space[name])
    for record in trials:
        study.add_trial(rebuild_trial(config, record, distributions))
    if not trials:
        study.enqueue_trial(first_choices(recipe, config))
    return study.ask(distributions)


def create_study(recipe: Recipe, config: Tune, n_trials: int) -> "optuna.Study":
    """Create a study without trials, whose random numbers are those of trial `n_trials`."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise ConfigError(
            "tune: optuna is not installed: run `pip install -e '.[tune]' -c constraints.txt`, or "
            "take tune out of the recipe."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(
        seed=config.seed * 1_000_003 + n_trials, n_startup_trials=N_STARTUP_TRIALS
    )
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if config.pruning:
        pruner = optuna.pruners.MedianPruner(N_STARTUP_TRIALS, n_warmup_steps=1)
    is_loss = get_objective_metric(recipe, config) in LOWER_IS_BETTER
    direction: Literal["minimize", "maximize"] = "minimize" if is_loss else "maximize"
    return optuna.create_study(direction=direction, sampler=sampler, pruner=pruner)


def rebuild_trial(
    config: Tune, record: TrialRecord, distributions: "dict[str, BaseDistribution]"
) -> "optuna.trial.FrozenTrial":
    """Turn a record into a trial of optuna's. One that failed counts as pruned."""
    from optuna import trial as optuna_trial

    choices = {}
    for name, value in record.values.items():
        choices[name] = encode_choice(config.space[name], value)
    states = optuna_trial.TrialState
    is_complete = record.state == "done"
    return optuna_trial.create_trial(
        state=states.COMPLETE if is_complete else states.PRUNED,
        value=record.value if is_complete else None,
        params=choices,
        distributions=distributions,
        intermediate_values=dict(enumerate(record.curve)),
    )


def first_choices(recipe: Recipe, config: Tune) -> dict[str, Any]:
    """Return the recipe's own values that lie in the search space, as optuna has them."""
    choices = {}
    for name, value in get_recipe_values(recipe, config).items():
        option = config.space[name]
        if is_within(option, value):
            choices[name] = encode_choice(option, value)
    return choices


def get_recipe_values(recipe: Recipe, config: Tune) -> Values:
    """Return the recipe's own values of the keys that are searched."""
    train: Any = recipe.train
    return {name: reduce(getattr, name.split("."), train) for name in config.space}


def decode_values(config: Tune, trial: "optuna.Trial") -> Values:
    """Return the values that a trial is to try, by their keys in `train`."""
    values: Values = {}
    for name, choice in sorted(trial.params.items()):
        is_encoded = isinstance(config.space[name], list)
        values[name] = json.loads(choice) if is_encoded else choice
    return values


def build_distribution(option: Option) -> "BaseDistribution":
    """Turn an option of the search space into a distribution of optuna's."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(option, list):
        return CategoricalDistribution([encode_choice(option, value) for value in option])
    if isinstance(option["low"], int):
        return IntDistribution(option["low"], option["high"], log=option["log"])
    return FloatDistribution(option["low"], option["high"], log=option["log"])


def encode_choice(option: Option, value: JsonValue) -> Any:
    """Return a value as optuna has it: one of a list as JSON, since it may be a list itself."""
    return json.dumps(value) if isinstance(option, list) else value


def is_within(option: Option, value: Any) -> bool:
    """Return whether a value is one of a list, or lies in an interval."""
    if isinstance(option, list):
        return value in option
    return bool(option["low"] <= value <= option["high"])


def get_objective_metric(recipe: Recipe, config: Tune) -> str:
    """Return the metric that the search improves."""
    return config.metric or recipe.train.metric


def find_best_trial(recipe: Recipe, config: Tune, trials: list[TrialRecord]) -> TrialRecord | None:
    """Return the best of the trials that were trained to the end; of equal ones the first."""
    is_loss = get_objective_metric(recipe, config) in LOWER_IS_BETTER
    complete = [record for record in trials if record.state == "done"]
    values = [record.value for record in complete if record.value is not None]
    if not values:
        return None
    choose_best = min if is_loss else max
    best_value = choose_best(values)
    return complete[values.index(best_value)]
