"""`millrace doctor`: whether the store can be relied on, and mending a channel."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from flows import terminal
from flows.command_options import CHANNEL_OPTION, JSON_OPTION, parse_recipe, print_result
from tasks.core.errors import EXIT_FAILED

if TYPE_CHECKING:
    from tasks.recipe.recipe import Recipe
    from tasks.registry.repair import Repair
    from tasks.storage.store_probes import ProbeResult


@click.command(epilog="Example: millrace doctor")
@click.option(
    "--repair",
    "recipe",
    metavar="RECIPE",
    callback=parse_recipe,
    help="Mend what can be proven of RECIPE's channel, instead.",
)
@CHANNEL_OPTION
@JSON_OPTION
def doctor(recipe: "Recipe | None", channel: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Try all that is relied on in the store, and name what the credentials may do.

    The probes write a few small objects and delete them. The exit status is 1 if something failed.
    """
    if recipe:
        repair_channel(recipe, channel or recipe.promote.channel, as_json=as_json)
    else:
        probe_store(as_json=as_json)


def probe_store(*, as_json: bool) -> None:
    """Probe the store, and print what each probe came to."""
    from flows import embedded_s3
    from tasks.storage import conditional_probes, store_probes

    with embedded_s3.open_store(verify=False) as store:
        is_started = embedded_s3.is_just_started(store)
        results = store_probes.probe_store(store, is_just_started=is_started)
        is_passed = store_probes.honours_conditional_writes(results)
        conditional_probes.record_outcome(store, is_passed=is_passed)
    print_result(
        [dataclasses.asdict(result) for result in results],
        lambda: print_probes(store.settings.address, results),
        as_json=as_json,
    )
    if any(result.state != store_probes.OK for result in results):
        sys.exit(EXIT_FAILED)


def print_probes(address: str, results: "Sequence[ProbeResult]") -> None:
    """Print what each probe came to."""
    rows = [[result.name, result.state, result.sentence] for result in results]
    terminal.print_table(address, ["probe", "state", ""], rows)


def repair_channel(recipe: "Recipe", channel: str, *, as_json: bool) -> None:
    """Mend a channel, and print what was mended and what was not."""
    from flows.registry_access import open_registry_for_signing
    from tasks.registry import repair

    with open_registry_for_signing(click.echo) as registry:
        mended = repair.repair_channel(registry, recipe.name, channel)
    print_result(
        dataclasses.asdict(mended),
        lambda: print_repair(recipe.name, channel, mended),
        as_json=as_json,
    )
    if mended.remaining:
        sys.exit(EXIT_FAILED)


def print_repair(recipe: str, channel: str, repair: "Repair") -> None:
    """Print what was mended, and what needs a person."""
    for sentence in repair.mended:
        click.echo(f"mended: {sentence}")
    terminal.print_faults(repair.remaining)
    if not (repair.mended or repair.remaining):
        click.echo(f"{recipe} {channel}: pointer and journal agree; there is nothing to mend.")
