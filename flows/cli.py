"""The command line. Everything heavy is imported by the command that needs it, so that help comes at once."""

import importlib
import json
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click
import yaml

from flows import terminal
from tasks.core.errors import EXIT_FAILED, ConfigError, StageError

EXIT_STATUS_BY_STATE = {
    "Promoted": 0,
    "Unchanged": 0,
    "Rejected": 3,
    "Inconclusive": 4,
    "Superseded": 5,
}
SERVER_START_SECONDS = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
PREFECT_SETTINGS = {
    "PREFECT_HOME": str(Path(".millrace/prefect").absolute()),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    SERVER_START_SECONDS: "120",  # the first start makes the database, which takes longer than the default of 20 s
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


def recipe_argument(context: click.Context, parameter: click.Parameter, name: str) -> Any:
    """The registered recipe of that name, checked."""
    from tasks.recipe.loading import load_recipe

    return load_recipe(name)


RECIPE_ARGUMENT = click.argument("recipe", callback=recipe_argument)
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="For programs.")


class CommandGroup(click.Group):
    """Commands whose failures end with one sentence and the right exit status."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except StageError as failure:
            click.echo(f"error: {failure}", err=True)
            sys.exit(failure.exit_status if failure.exit_status != 75 else EXIT_FAILED)


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: millrace run support-desk",
)
def main() -> None:
    """Retrains, judges, promotes and serves models."""
    bypass_proxy_for_loopback()


@main.command(epilog="Example: millrace run digits")
@RECIPE_ARGUMENT
def run(recipe: Any) -> None:
    """Retrain RECIPE here and now; promote the result where the gate allows.

    Exit status: 0 promoted or unchanged, 3 rejected, 4 inconclusive, 5 superseded, 2 a mistake in the call or recipe, 1 any other failure.
    """
    run_flow(recipe.name)


@main.command(
    epilog='Example: millrace promote digits --override --actor ann --reason "the test rows of May are mislabelled"'
)
@RECIPE_ARGUMENT
@click.option("--override", is_flag=True, help="Although the gate rejected it or left it open.")
@click.option("--actor", default="", help="Who decides that.")
@click.option("--reason", default="", help="Why.")
def promote(recipe: Any, override: bool, actor: str, reason: str) -> None:
    """Promote the model of RECIPE that lies in this workspace, whatever the gate said of it.

    Who and why is part of the evidence, the journal, `millrace status` and `millrace history`. A model whose files are not those that were judged is refused.
    """
    if not (override and actor.strip() and reason.strip()):
        raise ConfigError(
            f"`millrace run {recipe.name}` promotes what the gate allows; to promote what it does not, add --override, --actor NAME (who decides) "
            "and --reason TEXT (why), all of which are recorded."
        )
    run_flow(recipe.name, {"actor": actor.strip(), "reason": reason.strip()})


def run_flow(recipe: str, override: dict[str, str] | None = None) -> NoReturn:
    """Run the flow here and now, show what it did, and end with its status."""
    from flows import stage_process

    ensure_erasure_file(recipe)
    Path(PREFECT_SETTINGS["PREFECT_HOME"]).mkdir(
        parents=True, exist_ok=True
    )  # Prefect does not make it, and waits in vain for a database there
    os.environ.update(
        {**PREFECT_SETTINGS, **os.environ, **stage_process.build_marker_variables()}
    )  # marked, as Prefect's own server does not end with a run that is killed
    from flows.retrain import RUNS_FOLDER, retrain

    check_proxy_variables()
    # DVC takes seconds to import: it does so while Prefect's server starts
    threading.Thread(target=importlib.import_module, args=("dvc.repo",), daemon=True).start()
    start_prefect_server()
    state = retrain(recipe, override, return_state=True)
    record = RUNS_FOLDER / f"{state.state_details.flow_run_id}.json"
    if record.is_file():
        terminal.print_run(json.loads(record.read_text()))
    logging.getLogger("prefect").setLevel(logging.WARNING)  # so that how it ended is the last line
    click.echo(f"{state.name}: {state.message}")
    sys.exit(EXIT_STATUS_BY_STATE.get(str(state.name), EXIT_FAILED))


@main.group(epilog="Example: millrace recipe list")
def recipe() -> None:
    """Check, list and register recipes."""


@recipe.command(epilog="Example: millrace recipe check digits")
@click.argument("name", callback=recipe_argument)
def check(name: Any) -> None:
    """Check the recipe NAME and say every mistake at once."""
    click.echo(f"{name.name}: no mistakes.")


@recipe.command("list", epilog="Example: millrace recipe list --json")
@JSON_OPTION
def list_recipes(as_json: bool) -> None:
    """List the registered recipes."""
    from tasks.recipe.loading import list_registered_names, load_recipe

    rows = [
        {"name": one.name, "modality": one.modality, "source": one.ingest.kind}
        for one in map(load_recipe, list_registered_names())
    ]
    print_result(
        rows,
        as_json,
        lambda: terminal.print_table(
            "Recipes", ["name", "modality", "source"], [list(row.values()) for row in rows]
        ),
    )


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

    name, names = read_recipe(path).name, list_registered_names()
    target = RECIPES_FOLDER / f"{name}.yaml"
    if not target.exists():
        shutil.copyfile(path, target)
    elif target.resolve() != path.resolve():
        raise StageError(
            f"{target} exists already: give your recipe another name, or edit that file."
        )
    ensure_erasure_file(name)
    if name not in names:
        PARAMS_FILE.write_text(yaml.safe_dump({"recipes": [*names, name]}, sort_keys=False))
    click.echo(f"{name} is registered. Run it: millrace run {name}")


@main.command(epilog="Example: millrace status support-desk")
@RECIPE_ARGUMENT
@JSON_OPTION
def status(recipe: Any, as_json: bool) -> None:
    """Say which version of RECIPE is in production, and since when."""
    records, manifest = promotion_history(recipe)
    if records or as_json:
        print_result(
            {**records[0], "manifest": manifest} if records else None,
            as_json,
            lambda: terminal.print_status(recipe.name, records[0], manifest),
        )
    else:
        click.echo(
            f"{recipe.name}: nothing is in production yet. `millrace run {recipe.name}` trains and judges a first model."
        )


@main.command(epilog="Example: millrace history support-desk")
@RECIPE_ARGUMENT
@JSON_OPTION
def history(recipe: Any, as_json: bool) -> None:
    """List every move of RECIPE's production version, newest first."""
    records, _ = promotion_history(recipe)
    print_result(records, as_json, lambda: terminal.print_history(recipe.name, records))


@main.command(epilog="Example: millrace explain support-desk")
@RECIPE_ARGUMENT
@JSON_OPTION
def explain(recipe: Any, as_json: bool) -> None:
    """Say of each stage of RECIPE whether it would run and why, and which versions were trained on rows that data/RECIPE/erase.csv lists."""
    from flows import embedded_s3
    from flows.dvc_graph import Pipeline
    from tasks.registry import channel_pointer, manifests
    from tasks.sources import partitions
    from tasks.storage import layout

    ensure_erasure_file(recipe.name)
    pipeline = Pipeline()
    stages = [
        {"stage": stage.name, "why": pipeline.stale_reasons(stage)}
        for stage in pipeline.stages(recipe.name)
    ]
    erased = partitions.read_erased_ids(layout.recipe_folder(recipe.name) / "erase.csv")
    versions: dict[str, int | None] = {}
    pointer = None
    if erased:
        with embedded_s3.open_store() as store:
            versions = manifests.count_training_rows(store, recipe.name, erased)
            pointer = channel_pointer.read_pointer(store, recipe.name, recipe.promote.channel)
    told = {
        "ids": len(erased),
        "in_production": pointer.version if pointer else None,
        "versions": versions,
    }
    print_result(
        {"stages": stages, "erased": told},
        as_json,
        lambda: terminal.print_explanation(recipe.name, stages, told),
    )


@main.command(epilog="Example: millrace reveal letter.txt")
@click.argument("file", type=click.File("r", encoding="utf-8"), default="-")
def reveal(file: TextIO) -> None:
    """Write the text of FILE, or of what is piped in, with the values that `pii: encrypt` encrypted restored.

    MILLRACE_PII_KEY must hold the key with which they were encrypted.
    """
    from tasks.cleaning import pii_encryption

    try:
        text = file.read()
    except UnicodeDecodeError as error:
        raise StageError(
            f"{file.name} is not UTF-8 text (byte {error.start}): a Parquet file has to be exported first, for example to CSV."
        ) from None
    click.echo(pii_encryption.decrypt_text(text), nl=False)


def bypass_proxy_for_loopback() -> None:
    """Keep this process and all that it starts from asking a proxy for what is on this machine, as Prefect and the store may be."""
    lower, upper = os.environ.get("no_proxy"), os.environ.get("NO_PROXY")
    for name, given in (("no_proxy", lower or upper), ("NO_PROXY", upper or lower)):
        hosts = [host.strip() for host in (given or "").split(",") if host.strip()]
        added = [host for host in LOOPBACK_HOSTS if host not in hosts]
        os.environ[name] = ",".join(hosts if hosts == ["*"] else hosts + added)


def check_proxy_variables() -> None:
    """Raise Failure where a variable names a proxy that Prefect's client cannot even open, such as a SOCKS one."""
    import httpx

    try:
        httpx.Client().close()
    except (ImportError, ValueError):
        raise StageError(
            "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names a proxy of a kind that Prefect's client does not speak: "
            "give the address of an HTTP proxy, as http://host:port, or unset the variable for this command."
        ) from None


def start_prefect_server() -> None:
    """Start Prefect's temporary server where no other is configured; the run finds it. Raises Failure where it does not answer in time."""
    import httpx
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_ENABLED

    if PREFECT_API_URL.value() or not PREFECT_SERVER_EPHEMERAL_ENABLED.value():
        return
    from prefect.server.api.server import SubprocessASGIServer

    server = SubprocessASGIServer()
    try:
        server.start()
    except (RuntimeError, httpx.HTTPError):
        ended = server.server_process.poll() if server.server_process else None
        server.stop()
        told = "did not answer in time" if ended is None else f"ended with status {ended}"
        raise StageError(
            f"Prefect's temporary server {told} ({SERVER_START_SECONDS} is {os.environ[SERVER_START_SECONDS]}): "
            "run again when this machine is less busy, set that variable to more seconds, or set PREFECT_API_URL to a server that runs."
        ) from None


def ensure_erasure_file(name: str) -> None:
    """Make the recipe's list of ids to erase, where there is none: DVC needs a file that ingest can depend on."""
    from tasks.storage import files, layout

    path = layout.recipe_folder(name) / "erase.csv"
    if not path.exists():
        files.write_text(path, "id\n")


def promotion_history(recipe: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every move of the recipe's channel, newest first, and the manifest of what is there now."""
    from flows import embedded_s3
    from tasks.registry import journal, manifests

    with embedded_s3.open_store() as store:
        records = journal.read_history(store, recipe.name, recipe.promote.channel)
        return records, manifests.read_manifest(
            store, recipe.name, records[0]["version"]
        ) if records else {}


def print_result(value: Any, as_json: bool, shown: Callable[[], None]) -> None:
    if as_json:
        click.echo(json.dumps(value, indent=2))
    else:
        shown()


if __name__ == "__main__":
    main()
