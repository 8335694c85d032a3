"""What people see at the terminal: tables of a run, of what is in production, and of the moves before it."""

import sys
from typing import Any

STATE_COLOURS = {
    "ran": "green",
    "restored": "cyan",
    "cached": "dim",
    "failed": "red",
    "pass": "green",
    "open": "yellow",
    "fail": "red",
    "none": "dim",
}


def print_table(title: str, heads: list[str], rows: list[list[str]]) -> None:
    """Print a table; on something that is no terminal without colour and as wide as it has to be."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    made = Table(
        *heads,
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for row in rows:
        made.add_row(
            *(
                f"[{STATE_COLOURS[cell]}]{cell}[/]" if cell in STATE_COLOURS else escape(cell)
                for cell in row
            )
        )
    console.print(made)


def print_run(record: dict[str, Any]) -> None:
    """The stages of a run record, and what each rule of the gate said."""
    if record["stages"]:
        stages = [
            [one["stage"], one["state"], f"{one['seconds']:.1f}", format_reasons(one["why"])]
            for one in record["stages"]
        ]
        print_table("Stages", ["stage", "state", "seconds", "because"], stages)
    if record.get("checks"):
        order = ["fail", "open", "pass", "none"]
        checks = sorted(record["checks"], key=lambda check: order.index(check["outcome"]))
        rules = [
            [
                check.get("name") or check["rule"],
                check.get("metric") or "",
                check["outcome"],
                check["reason"],
            ]
            for check in checks
        ]
        print_table(f"Gate: {record['verdict']}", ["rule", "metric", "outcome", "reason"], rules)
    if record.get("changed"):
        rows = [
            [name.replace("_", " "), str(one["rows"]), ", ".join(one["such_as"])]
            for name, one in record["changed"].items()
        ]
        print_table(
            f"Rows answered otherwise than by {record['champion']}", ["", "rows", "such as"], rows
        )


def format_actor(move: dict[str, Any]) -> str:
    return f"{move['actor']}{', overriding the gate' if move.get('override') else ''}"


def format_reasons(why: list[str]) -> str:
    return "; ".join(why[:2]) + (f"; and {len(why) - 2} more" if len(why) > 2 else "")


def print_status(recipe: str, now: dict[str, Any], manifest: dict[str, Any]) -> None:
    """What is in production, how good it was, and from which bytes it was made."""
    print_table(
        f"{recipe} in {now['channel']}",
        ["version", "since", "generation", "by", "because", "instead of"],
        [
            [
                now["version"],
                now["time"],
                str(now["generation"]),
                format_actor(now),
                now["reason"],
                now["previous"] or "nothing",
            ]
        ],
    )
    metrics = [
        [name, f"{one['value']:.4f}", f"{one['low']:.4f} to {one['high']:.4f}"]
        for name, one in sorted(manifest["metrics"].items())
    ]
    print_table(
        "Metrics of the exported model on the test split",
        ["metric", "value", "95 % interval"],
        metrics,
    )
    outputs = [
        [path, digest or "in git", stage]
        for stage, about in manifest["lineage"].items()
        for path, digest in about["outs"].items()
        if digest
    ]
    print_table("Made from", ["output", "md5 in the DVC cache", "stage"], outputs)


def print_explanation(recipe: str, stages: list[dict[str, Any]], erased: dict[str, Any]) -> None:
    """Which stages would run, and which versions know rows that are to be erased."""
    rows, stale = [], ""
    for one in stages:
        said = "would run" if one["why"] else "may run" if stale else "up to date"
        rows.append(
            [
                one["stage"],
                said,
                format_reasons(one["why"]) or (f"if {stale} gives something new" if stale else ""),
            ]
        )
        stale = one["stage"] if one["why"] else stale
    print_table(f"What a run of {recipe} would do", ["stage", "state", "because"], rows)
    if erased["ids"]:
        heads, rows = ["version", "erased rows it was trained on", ""], []
        for version, count in erased["versions"].items():
            said = (
                "does not say on which rows it was trained"
                if count is None
                else f"{count} of {erased['ids']}"
            )
            rows.append(
                [version, said, "in production" if version == erased["in_production"] else ""]
            )
        print_table("Erased rows", heads, rows or [["no version yet", "", ""]])


def print_history(recipe: str, records: list[dict[str, Any]]) -> None:
    rows = [
        [
            str(one["generation"]),
            one["time"],
            one["version"],
            one["previous"] or "nothing",
            format_actor(one),
            one["reason"],
        ]
        for one in records
    ]
    print_table(
        f"Every move of {recipe}, newest first",
        ["generation", "time", "version", "instead of", "by", "because"],
        rows,
    )
