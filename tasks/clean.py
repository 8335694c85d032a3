"""Clean: apply the recipe's rules in order; count what each changed, and keep what each dropped.

    python -m tasks.clean support-desk

Writes clean/parts/*.parquet, clean/rejects.parquet/, clean/report.json, which names the files that hold the rows, and a page, clean/index.html. Rules that
look at one row at a time, and exact duplicates, are applied to one part of the raw data after the other, so that memory does not grow with the data; a part that is
unchanged since the last run is verified and kept. From the first rule on that needs all rows at once, they are, and clean/rows.parquet holds the result.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, TypeVar

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from daft import col

from tasks import code, drops, engine, files, page, resolve, sealed
from tasks.cleaning import RULES, personal
from tasks.cleaning.rows import Firsts
from tasks.recipe import Recipe
from tasks.step import Failure, main

EXAMPLES = 3
CANDIDATES = 30  # rows among which examples are looked for that differ and may be shown
REJECTS = "rejects.parquet"
T = TypeVar("T")
Named = tuple[str, dict[str, Any]]  # a rule and its arguments
Told = dict[str, Any]  # what a rule did: {rule, changed, rejected, examples}


def clean(name: str) -> None:
    folder = files.folder_of(name)
    run(resolve.read(name), folder / "raw", folder / "clean")


def run(recipe: Recipe, source: Path, target: Path) -> None:
    engine.use(recipe)
    rules = [named(rule, recipe.modality) for rule in recipe.clean.rules if isinstance(rule, dict)]
    names = [name for name, _ in rules]
    cut = next(
        (
            at
            for at, name in enumerate(names)
            if RULES[name].whole or (name == "exact_duplicates" and name in names[:at])
        ),
        len(rules),
    )
    raws = files.read_json(source / "snapshot.json")["partitions"]
    like = pa.unify_schemas([pq.read_schema(source / raw["file"]) for raw in raws]).empty_table()
    made_by = code.fingerprint(__file__, code.NO_RECIPE) + files.digest(
        [rules, sealed.key_id(recipe.clean.rules), like.column_names]
    )
    kinds = frozenset(
        kind for rule, arguments in rules if rule == "pii" for kind in arguments["kinds"]
    )  # a report must not show what the data may not
    stream = Stream(source, target, like, rules[:cut], kinds, made_by)
    parts = [stream.written(part, tables) for part, tables in ahead(stream.cleaned, raws)]
    told = [summed([part["rules"][at] for part in parts]) for at in range(cut)]
    rows_in, rows = (sum(part[key] for part in parts) for key in ("rows_in", "rows"))
    outputs, rejects = (
        [f"parts/{part['file']}" for part in parts],
        [part["file"] for part in parts if REJECTS in part["sha256"]],
    )
    if cut < len(rules) and rows:
        table = files.read_table([target / output for output in outputs]).sort_by("id")
        table, dropped, more = applied(table, rules[cut:], kinds)
        told, rows, outputs = told + more, table.num_rows, ["rows.parquet"]
        files.write_table(target / "rows.parquet", table)
        if dropped:
            files.write_table(target / REJECTS / "rows.parquet", files.united(dropped, like))
            rejects.append("rows.parquet")
    if rows == 0:
        worst = max(told, key=lambda rule: int(rule["rejected"]))
        raise Failure(
            f"clean: no row is left of {rows_in}; {worst['rule']} dropped {worst['rejected']}: see its arguments in the recipe."
        )
    files.complete_parts(target / REJECTS, rejects, like)
    by_rule = sum((Counter({rule["rule"]: rule["rejected"]}) for rule in told), Counter[str]())
    print(drops.line("clean", rows_in, rows, by_rule), flush=True)
    about = {
        "rows_in": rows_in,
        "rows": rows,
        "rejects": sum(rule["rejected"] for rule in told),
        "rules": told,
        "files": outputs,
    }
    files.write_json(target / "report.json", about)
    files.write_text(
        target / "index.html", page.render("cleaning", f"{recipe.name}: clean", **about)
    )
    files.write_json(target / "state.json", {"made_by": made_by, "parts": parts})
    for folder in ("parts", "keys"):
        files.remove_others(
            target / folder, [part["file"] for part in parts if folder in part["sha256"]]
        )
    files.remove_others(target, outputs)
    drops.check("clean", rows_in, by_rule, recipe.max_dropped, target / REJECTS)


def named(rule: dict[str, Any], modality: str) -> Named:
    """A rule of the recipe with its arguments, the modality among them where it asks for it."""
    name, arguments = next(iter(rule.items()))
    return name, {**arguments, "modality": modality} if RULES[name].by_modality else arguments


class Stream:
    """The rules that go through the data part by part, in the order of the parts; of equal rows the first in that order stays.

    Each part has the columns of `like`, those of all parts: what a part lacks is null in it.
    """

    def __init__(
        self,
        source: Path,
        target: Path,
        like: pa.Table,
        rules: list[Named],
        kinds: frozenset[str],
        made_by: str,
    ) -> None:
        self.source, self.target, self.like, self.kinds, self.firsts = (
            source,
            target,
            like,
            kinds,
            Firsts(),
        )
        self.rules = [
            (
                name,
                {**arguments, "firsts": self.firsts} if name == "exact_duplicates" else arguments,
            )
            for name, arguments in rules
        ]
        before = files.read_json(target / "state.json") if (target / "state.json").is_file() else {}
        self.before = (
            {part["raw"]: part for part in before.get("parts", [])}
            if before.get("made_by") == made_by
            else {}
        )
        self.expected, self.unmoved = (
            iter(self.before),
            True,
        )  # unmoved: all parts so far are those of the earlier run, in its order

    def kept(self, raw: dict[str, Any]) -> dict[str, Any] | None:
        """The record of a part that an earlier run cleaned, if its bytes verify and cleaning it now would give the same."""
        self.unmoved = next(self.expected, None) == raw["sha256"] and self.unmoved
        part: dict[str, Any] = self.before.get(raw["sha256"], {})
        paths = {
            self.target / folder / raw["file"]: digest
            for folder, digest in part.get("sha256", {}).items()
        }
        if part.get("file") != raw["file"] or not all(
            path.is_file() and files.sha256(path) == digest for path, digest in paths.items()
        ):
            return None
        if "keys" in part["sha256"]:
            known = files.read_table(self.target / "keys" / raw["file"])
            if not self.unmoved and (part["crossed"] or self.firsts.hold(known)):
                return None
            self.firsts.note(known)
        return part

    def cleaned(self, raw: dict[str, Any]) -> tuple[dict[str, Any], dict[str, pa.Table]]:
        """The record of a part, and what is to be written for it by folder: nothing if it was kept."""
        if part := self.kept(raw):
            return part, {}
        before = files.read_table(self.source / raw["file"])
        if before.column_names != self.like.column_names:
            before = pa.concat_tables(
                [self.like, before], promote_options="default"
            ).combine_chunks()
        table, dropped, told = applied(before, self.rules, self.kinds)
        tables = {
            "parts": table,
            "keys": self.firsts.latest,
            REJECTS: files.united(dropped, before) if dropped else None,
        }
        part = {
            "raw": raw["sha256"],
            "file": raw["file"],
            "rows_in": before.num_rows,
            "rows": table.num_rows,
            "crossed": self.firsts.crossed,
            "rules": told,
        }
        return part, {folder: content for folder, content in tables.items() if content is not None}

    def written(self, part: dict[str, Any], tables: dict[str, pa.Table]) -> dict[str, Any]:
        for folder, table in tables.items():
            files.write_table(self.target / folder / part["file"], table)
        return {
            "sha256": {
                folder: files.sha256(self.target / folder / part["file"]) for folder in tables
            },
            **part,
        }


def ahead(function: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
    """The function's results, of which the next is made while one is used."""
    with ThreadPoolExecutor(1) as pool:
        made: list[Future[T]] = []
        for item in items:
            made.append(pool.submit(function, item))
            if len(made) > 1:
                yield made.pop(0).result()
        yield from (last.result() for last in made)


def applied(
    table: pa.Table, rules: list[Named], kinds: frozenset[str]
) -> tuple[pa.Table, list[pa.Table], list[Told]]:
    """The table after the rules, the rows that they dropped, and what each did."""
    dropped: list[pa.Table] = []
    told: list[Told] = []
    for texts, group in groupby(rules, key=lambda rule: RULES[rule[0]].texts):
        if texts:
            table, more = transformed(table, list(group), kinds)
            told += more
            continue
        for rule, arguments in group:
            made = RULES[rule].apply(table, **arguments)
            after, reasons = (
                made
                if isinstance(made, tuple)
                else (made, None)
                if isinstance(made, pa.Table)
                else (table, made)
            )
            why = (
                pa.nulls(table.num_rows, pa.string())
                if reasons is None
                else pa.array(reasons, pa.string())
            )
            # a row that goes is kept as it was before the rule, but for what must be kept nowhere
            out = files.rejects(
                (after if rule == "pii" else table).filter(why.is_valid()),
                "clean",
                rule,
                why.drop_null(),
            )
            dropped += [out] if out.num_rows else []
            before, left = table.filter(why.is_null()), after.filter(why.is_null())
            changed, examples = (
                (0, []) if after is table else differences(before, left, left, kinds)
            )
            examples += personal.safe(
                out.slice(0, EXAMPLES).select(["id", "detail"]).to_pylist(), kinds, EXAMPLES
            )
            told.append(
                {"rule": rule, "changed": changed, "rejected": out.num_rows, "examples": examples}
            )
            table = left
    return table, dropped, told


def transformed(
    table: pa.Table, rules: list[Named], kinds: frozenset[str]
) -> tuple[pa.Table, list[Told]]:
    """The table after rules for texts, as one Daft plan, and for each rule how many texts it changed, with examples."""
    steps = ["text", *(f"text {number}" for number in range(len(rules)))]
    plan = daft.from_arrow(table.select(["id", "text"]))
    for (before, after), (rule, arguments) in zip(pairwise(steps), rules, strict=True):
        plan = plan.with_column(after, RULES[rule].apply(col(before), **arguments))
    done = plan.to_arrow().cast(pa.schema([(name, pa.string()) for name in ("id", *steps)]))
    if not done["id"].equals(table["id"]):  # a cluster may give its parts in another order
        done, table = done.sort_by("id"), table.sort_by("id")
    texts = [pa.table({"id": done["id"], "text": done[step]}) for step in steps]
    found = [differences(before, after, texts[-1], kinds) for before, after in pairwise(texts)]
    told = [
        {"rule": rule, "changed": changed, "rejected": 0, "examples": examples}
        for (rule, _), (changed, examples) in zip(rules, found, strict=True)
    ]
    return table.set_column(table.column_names.index("text"), "text", texts[-1]["text"]), told


def differences(
    before: pa.Table, after: pa.Table, last: pa.Table, kinds: frozenset[str]
) -> tuple[int, list[dict[str, Any]]]:
    """How many rows differ, and for each column the first cells that do; `last` is what the rules that follow leave."""
    touched, examples = np.zeros(before.num_rows, bool), []
    for name in (
        before.column_names if before.num_rows else []
    ):  # Arrow crashes where it looks for what differs in columns without chunks
        old, new = (
            (before[name], after[name])
            if before[name].type == after[name].type
            else (before[name].cast(pa.string()), after[name].cast(pa.string()))
        )
        differs = pc.or_(
            pc.fill_null(pc.not_equal(old, new), False), pc.xor(pc.is_null(old), pc.is_null(new))
        )
        touched |= differs.to_numpy()
        few = pa.array(differs.to_numpy() & (np.cumsum(differs) <= CANDIDATES))
        cells = pa.table(
            {"id": before["id"], "before": old, "after": new, "last": last[name]}
        ).filter(few)
        found = cells.cast(
            pa.schema([(key, pa.string()) for key in cells.column_names])
        ).to_pylist()
        examples += personal.safe([{**cell, "column": name} for cell in found], kinds, EXAMPLES)
    return int(touched.sum()), examples


def summed(told: list[Told]) -> Told:
    """What a rule did to all parts."""
    counts = {key: sum(one[key] for one in told) for key in ("changed", "rejected")}
    return {
        "rule": told[0]["rule"],
        **counts,
        "examples": [example for one in told for example in one["examples"]][:EXAMPLES],
    }


if __name__ == "__main__":
    main(clean)
