"""The command line. Each command imports what it needs, so that help comes at once."""

import dataclasses
import importlib
import json
import logging
import shutil
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click
import yaml

from flows import (
    doctor,
    key_commands,
    move_commands,
    prefect_server,
    pull_command,
    registry_commands,
    terminal,
)
from flows.command_options import (
    CHANNEL_OPTION,
    JSON_OPTION,
    RECIPE_ARGUMENT,
    parse_recipe,
    print_result,
)
from tasks.core.errors import EXIT_FAILED, ConfigError, RetryableError, StageError

if TYPE_CHECKING:
    from tasks.contracts.evidence import Override
    from tasks.recipe.recipe import Recipe


class CommandGroup(click.Group):
    """Commands whose errors end with one sentence and the right exit status."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(context)
        except StageError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(EXIT_FAILED if isinstance(error, RetryableError) else error.exit_status)


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: millrace run support-desk",
)
def main() -> None:
    """Retrain, judge and promote models."""
    prefect_server.bypass_proxy_for_loopback()


@main.command(epilog="Example: millrace run digits")
@RECIPE_ARGUMENT
def run(recipe: "Recipe") -> None:
    """Retrain RECIPE now, and promote the result if the gate allows it.

    Exit status: 0 promoted or unchanged, 3 rejected or frozen, 4 inconclusive, 5 superseded, 2 a
    mistake in the call or the recipe, 1 any other failure.
    """
    run_flow(recipe.name)


@main.command(
    epilog="Example: millrace promote digits --override --actor ann "
    '--reason "the test rows of May are mislabelled"'
)
@RECIPE_ARGUMENT
@CHANNEL_OPTION
@click.option(
    "--override",
    is_flag=True,
    help="Promote even if the gate rejected the model, was inconclusive, or the channel is frozen.",
)
@click.option("--actor", default="", help="Name of the person promoting (recorded).")
@click.option("--reason", default="", help="Why the model is promoted (recorded).")
def promote(
    recipe: "Recipe",
    channel: str | None,
    override: bool,  # noqa: FBT001  click's signature
    actor: str,
    reason: str,
) -> None:
    """Promote the model of RECIPE in this workspace, without running its stages.

    With --channel, it is judged against what that channel names, and promoted if the gate allows
    it. With --override, it is promoted whatever the gate decided: the actor and the reason become
    part of the evidence and of the journal; `millrace status` and `millrace history` show them. A
    model is refused if its files are not those that were judged.
    """
    from tasks.contracts.evidence import Override

    is_signed_for = bool(override and actor.strip() and reason.strip())
    if override != is_signed_for or not (override or channel):
        raise ConfigError(
            f"`millrace run {recipe.name}` promotes what the gate allows; to promote what it does "
            "not, add --override, --actor NAME (who decides) and --reason TEXT (why), all of which "
            "are recorded. To promote to another channel what the gate allows, add --channel NAME."
        )
    by = Override(actor=actor.strip(), reason=reason.strip()) if override else None
    run_flow(recipe.name, by, channel or recipe.promote.channel)


def run_flow(
    recipe: str, override: "Override | None" = None, channel: str | None = None
) -> NoReturn:
    """Run the flow in this process, print what it did, and exit with its status."""
    from flows import stage_process

    ensure_erasure_file(recipe)
    # The markers let a later run find Prefect's server, which does not end with a killed run.
    prefect_server.set_default_environment(stage_process.build_marker_variables())
    from flows import outcomes
    from flows.retrain import RUNS_FOLDER, retrain
    from tasks.contracts.run_record import RunRecord

    prefect_server.check_proxy_variables()
    # DVC takes seconds to import, so it is imported while Prefect's server starts.
    threading.Thread(target=importlib.import_module, args=("dvc.repo",), daemon=True).start()
    prefect_server.start_server()
    state = retrain(recipe, override, channel, return_state=True)
    path = RUNS_FOLDER / f"{state.state_details.flow_run_id}.json"
    if path.is_file():
        terminal.print_run(RunRecord.read(path))
    logging.getLogger("prefect").setLevel(logging.WARNING)  # the outcome is to be the last line
    click.echo(f"{state.name}: {state.message}")
    sys.exit(outcomes.EXIT_STATUS_BY_NAME.get(str(state.name), EXIT_FAILED))


@main.group(epilog="Example: millrace recipe list")
def recipe() -> None:
    """Check, list and register recipes."""


@recipe.command(epilog="Example: millrace recipe check digits")
@click.argument("name", callback=parse_recipe)
def check(name: "Recipe") -> None:
    """Check the recipe NAME and list all of its mistakes."""
    click.echo(f"{name.name}: no mistakes.")


@recipe.command("list", epilog="Example: millrace recipe list --json")
@JSON_OPTION
def list_recipes(as_json: bool) -> None:  # noqa: FBT001
    """List the registered recipes."""
    from tasks.recipe.loading import list_registered_names, load_recipe

    recipes = [load_recipe(name) for name in list_registered_names()]
    rows = [
        {"name": recipe.name, "modality": recipe.modality, "source": recipe.ingest.kind}
        for recipe in recipes
    ]

    def print_rows() -> None:
        columns = ["name", "modality", "source"]
        terminal.print_table("Recipes", columns, [list(row.values()) for row in rows])

    print_result(rows, print_rows, as_json=as_json)


@recipe.command(epilog="Example: millrace recipe schema")
def schema() -> None:
    """Print the JSON schema of a recipe, for editors."""
    from tasks.recipe.recipe import Recipe

    click.echo(json.dumps(Recipe.model_json_schema(), indent=2))


@recipe.command(epilog="Example: millrace recipe add recipes/digits.yaml")
@click.argument("path", type=click.Path(path_type=Path))
def add(path: Path) -> None:
    """Check the recipe in the file PATH and register it."""
    from tasks.recipe.loading import PARAMS_FILE, RECIPES_FOLDER, list_registered_names, read_recipe
    from tasks.storage import files

    name = read_recipe(path).name
    target = RECIPES_FOLDER / f"{name}.yaml"
    if not target.exists():
        with files.atomic_file(target) as temporary:
            shutil.copyfile(path, temporary)
    elif target.resolve() != path.resolve():
        raise StageError(
            f"{target} exists already: give your recipe another name, or edit that file."
        )
    ensure_erasure_file(name)
    names = list_registered_names()
    if name not in names:
        files.write_text(PARAMS_FILE, yaml.safe_dump({"recipes": [*names, name]}, sort_keys=False))
    click.echo(f"{name} is registered. Run it: millrace run {name}")


@main.command(epilog="Example: millrace explain support-desk")
@RECIPE_ARGUMENT
@JSON_OPTION
def explain(recipe: "Recipe", as_json: bool) -> None:  # noqa: FBT001
    """Show which stages of RECIPE would run and why, and which versions know erased rows.

    Those are versions that were trained on rows that data/RECIPE/erase.csv lists.
    """
    from flows import explanation

    ensure_erasure_file(recipe.name)
    stages = explanation.explain_stages(recipe.name)
    erasure = explanation.report_erasure(recipe)
    content = {
        "stages": [dataclasses.asdict(stage) for stage in stages],
        "erased": dataclasses.asdict(erasure),
    }
    print_result(
        content,
        lambda: terminal.print_explanation(recipe.name, stages, erasure),
        as_json=as_json,
    )


@main.command(epilog="Example: millrace reveal letter.txt")
@click.argument("file", type=click.File("r", encoding="utf-8"), default="-")
def reveal(file: TextIO) -> None:
    """Print FILE, or what is piped in, with the values that `pii: encrypt` encrypted restored.

    MILLRACE_PII_KEY must hold the key with which they were encrypted.
    """
    from tasks.cleaning import pii_encryption

    try:
        text = file.read()
    except UnicodeDecodeError as error:
        raise StageError(
            f"{file.name} is not UTF-8 text (byte {error.start}): a Parquet file has to be "
            "exported first, for example to CSV."
        ) from None
    click.echo(pii_encryption.decrypt_text(text), nl=False)


def ensure_erasure_file(recipe: str) -> None:
    """Create the recipe's list of ids to erase if there is none: DVC needs a file to depend on."""
    from tasks.storage import files
    from tasks.storage.layout import StagePaths

    path = StagePaths.of_recipe(recipe).erased_ids
    if not path.exists():
        files.write_text(path, "id\n")


COMMANDS = (
    *registry_commands.COMMANDS,
    *move_commands.COMMANDS,
    pull_command.pull,
    key_commands.keys,
    doctor.doctor,
)
for command in COMMANDS:
    main.add_command(command)

if __name__ == "__main__":
    main()
