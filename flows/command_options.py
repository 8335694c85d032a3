"""What several commands share: the recipe that they are about, JSON, and who acts and why."""

import functools
import getpass
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tasks.contracts.evidence import Override
    from tasks.recipe.recipe import Recipe


def parse_recipe(
    context: click.Context,  # noqa: ARG001  click's signature
    parameter: click.Parameter,  # noqa: ARG001
    name: str | None,
) -> "Recipe | None":
    """Return the registered recipe of this name, checked; None if none is named."""
    from tasks.recipe.loading import load_recipe

    return load_recipe(name) if name else None


RECIPE_ARGUMENT = click.argument("recipe", callback=parse_recipe)
OPTIONAL_RECIPE_ARGUMENT = click.argument("recipe", callback=parse_recipe, required=False)
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
CHANNEL_OPTION = click.option(
    "--channel", help="Channel, such as staging; the recipe's own if it is not named."
)
ACTOR_OPTION = click.option(
    "--actor", default="", help="Who decides (recorded); the user of this machine if left out."
)
REASON_OPTION = click.option("--reason", default="", help="Why (recorded).")


def by_person(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options --actor and --reason, and pass both to it as `by`."""

    @ACTOR_OPTION
    @REASON_OPTION
    @functools.wraps(command)
    def run(*, actor: str, reason: str, **arguments: object) -> None:
        command(by=build_actor(actor, reason), **arguments)

    return run


def build_actor(actor: str, reason: str) -> "Override":
    """Return who acts, and why.

    Raises:
        ConfigError: No reason is given.
    """
    from tasks.contracts.evidence import Override
    from tasks.core.errors import ConfigError

    if not reason.strip():
        raise ConfigError("Add --reason TEXT: why is part of the journal, for whoever reads it.")
    return Override(actor=actor.strip() or getpass.getuser(), reason=reason.strip())


def print_result(content: object, print_tables: Callable[[], None], *, as_json: bool) -> None:
    """Print a result as JSON for programs, or as tables for people."""
    if as_json:
        click.echo(json.dumps(content, indent=2))
    else:
        print_tables()
