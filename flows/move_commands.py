"""The commands with which a person moves or mends a channel."""

import sys
from typing import TYPE_CHECKING

import click

from flows import terminal
from flows.command_options import (
    ACTOR_OPTION,
    CHANNEL_OPTION,
    JSON_OPTION,
    RECIPE_ARGUMENT,
    by_person,
    print_result,
)
from tasks.core.errors import EXIT_FAILED

if TYPE_CHECKING:
    from tasks.contracts.evidence import Override
    from tasks.recipe.recipe import Recipe
    from tasks.registry.moves import MoveResult


@click.command(
    epilog='Example: millrace rollback support-desk --reason "answers in the wrong language"'
)
@RECIPE_ARGUMENT
@click.option("--to", "version", help="Version to go back to; the one before if left out.")
@CHANNEL_OPTION
@JSON_OPTION
@by_person
def rollback(
    recipe: "Recipe",
    version: str | None,
    channel: str | None,
    by: "Override",
    as_json: bool,  # noqa: FBT001  click's signature
) -> None:
    """Make RECIPE's channel name a version again that it named before.

    The version is verified and validated first: its files are fetched, their hashes and signature
    checked, and it has to answer its golden requests. The channel is frozen afterwards, so that the
    next run does not promote again what was rolled back; `millrace unfreeze` lifts that.
    """
    from flows import version_check
    from flows.registry_access import open_registry_for_signing
    from tasks.registry import channel_pointer, moves, version_names

    with open_registry_for_signing(click.echo) as registry:
        expected = channel_pointer.require_pointer(
            registry, recipe.name, channel or recipe.promote.channel
        )
        if version:
            version = version_names.resolve_version(registry, recipe.name, version)
        target = moves.find_target(registry, expected.record, version)
        version_check.require_valid(recipe.name, target, recipe.promote)
        result = moves.roll_back(registry, expected, target, by)
    report_move(result, as_json=as_json)


@click.command(epilog='Example: millrace freeze support-desk --reason "audit until Friday"')
@RECIPE_ARGUMENT
@CHANNEL_OPTION
@JSON_OPTION
@by_person
def freeze(
    recipe: "Recipe",
    channel: str | None,
    by: "Override",
    as_json: bool,  # noqa: FBT001
) -> None:
    """Keep runs from promoting to RECIPE's channel, until `millrace unfreeze`."""
    change_freeze(recipe, by, channel, as_json=as_json, frozen=True)


@click.command(epilog='Example: millrace unfreeze support-desk --reason "the audit is over"')
@RECIPE_ARGUMENT
@CHANNEL_OPTION
@JSON_OPTION
@by_person
def unfreeze(
    recipe: "Recipe",
    channel: str | None,
    by: "Override",
    as_json: bool,  # noqa: FBT001
) -> None:
    """Let runs promote to RECIPE's channel again."""
    change_freeze(recipe, by, channel, as_json=as_json, frozen=False)


def change_freeze(
    recipe: "Recipe", by: "Override", channel: str | None, *, as_json: bool, frozen: bool
) -> None:
    """Freeze a channel, or lift that again; print what became of it."""
    from flows.registry_access import open_registry_for_signing
    from tasks.registry import channel_pointer, moves

    with open_registry_for_signing(click.echo) as registry:
        expected = channel_pointer.require_pointer(
            registry, recipe.name, channel or recipe.promote.channel
        )
        result = moves.set_frozen(registry, expected, by, frozen=frozen)
    report_move(result, as_json=as_json)


def report_move(result: "MoveResult", *, as_json: bool) -> None:
    """Print what the channel names now.

    Raises:
        StageError: Another writer moved it first.
    """
    from tasks.core.errors import StageError
    from tasks.registry import moves

    current = result.current
    if current is None or not result.won:
        winner = moves.describe_move(current.record) if current else "nothing"
        raise StageError(f"Another writer was first: {winner} Look at it, and decide again.")
    print_result(
        current.record.to_json(),
        lambda: click.echo(moves.describe_move(current.record)),
        as_json=as_json,
    )


@click.command(epilog="Example: millrace verify support-desk")
@RECIPE_ARGUMENT
@click.option("--version", help="Check this version alone.")
@click.option("--sign", is_flag=True, help="Sign what no trusted key has signed; needs --actor.")
@ACTOR_OPTION
@JSON_OPTION
def verify(
    recipe: "Recipe",
    version: str | None,
    sign: bool,  # noqa: FBT001  click's signature
    actor: str,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Check all that the store holds for RECIPE: signatures, and the hash of every byte.

    With --sign, objects that are not signed by a trusted key are signed by the key of this machine,
    after their hashes were checked: versions from before there were signatures, or those of a key
    that was revoked. Look at what is unsigned first; who vouched for it is recorded.

    The exit status is 1 if something cannot be believed.
    """
    from flows.registry_access import open_registry, open_registry_for_signing
    from tasks.core.errors import ConfigError
    from tasks.registry import verification, version_names

    if sign and not actor.strip():
        raise ConfigError("Add --actor NAME: who vouches for what is signed is recorded.")
    if sign:
        with open_registry_for_signing(click.echo) as registry:
            versions = version_names.resolve_versions(registry, recipe.name, version)
            for key in verification.sign_again(registry, recipe.name, actor.strip(), versions):
                click.echo(f"signed {key}", err=True)
    with open_registry() as registry:
        versions = version_names.resolve_versions(registry, recipe.name, version)
        checks = list(verification.verify_model(registry, recipe.name, versions))
    print_result(
        [{"object": check.name, "fault": check.fault} for check in checks],
        lambda: terminal.print_checks(recipe.name, checks),
        as_json=as_json,
    )
    if any(check.fault for check in checks):
        sys.exit(EXIT_FAILED)


COMMANDS = (rollback, freeze, unfreeze, verify)
