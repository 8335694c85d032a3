"""A study as a page: how the trials went, and what each value of the search space did."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from tasks.recipe.metric_names import LOWER_IS_BETTER
from tasks.recipe.recipe import Recipe
from tasks.recipe.tune import Tune
from tasks.reports import html_pages
from tasks.tuning import study
from tasks.tuning.study import Option, TrialRecord


class PlotPoint(NamedTuple):
    """A point as templates/plots.html draws it; `x` lies between 0 and 1."""

    x: float
    y: float
    kind: str
    title: str


class AxisTick(NamedTuple):
    """A label below the axis, between 0 and 1."""

    x: float
    label: str


class Slice(NamedTuple):
    """The plot of one key: what each trial achieved with its value."""

    name: str
    points: list[PlotPoint]
    ticks: list[AxisTick]


@dataclass(frozen=True)
class Study:
    """The trials of a recipe, with the best of them."""

    recipe: Recipe
    config: Tune
    trials: list[TrialRecord]
    best: TrialRecord


def render_study(recipe: Recipe, trials: list[TrialRecord], best: TrialRecord | None) -> str:
    """Render the page of a study; without a section `tune` it says so."""
    title = f"{recipe.name}: tuning"
    if recipe.tune is None or best is None:
        return html_pages.render_page("study", title, trials=[])
    data = Study(recipe, recipe.tune, trials, best)
    has_own_values = study.get_recipe_values(recipe, recipe.tune) == trials[0].values
    return html_pages.render_page(
        "study",
        title,
        own=has_own_values,
        trials=trials,
        folds=recipe.split.folds,
        metric=study.get_objective_metric(recipe, recipe.tune),
        best=best,
        points=build_points(data, [place_in_order(data, record) for record in trials]),
        way=build_best_so_far(data),
        slices=build_slices(data),
    )


def place_in_order(data: Study, record: TrialRecord) -> float:
    """Return where a trial lies on the axis of all trials."""
    return (record.number + 0.5) / len(data.trials)


def build_points(data: Study, places: list[float]) -> list[PlotPoint]:
    """Build a point for each trial that has a value.

    Args:
        data: The study.
        places: Where each trial lies on the axis.
    """
    points = []
    for record, place in zip(data.trials, places, strict=True):
        if record.value is None:
            continue
        kind = "best" if record is data.best else record.state
        title = f"trial {record.number + 1}: {html_pages.format_value(record.value)}"
        points.append(PlotPoint(place, record.value, kind, title))
    return points


def build_best_so_far(data: Study) -> list[tuple[float, float]]:
    """Build the line of the best value so far.

    Only trials that were trained to the end count: one that was ended early may lie beyond it.
    """
    is_loss = study.get_objective_metric(data.recipe, data.config) in LOWER_IS_BETTER
    choose_better = min if is_loss else max
    line: list[tuple[float, float]] = []
    for record in data.trials:
        if record.state != "done" or record.value is None:
            continue
        best = choose_better(line[-1][1], record.value) if line else record.value
        line.append((place_in_order(data, record), best))
    return line


def build_slices(data: Study) -> list[Slice]:
    """Build the plot of each key of the search space."""
    slices = []
    for name, option in sorted(data.config.space.items()):
        places = [locate_on_axis(option, record.values[name]) for record in data.trials]
        slices.append(Slice(name, build_points(data, places), build_ticks(option)))
    return slices


def build_ticks(option: Option) -> list[AxisTick]:
    """Label each value of a list, or the ends of an interval."""
    values = option if isinstance(option, list) else [option["low"], option["high"]]
    return [build_tick(option, value) for value in values]


def build_tick(option: Option, value: Any) -> AxisTick:
    """Label a value."""
    return AxisTick(locate_on_axis(option, value), html_pages.format_value(value))


def locate_on_axis(option: Option, value: Any) -> float:
    """Return where a value lies between the ends of its axis, from 0 to 1."""
    if isinstance(option, list):
        return (option.index(value) + 0.5) / len(option)
    scale = math.log if option["log"] else float
    low = scale(option["low"])
    high = scale(option["high"])
    return (scale(value) - low) / (high - low)


def tabulate_trials(recipe: Recipe, trials: list[TrialRecord]) -> list[list[Any]]:
    """Return the heading, and a row for each trial, numbered from 1."""
    names = sorted(recipe.tune.space) if recipe.tune else []
    rows: list[list[Any]] = [["trial", "state", "value", *names]]
    for record in trials:
        values = [record.values[name] for name in names]
        rows.append([record.number + 1, record.state, record.value, *values])
    return rows
