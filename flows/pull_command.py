"""The command that puts a version into a folder, for other tools to take."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.command_options import CHANNEL_OPTION, JSON_OPTION, RECIPE_ARGUMENT, print_result

if TYPE_CHECKING:
    from tasks.recipe.recipe import Recipe
    from tasks.registry.pull import PulledVersion
    from tasks.registry.registry import Registry

MEBIBYTE = 1 << 20


@click.command(epilog="Example: millrace pull support-desk --to support-desk-model")
@RECIPE_ARGUMENT
@click.option("--version", help="Version to pull; what the channel names if left out.")
@CHANNEL_OPTION
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder to put it into; RECIPE-VERSION if left out. It has to be empty or missing.",
)
@JSON_OPTION
def pull(
    recipe: "Recipe",
    version: str | None,
    channel: str | None,
    folder: Path | None,
    as_json: bool,  # noqa: FBT001  click's signature
) -> None:
    """Put a version of RECIPE into a folder, its signature and all of its bytes checked.

    Other tools take the folder as it is: transformers or sentence-transformers, onnxruntime,
    `model_signing verify` and the model hub. README.md there says how it is used.
    """
    from flows.registry_access import open_registry
    from tasks.core.errors import ConfigError
    from tasks.registry import pull as pulling
    from tasks.reports import model_card

    if version and channel:
        raise ConfigError("--version and --channel both say what to pull: leave out one of them.")
    with open_registry() as registry:
        named = find_version(registry, recipe, version, channel)
        target = folder or Path(f"{recipe.name}-{named}")
        pulled = pulling.pull_version(
            registry, recipe.name, named, target, model_card.render_short_card
        )
    print_result(describe_pulled(pulled), lambda: print_pulled(pulled), as_json=as_json)


def find_version(
    registry: "Registry", recipe: "Recipe", version: str | None, channel: str | None
) -> str:
    """Return the version that the options mean."""
    from tasks.registry import channel_pointer, version_names

    if version:
        return version_names.resolve_version(registry, recipe.name, version)
    channel = channel or recipe.promote.channel
    return channel_pointer.require_pointer(registry, recipe.name, channel).version


def describe_pulled(pulled: "PulledVersion") -> dict[str, object]:
    """Describe what was pulled, for programs."""
    return {
        "recipe": pulled.manifest.model,
        "version": pulled.manifest.version,
        "folder": str(pulled.folder),
        "files": len(pulled.manifest.files),
        "bytes": pulled.bytes,
        "is_new": pulled.is_new,
        "warnings": pulled.warnings,
    }


def print_pulled(pulled: "PulledVersion") -> None:
    """Say what was pulled, and where it is."""
    for warning in pulled.warnings:
        click.echo(f"warning: {warning}", err=True)
    manifest = pulled.manifest
    size = f"{len(manifest.files)} files, {pulled.bytes / MEBIBYTE:.1f} MiB"
    state = "is in" if pulled.is_new else "was in"
    click.echo(
        f"{manifest.model} {manifest.version} {state} {pulled.folder} ({size}), as it was signed. "
        "README.md there says how to use it."
    )
