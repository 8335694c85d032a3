"""A study as a page: how the trials went, and what each value of the space did."""

import math
from typing import Any

from tasks.recipe.metric_names import LOWER_IS_BETTER
from tasks.recipe.recipe import Recipe
from tasks.reports import html_pages
from tasks.tuning import study
from tasks.tuning.study import TrialRecord

PlotPoint = tuple[float, float, str, str]  # as pages/plots.html draws it


def render_study(recipe: Recipe, done: list[TrialRecord], best: TrialRecord | None) -> str:
    section, title = recipe.tune, f"{recipe.name}: tuning"
    if section is None or best is None:
        return html_pages.render_page("study", title, trials=[])
    metric = study.get_objective_metric(recipe, section)
    sign = -1 if metric in LOWER_IS_BETTER else 1
    complete = [
        record for record in done if record["state"] == "done"
    ]  # one that was ended early may lie beyond these
    reached = [
        max((record["value"] for record in complete[:count]), key=lambda value: sign * value)
        for count in range(1, len(complete) + 1)
    ]

    def points(places: list[float]) -> list[PlotPoint]:
        kinds = ["best" if record is best else record["state"] for record in done]
        titles = [
            f"trial {record['number'] + 1}: {html_pages.format_value(record['value'])}"
            for record in done
        ]
        return [
            point
            for point in zip(
                places, [record["value"] for record in done], kinds, titles, strict=True
            )
            if point[1] is not None
        ]

    order = [(record["number"] + 0.5) / len(done) for record in done]
    way = [
        (order[record["number"]], value) for record, value in zip(complete, reached, strict=True)
    ]
    slices = [
        (
            name,
            points([locate_on_axis(option, record["values"][name]) for record in done]),
            [
                (locate_on_axis(option, value), html_pages.format_value(value))
                for value in list_axis_ends(option)
            ],
        )
        for name, option in sorted(section.space.items())
    ]
    own = study.get_recipe_values(recipe, section) == done[0]["values"]
    return html_pages.render_page(
        "study",
        title,
        own=own,
        trials=done,
        folds=recipe.split.folds,
        metric=metric,
        best=best,
        points=points(order),
        way=way,
        slices=slices,
    )


def locate_on_axis(option: Any, value: Any) -> float:
    """Where a value lies between the ends of its axis."""
    if isinstance(option, list):
        return (option.index(value) + 0.5) / len(option)
    scale = math.log if option["log"] else float
    return (scale(value) - scale(option["low"])) / (scale(option["high"]) - scale(option["low"]))


def list_axis_ends(option: Any) -> list[Any]:
    return option if isinstance(option, list) else [option["low"], option["high"]]


def tabulate_trials(recipe: Recipe, done: list[TrialRecord]) -> list[list[Any]]:
    """The heading, and a row for each trial, numbered from 1."""
    names = sorted(recipe.tune.space) if recipe.tune else []
    rows = (
        [
            record["number"] + 1,
            record["state"],
            record["value"],
            *(record["values"][name] for name in names),
        ]
        for record in done
    )
    return [["trial", "state", "value", *names], *rows]
