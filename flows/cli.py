"""The command line. Everything heavy is imported by the command that needs it, so that help comes at once."""

import importlib
import json
import logging
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

import click
import yaml

from flows import show
from tasks.step import EXIT_FAILED, Failure

STATUS = {"Promoted": 0, "Unchanged": 0, "Rejected": 3, "Inconclusive": 4, "Superseded": 5}


class Group(click.Group):
    """Commands whose failures end with one sentence and the right exit status."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except Failure as failure:
            click.echo(f"error: {failure}", err=True)
            sys.exit(failure.exit_status if failure.exit_status != 75 else EXIT_FAILED)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Retrains, judges, promotes and serves models.

    Example: millrace run support-desk
    """


@main.command()
@click.argument("recipe")
def run(recipe: str) -> None:
    """Retrain RECIPE here and now; promote the result where the gate allows.

    Example: millrace run digits

    Exit status: 0 promoted or unchanged, 3 rejected, 4 inconclusive, 5 superseded, 2 a mistake in the call or recipe, 1 any other failure.
    """
    from flows import process
    from tasks.recipe import load

    with_erasures(load(recipe).name)
    os.environ.update(process.mark())  # Prefect's own server does not end with a run that is killed, and is then found by this
    home = Path(".millrace/prefect").absolute()
    home.mkdir(parents=True, exist_ok=True)  # Prefect does not make it, and waits in vain for a database there
    defaults = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # the first start makes the database, which takes longer than the default of 20 s on a small machine
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    from flows.retrain import RUNS, retrain

    # DVC takes seconds to import: it does so while Prefect's server starts
    threading.Thread(target=importlib.import_module, args=("dvc.repo",), daemon=True).start()
    state = retrain(recipe, return_state=True)
    record = RUNS / f"{state.state_details.flow_run_id}.json"
    if record.is_file():
        show.run(json.loads(record.read_text()))
    logging.getLogger("prefect").setLevel(logging.WARNING)  # so that how it ended is the last line
    click.echo(f"{state.name}: {state.message}")
    sys.exit(STATUS.get(str(state.name), EXIT_FAILED))


@main.group()
def recipe() -> None:
    """Check, list and register recipes.

    Example: millrace recipe list
    """


@recipe.command()
@click.argument("name")
def check(name: str) -> None:
    """Check the recipe NAME and say every mistake at once.

    Example: millrace recipe check digits
    """
    from tasks.recipe import load

    load(name)
    click.echo(f"{name}: no mistakes.")


@recipe.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(as_json: bool) -> None:
    """List the registered recipes.

    Example: millrace recipe list --json
    """
    from tasks.recipe import load, registered

    rows = [{"name": name, "modality": load(name).modality, "source": load(name).ingest.kind} for name in registered()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        show.table("Recipes", ["name", "modality", "source"], [list(row.values()) for row in rows])


@recipe.command()
def schema() -> None:
    """Print the JSON schema of a recipe, for editors.

    Example: millrace recipe schema
    """
    from tasks.recipe import Recipe

    click.echo(json.dumps(Recipe.model_json_schema(), indent=2))


@recipe.command()
@click.argument("path", type=click.Path(path_type=Path))
def add(path: Path) -> None:
    """Check the recipe in the file PATH and register it.

    Example: millrace recipe add recipes/digits.yaml
    """
    from tasks.recipe import PARAMS, RECIPES, read, registered

    found = read(path)
    names = registered()
    target = RECIPES / f"{found.name}.yaml"
    if target.exists() and target.resolve() != path.resolve():
        raise Failure(f"{target} exists already: give your recipe another name, or edit that file.")
    if not target.exists():
        shutil.copyfile(path, target)
    with_erasures(found.name)
    if found.name not in names:
        PARAMS.write_text(yaml.safe_dump({"recipes": [*names, found.name]}, sort_keys=False))
    click.echo(f"{found.name} is registered. Run it: millrace run {found.name}")


@main.command()
@click.argument("recipe")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(recipe: str, as_json: bool) -> None:
    """Say which version of RECIPE is in production, and since when.

    Example: millrace status support-desk
    """
    records, manifest = moves(recipe)
    if as_json:
        click.echo(json.dumps({**records[0], "manifest": manifest} if records else None, indent=2))
    elif records:
        show.status(recipe, records[0], manifest)
    else:
        click.echo(f"{recipe}: nothing is in production yet. `millrace run {recipe}` trains and judges a first model.")


@main.command()
@click.argument("recipe")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def history(recipe: str, as_json: bool) -> None:
    """List every move of RECIPE's production version, newest first.

    Example: millrace history support-desk
    """
    records, _ = moves(recipe)
    if as_json:
        click.echo(json.dumps(records, indent=2))
    else:
        show.history(recipe, records)


@main.command()
@click.argument("recipe")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def explain(recipe: str, as_json: bool) -> None:
    """Say of each stage of RECIPE whether it would run and why, and which versions were trained on rows that data/RECIPE/erase.csv lists.

    Example: millrace explain support-desk
    """
    from flows import storage
    from flows.pipeline import Pipeline
    from tasks import files, ingest, registry
    from tasks.recipe import load

    with_erasures(load(recipe).name)
    pipeline = Pipeline()
    stages = [{"stage": stage.name, "why": pipeline.why(stage)} for stage in pipeline.stages(recipe)]
    erased = ingest.erasures(files.folder_of(recipe) / "erase.csv")
    versions: dict[str, int | None] = {}
    current = None
    if erased:
        with storage.opened() as store:
            versions = registry.trained_on(store, recipe, erased)
            pointer = registry.read(store, recipe, load(recipe).promote.channel)
            current = pointer.version if pointer else None
    if as_json:
        click.echo(json.dumps({"stages": stages, "erased": {"ids": len(erased), "in_production": current, "versions": versions}}, indent=2))
    else:
        show.explained(recipe, stages, len(erased), versions, current)


@main.command()
@click.argument("file", type=click.File("r", encoding="utf-8"), default="-")
def reveal(file: TextIO) -> None:
    """Write the text of FILE, or of what is piped in, with the values that `pii: encrypt` encrypted restored.

    Example: millrace reveal letter.txt

    MILLRACE_PII_KEY must hold the key with which they were encrypted.
    """
    from tasks import sealed

    try:
        text = file.read()
    except UnicodeDecodeError as error:
        raise Failure(f"{file.name} is not UTF-8 text (byte {error.start}): a Parquet file has to be exported first, for example to CSV.") from None
    click.echo(sealed.revealed(text), nl=False)


def with_erasures(name: str) -> None:
    """Make the recipe's list of ids to erase, where there is none: DVC needs a file that ingest can depend on."""
    from tasks import files

    path = files.folder_of(name) / "erase.csv"
    if not path.exists():
        files.write_text(path, "id\n")


def moves(name: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every move of the recipe's channel, newest first, and the manifest of what is there now."""
    from flows import storage
    from tasks import registry
    from tasks.recipe import load

    channel = load(name).promote.channel
    with storage.opened() as store:
        records = list(registry.history(store, name, channel))
        return records, registry.read_manifest(store, name, records[0]["version"]) if records else {}


if __name__ == "__main__":
    main()
