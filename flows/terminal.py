"""What people see at the terminal: tables of a run, of a version and of the promotions."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # imported by whoever makes them; help must come at once
    from flows.explanation import ErasureReport, StageExplanation
    from tasks.contracts.channel_pointer import ChannelPointer
    from tasks.contracts.evidence import Evidence
    from tasks.contracts.gate_verdict import Disagreements, GateVerdict
    from tasks.contracts.manifest import Manifest
    from tasks.contracts.provenance import Provenance
    from tasks.contracts.run_record import RunRecord, StageEntry
    from tasks.registry.journal import History
    from tasks.registry.verification import Check

WIDTH = 200  # on something that is no terminal
MAX_REASONS = 2
HASH_DIGITS = 12
STATE_COLOURS = {
    "ran": "green",
    "restored": "cyan",
    "cached": "dim",
    "failed": "red",
    "pass": "green",
    "inconclusive": "yellow",
    "fail": "red",
    "skipped": "dim",
}
RULE_OUTCOMES = ("fail", "inconclusive", "pass", "skipped")  # in the order of the table


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; without colour, and as wide as it has to be, if there is no terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    table = Table(
        *columns,
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for row in rows:
        table.add_row(*(format_cell(cell) for cell in row))
    console.print(table)


def format_cell(cell: str) -> str:
    """Return a cell in the colour of the state that it names; brackets in it are text."""
    from rich.markup import escape

    colour = STATE_COLOURS.get(cell)
    return f"[{colour}]{cell}[/]" if colour else escape(cell)


def print_run(record: "RunRecord") -> None:
    """Print the stages of a run, and what each rule of the gate came to."""
    if record.stages:
        rows = [format_stage(entry) for entry in record.stages]
        print_table("Stages", ["stage", "state", "seconds", "reason"], rows)
    if record.evidence:
        print_gate(record.evidence)


def format_stage(entry: "StageEntry") -> list[str]:
    """Return the row of a stage."""
    return [entry.stage, entry.state, f"{entry.seconds:.1f}", format_reasons(entry.reasons)]


def print_gate(evidence: "Evidence") -> None:
    """Print what the gate decided, and where model and champion disagree."""
    print_rules(evidence.gate)
    if evidence.gate.disagreements:
        print_disagreements(evidence.gate.disagreements)


def print_rules(verdict: "GateVerdict") -> None:
    """Print what each rule of the gate came to, what speaks against the model first."""
    ordered = sorted(verdict.checks, key=lambda result: RULE_OUTCOMES.index(result.outcome))
    rows = [
        [result.name or result.rule, result.metric or "", result.outcome, result.reason]
        for result in ordered
    ]
    print_table(f"Gate: {verdict.verdict}", ["rule", "metric", "outcome", "reason"], rows)


def print_disagreements(disagreements: "Disagreements") -> None:
    """Print on how many rows model and champion disagree, with examples."""
    groups = {
        "only model right": disagreements.only_model_right,
        "only champion right": disagreements.only_champion_right,
    }
    rows = [[name, str(group.rows), ", ".join(group.examples)] for name, group in groups.items()]
    print_table("Rows where model and champion disagree", ["", "rows", "examples"], rows)


def format_actor(pointer: "ChannelPointer") -> str:
    """Return who promoted a version."""
    return f"{pointer.actor}, overriding the gate" if pointer.override else pointer.actor


def format_reasons(reasons: Sequence[str]) -> str:
    """Return the first reasons, and how many more there are."""
    text = "; ".join(reasons[:MAX_REASONS])
    n_more = len(reasons) - MAX_REASONS
    return f"{text}; and {n_more} more" if n_more > 0 else text


def print_status(
    pointer: "ChannelPointer", manifest: "Manifest | None", provenance: "Provenance | None"
) -> None:
    """Print what is in production, how good it was, and from which data it was made."""
    print_table(
        f"{pointer.model} in {pointer.channel}{', frozen' if pointer.frozen else ''}",
        ["version", "since", "generation", "actor", "reason", "previous"],
        [
            [
                pointer.version,
                pointer.time,
                str(pointer.generation),
                format_actor(pointer),
                pointer.reason,
                pointer.previous or "nothing",
            ]
        ],
    )
    if manifest:
        print_metrics(manifest)
    if provenance:
        print_lineage(provenance)


def print_metrics(manifest: "Manifest") -> None:
    """Print how good a version is."""
    rows = [
        [name, f"{metric.value:.4f}", f"{metric.low:.4f} to {metric.high:.4f}"]
        for name, metric in sorted(manifest.metrics.items())
    ]
    print_table(
        "Metrics of the exported model on the test split",
        ["metric", "value", "95 % interval"],
        rows,
    )


def print_all_status(channels: "Mapping[str, str]", histories: "Mapping[str, History]") -> None:
    """Print what is in production for each recipe."""
    rows = []
    for name, history in histories.items():
        if history.current:
            record = history.current.record
            state = "frozen" if record.frozen else ""
            cells = [record.version, record.time, str(record.generation), format_actor(record)]
        else:
            state = "see below" if history.faults else "nothing yet"
            cells = ["", "", "", ""]
        rows.append([name, channels[name], *cells, state])
    columns = ["recipe", "channel", "version", "since", "generation", "actor", ""]
    print_table("In production", columns, rows)


def print_checks(recipe: str, checks: "Sequence[Check]") -> None:
    """Print what was verified of a model, and what is not believed."""
    rows = []
    for check in checks:
        outcome = "fail" if check.fault else "pass"
        rows.append([check.name, outcome, check.fault])
    columns = ["object", "outcome", "fault"]
    print_table(f"What the store holds for {recipe}: {len(rows)} objects", columns, rows)


def print_faults(faults: Sequence[str]) -> None:
    """Print what cannot be believed, on the error stream."""
    for fault in faults:
        click.echo(f"warning: {fault}", err=True)


def print_lineage(provenance: "Provenance") -> None:
    """Print where the outputs of the stages lie in DVC's cache."""
    rows: list[list[str]] = []
    for address, stage in provenance.stages.items():
        rows += [[path, md5, address] for path, md5 in stage.outs.items() if md5]
    print_table("Lineage", ["output", "md5 in the DVC cache", "stage"], rows)


def print_explanation(
    recipe: str, stages: "Sequence[StageExplanation]", erasure: "ErasureReport"
) -> None:
    """Print which stages would run, and which versions were trained on rows to be erased."""
    rows = [[stage.stage, stage.state, format_reasons(stage.reasons)] for stage in stages]
    print_table(f"What a run of {recipe} would do", ["stage", "state", "reason"], rows)
    if erasure.ids:
        print_erasure(erasure)


def print_erasure(erasure: "ErasureReport") -> None:
    """Print which versions were trained on rows to be erased."""
    rows = []
    for version, count in erasure.versions.items():
        known = f"{count} of {erasure.ids}"
        rows.append(
            [
                version,
                "does not say on which rows it was trained" if count is None else known,
                "in production" if version == erasure.in_production else "",
            ]
        )
    columns = ["version", "erased rows that it knows", ""]
    print_table("Erased rows", columns, rows or [["no version yet", "", ""]])


def print_history(
    recipe: str, records: "Sequence[ChannelPointer]", data: "Mapping[str, str | None]"
) -> None:
    """Print every move of a channel, newest first.

    Args:
        recipe: The recipe's name.
        records: The moves.
        data: The hash of the data that each version was made from.
    """
    rows = [
        [
            str(record.generation),
            record.time,
            record.action,
            record.version,
            record.previous or "nothing",
            (data[record.version] or "unknown")[:HASH_DIGITS],
            format_actor(record),
            record.reason,
        ]
        for record in records
    ]
    print_table(
        f"History of {recipe}, newest first",
        ["generation", "time", "action", "version", "previous", "data", "actor", "reason"],
        rows,
    )
