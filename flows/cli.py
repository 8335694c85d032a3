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
from tasks.core.errors import EXIT_FAILED, Failure, Mistake

STATUS = {"Promoted": 0, "Unchanged": 0, "Rejected": 3, "Inconclusive": 4, "Superseded": 5}
START_SECONDS = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
PREFECT = {
    "PREFECT_HOME": str(Path(".millrace/prefect").absolute()),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    START_SECONDS: "120",  # the first start makes the database, which takes longer than the default of 20 s
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def loaded(context: click.Context, parameter: click.Parameter, name: str) -> Any:
    """The registered recipe of that name, checked."""
    from tasks.recipe.loading import load

    return load(name)


RECIPE = click.argument("recipe", callback=loaded)
JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")


class Group(click.Group):
    """Commands whose failures end with one sentence and the right exit status."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except Failure as failure:
            click.echo(f"error: {failure}", err=True)
            sys.exit(failure.exit_status if failure.exit_status != 75 else EXIT_FAILED)


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: millrace run support-desk",
)
def main() -> None:
    """Retrains, judges, promotes and serves models."""
    bypass_proxy()


@main.command(epilog="Example: millrace run digits")
@RECIPE
def run(recipe: Any) -> None:
    """Retrain RECIPE here and now; promote the result where the gate allows.

    Exit status: 0 promoted or unchanged, 3 rejected, 4 inconclusive, 5 superseded, 2 a mistake in the call or recipe, 1 any other failure.
    """
    retrained(recipe.name)


@main.command(
    epilog='Example: millrace promote digits --override --actor ann --reason "the test rows of May are mislabelled"'
)
@RECIPE
@click.option("--override", is_flag=True, help="Although the gate rejected it or left it open.")
@click.option("--actor", default="", help="Who decides that.")
@click.option("--reason", default="", help="Why.")
def promote(recipe: Any, override: bool, actor: str, reason: str) -> None:
    """Promote the model of RECIPE that lies in this workspace, whatever the gate said of it.

    Who and why is part of the evidence, the journal, `millrace status` and `millrace history`. A model whose files are not those that were judged is refused.
    """
    if not (override and actor.strip() and reason.strip()):
        raise Mistake(
            f"`millrace run {recipe.name}` promotes what the gate allows; to promote what it does not, add --override, --actor NAME (who decides) "
            "and --reason TEXT (why), all of which are recorded."
        )
    retrained(recipe.name, {"actor": actor.strip(), "reason": reason.strip()})


def retrained(recipe: str, override: dict[str, str] | None = None) -> NoReturn:
    """Run the flow here and now, show what it did, and end with its status."""
    from flows import stage_process

    with_erasures(recipe)
    Path(PREFECT["PREFECT_HOME"]).mkdir(
        parents=True, exist_ok=True
    )  # Prefect does not make it, and waits in vain for a database there
    os.environ.update(
        {**PREFECT, **os.environ, **stage_process.mark()}
    )  # marked, as Prefect's own server does not end with a run that is killed
    from flows.retrain import RUNS, retrain

    check_proxy()
    # DVC takes seconds to import: it does so while Prefect's server starts
    threading.Thread(target=importlib.import_module, args=("dvc.repo",), daemon=True).start()
    start_prefect()
    state = retrain(recipe, override, return_state=True)
    record = RUNS / f"{state.state_details.flow_run_id}.json"
    if record.is_file():
        terminal.run(json.loads(record.read_text()))
    logging.getLogger("prefect").setLevel(logging.WARNING)  # so that how it ended is the last line
    click.echo(f"{state.name}: {state.message}")
    sys.exit(STATUS.get(str(state.name), EXIT_FAILED))


@main.group(epilog="Example: millrace recipe list")
def recipe() -> None:
    """Check, list and register recipes."""


@recipe.command(epilog="Example: millrace recipe check digits")
@click.argument("name", callback=loaded)
def check(name: Any) -> None:
    """Check the recipe NAME and say every mistake at once."""
    click.echo(f"{name.name}: no mistakes.")


@recipe.command("list", epilog="Example: millrace recipe list --json")
@JSON
def list_(as_json: bool) -> None:
    """List the registered recipes."""
    from tasks.recipe.loading import load, registered

    rows = [
        {"name": one.name, "modality": one.modality, "source": one.ingest.kind}
        for one in map(load, registered())
    ]
    tell(
        rows,
        as_json,
        lambda: terminal.table(
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
    from tasks.recipe.loading import PARAMS, RECIPES, read, registered

    name, names = read(path).name, registered()
    target = RECIPES / f"{name}.yaml"
    if not target.exists():
        shutil.copyfile(path, target)
    elif target.resolve() != path.resolve():
        raise Failure(f"{target} exists already: give your recipe another name, or edit that file.")
    with_erasures(name)
    if name not in names:
        PARAMS.write_text(yaml.safe_dump({"recipes": [*names, name]}, sort_keys=False))
    click.echo(f"{name} is registered. Run it: millrace run {name}")


@main.command(epilog="Example: millrace status support-desk")
@RECIPE
@JSON
def status(recipe: Any, as_json: bool) -> None:
    """Say which version of RECIPE is in production, and since when."""
    records, manifest = moves(recipe)
    if records or as_json:
        tell(
            {**records[0], "manifest": manifest} if records else None,
            as_json,
            lambda: terminal.status(recipe.name, records[0], manifest),
        )
    else:
        click.echo(
            f"{recipe.name}: nothing is in production yet. `millrace run {recipe.name}` trains and judges a first model."
        )


@main.command(epilog="Example: millrace history support-desk")
@RECIPE
@JSON
def history(recipe: Any, as_json: bool) -> None:
    """List every move of RECIPE's production version, newest first."""
    records, _ = moves(recipe)
    tell(records, as_json, lambda: terminal.history(recipe.name, records))


@main.command(epilog="Example: millrace explain support-desk")
@RECIPE
@JSON
def explain(recipe: Any, as_json: bool) -> None:
    """Say of each stage of RECIPE whether it would run and why, and which versions were trained on rows that data/RECIPE/erase.csv lists."""
    from flows import embedded_s3
    from flows.dvc_graph import Pipeline
    from tasks.registry import channel_pointer, manifests
    from tasks.sources import partitions
    from tasks.storage import layout

    with_erasures(recipe.name)
    pipeline = Pipeline()
    stages = [
        {"stage": stage.name, "why": pipeline.why(stage)} for stage in pipeline.stages(recipe.name)
    ]
    erased = partitions.erasures(layout.folder_of(recipe.name) / "erase.csv")
    versions: dict[str, int | None] = {}
    pointer = None
    if erased:
        with embedded_s3.opened() as store:
            versions = manifests.trained_on(store, recipe.name, erased)
            pointer = channel_pointer.read(store, recipe.name, recipe.promote.channel)
    told = {
        "ids": len(erased),
        "in_production": pointer.version if pointer else None,
        "versions": versions,
    }
    tell(
        {"stages": stages, "erased": told},
        as_json,
        lambda: terminal.explained(recipe.name, stages, told),
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
        raise Failure(
            f"{file.name} is not UTF-8 text (byte {error.start}): a Parquet file has to be exported first, for example to CSV."
        ) from None
    click.echo(pii_encryption.revealed(text), nl=False)


def bypass_proxy() -> None:
    """Keep this process and all that it starts from asking a proxy for what is on this machine, as Prefect and the store may be."""
    lower, upper = os.environ.get("no_proxy"), os.environ.get("NO_PROXY")
    for name, given in (("no_proxy", lower or upper), ("NO_PROXY", upper or lower)):
        hosts = [host.strip() for host in (given or "").split(",") if host.strip()]
        added = [host for host in LOOPBACK if host not in hosts]
        os.environ[name] = ",".join(hosts if hosts == ["*"] else hosts + added)


def check_proxy() -> None:
    """Raise Failure where a variable names a proxy that Prefect's client cannot even open, such as a SOCKS one."""
    import httpx

    try:
        httpx.Client().close()
    except (ImportError, ValueError):
        raise Failure(
            "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names a proxy of a kind that Prefect's client does not speak: "
            "give the address of an HTTP proxy, as http://host:port, or unset the variable for this command."
        ) from None


def start_prefect() -> None:
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
        raise Failure(
            f"Prefect's temporary server {told} ({START_SECONDS} is {os.environ[START_SECONDS]}): "
            "run again when this machine is less busy, set that variable to more seconds, or set PREFECT_API_URL to a server that runs."
        ) from None


def with_erasures(name: str) -> None:
    """Make the recipe's list of ids to erase, where there is none: DVC needs a file that ingest can depend on."""
    from tasks.storage import files, layout

    path = layout.folder_of(name) / "erase.csv"
    if not path.exists():
        files.write_text(path, "id\n")


def moves(recipe: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every move of the recipe's channel, newest first, and the manifest of what is there now."""
    from flows import embedded_s3
    from tasks.registry import journal, manifests

    with embedded_s3.opened() as store:
        records = journal.history(store, recipe.name, recipe.promote.channel)
        return records, manifests.read_manifest(
            store, recipe.name, records[0]["version"]
        ) if records else {}


def tell(value: Any, as_json: bool, shown: Callable[[], None]) -> None:
    if as_json:
        click.echo(json.dumps(value, indent=2))
    else:
        shown()


if __name__ == "__main__":
    main()
