"""The commands that show the registry: what is in production, and how it came there."""

import itertools
import sys
from typing import TYPE_CHECKING

import click

from flows import terminal
from flows.command_options import (
    CHANNEL_OPTION,
    JSON_OPTION,
    OPTIONAL_RECIPE_ARGUMENT,
    RECIPE_ARGUMENT,
    print_result,
)
from tasks.core.errors import EXIT_FAILED

if TYPE_CHECKING:
    from tasks.contracts.manifest import Manifest
    from tasks.contracts.provenance import Provenance
    from tasks.recipe.recipe import Recipe
    from tasks.registry.journal import History
    from tasks.registry.registry import Registry


@click.command(epilog="Example: millrace status support-desk")
@OPTIONAL_RECIPE_ARGUMENT
@CHANNEL_OPTION
@JSON_OPTION
def status(recipe: "Recipe | None", channel: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Show which version of RECIPE is in production, since when and why; of all without RECIPE.

    The exit status is 1 if pointer and journal disagree, or are not signed by a trusted key.
    """
    from flows.registry_access import open_registry

    with open_registry() as registry:
        if recipe is None:
            faults = show_all(registry, channel, as_json=as_json)
        else:
            channel = channel or recipe.promote.channel
            faults = show_one(registry, recipe.name, channel, as_json=as_json)
    exit_with_faults(faults)


def show_one(registry: "Registry", model: str, channel: str, *, as_json: bool) -> list[str]:
    """Print what a channel names; return what cannot be believed."""
    from tasks.registry import journal

    history = journal.read_history(registry, model, channel)
    if not history.records:
        print_empty_status(model, channel, history.faults, as_json=as_json)
        return history.faults
    record = history.current.record if history.current else None
    faults = list(history.faults)
    manifest, provenance = read_version(registry, model, record.version if record else None, faults)
    content = {
        **(record.to_json() if record else {}),
        "manifest": manifest.to_json() if manifest else None,
        "provenance": provenance.to_json() if provenance else None,
        "faults": faults,
    }

    def print_tables() -> None:
        if record:
            terminal.print_status(record, manifest, provenance)
        terminal.print_faults(faults)

    print_result(content, print_tables, as_json=as_json)
    return faults


def read_version(
    registry: "Registry", model: str, version: str | None, faults: list[str]
) -> tuple["Manifest | None", "Provenance | None"]:
    """Read a version's manifest and provenance; add to `faults` what cannot be believed."""
    from tasks.core.errors import RetryableError, StageError
    from tasks.registry import manifests

    manifest = None
    provenance = None
    if version is None:
        return manifest, provenance
    try:
        manifest = manifests.read_manifest(registry, model, version)
        provenance = manifests.read_provenance(registry, model, version)
    except RetryableError:
        raise
    except StageError as error:
        faults.append(str(error))
    return manifest, provenance


def print_empty_status(model: str, channel: str, faults: list[str], *, as_json: bool) -> None:
    """Say that nothing is in production yet, or that nothing can be believed."""
    message = (
        f"{model}: nothing is in {channel} yet. `millrace run {model}` trains and judges a "
        "first model."
    )

    def print_tables() -> None:
        if faults:
            terminal.print_faults(faults)
        else:
            click.echo(message)

    print_result({"faults": faults} if faults else None, print_tables, as_json=as_json)


def show_all(registry: "Registry", channel: str | None, *, as_json: bool) -> list[str]:
    """Print what is in production for every registered recipe; return what is not believed."""
    from tasks.recipe.loading import list_registered_names, load_recipe
    from tasks.registry import journal

    histories: dict[str, History] = {}
    channels: dict[str, str] = {}
    for name in list_registered_names():
        channels[name] = channel or load_recipe(name).promote.channel
        histories[name] = journal.read_history(registry, name, channels[name])
    content = [
        {
            "recipe": name,
            "channel": channels[name],
            "pointer": history.current.record.to_json() if history.current else None,
            "faults": history.faults,
        }
        for name, history in histories.items()
    ]
    faults = list(itertools.chain(*(history.faults for history in histories.values())))

    def print_tables() -> None:
        terminal.print_all_status(channels, histories)
        terminal.print_faults(faults)

    print_result(content, print_tables, as_json=as_json)
    return faults


@click.command(epilog="Example: millrace history support-desk")
@RECIPE_ARGUMENT
@CHANNEL_OPTION
@JSON_OPTION
def history(recipe: "Recipe", channel: str | None, as_json: bool) -> None:  # noqa: FBT001
    """List every move of RECIPE's channel, newest first: what, when, by whom, why, from what.

    The exit status is 1 if pointer and journal disagree, or are not signed by a trusted key.
    """
    from flows.registry_access import open_registry
    from tasks.registry import journal

    with open_registry() as registry:
        moves = journal.read_history(registry, recipe.name, channel or recipe.promote.channel)
        data = journal.read_data_hashes(registry, moves.records)
    content = {
        "moves": [record.to_json() | {"data": data[record.version]} for record in moves.records],
        "faults": moves.faults,
    }

    def print_tables() -> None:
        terminal.print_history(recipe.name, moves.records, data)
        terminal.print_faults(moves.faults)

    print_result(content, print_tables, as_json=as_json)
    exit_with_faults(moves.faults)


def exit_with_faults(faults: list[str]) -> None:
    """Exit with a status other than 0 if something cannot be believed."""
    if faults:
        sys.exit(EXIT_FAILED)


COMMANDS = (status, history)
