"""Clean: apply the recipe's rules in order; count what each changed, and keep what each dropped.

    python -m tasks.clean support-desk

Writes clean/parts/*.parquet, clean/rejects.parquet/, clean/report.json, which names the files that hold the rows, and a page, clean/index.html. Rules that
look at one row at a time, and exact duplicates, are applied to one part of the raw data after the other, so that memory does not grow with the data; a part that is
unchanged since the last run is verified and kept. From the first rule on that needs all rows at once, they are, and clean/rows.parquet holds the result.
"""

from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from daft import col

from tasks import duplicates, engine, files, page, resolve, sealed
from tasks.cleaning import RULES, personal
from tasks.recipe import Recipe
from tasks.seen import Seen, keys
from tasks.step import Failure, main

EXAMPLES = 3
CANDIDATES = 30  # rows among which examples are looked for that differ and may be shown
REJECTS = "rejects.parquet"
Named = tuple[str, dict[str, Any]]  # a rule and its arguments
Told = dict[str, Any]  # what a rule did: {rule, changed, rejected, examples}
Begun = tuple[pa.Table, tuple[pa.Table, list[pa.Table], list[Told]]]


def clean(name: str) -> None:
    folder = files.folder_of(name)
    run(resolve.read(name), folder / "raw", folder / "clean")


def run(recipe: Recipe, source: Path, target: Path) -> None:
    engine.use(recipe)
    rules = [next(iter(rule.items())) for rule in recipe.clean.rules if isinstance(rule, dict)]
    cut = next((at for at, (name, _) in enumerate(rules) if RULES[name].whole and (name != "exact_duplicates" or rules[:at].count((name, {})))), len(rules))
    raws = files.read_json(source / "snapshot.json")["partitions"]
    like = pa.unify_schemas([pq.read_schema(source / raw["file"]) for raw in raws]).empty_table()
    code = files.code("clean.py", "cleaning/*.py", "duplicates.py", "sealed.py", "seen.py")
    made_by = code + files.digest([rules, sealed.key_id(recipe.clean.rules), like.column_names])
    if (target / REJECTS).is_file():  # as it was written before it became a folder
        (target / REJECTS).unlink()
    kinds = frozenset(kind for rule, arguments in rules if rule == "pii" for kind in arguments["kinds"])  # a report must not show what the data may not
    stream = Stream(source, target, like, rules[:cut], kinds, made_by)
    with ThreadPoolExecutor(1) as pool:
        parts = stream.parts(raws, pool)
    told = [summed([part["rules"][at] for part in parts]) for at in range(cut)]
    rows_in, rows = (sum(part[key] for part in parts) for key in ("rows_in", "rows"))
    outputs, rejects = [f"parts/{part['file']}" for part in parts], [part["file"] for part in parts if part["rejects"]]
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
        raise Failure(f"clean: no row is left of {rows_in}; {worst['rule']} dropped {worst['rejected']}: see its arguments in the recipe.")
    files.complete_parts(target / REJECTS, rejects, like)
    about = {"rows_in": rows_in, "rows": rows, "rejects": sum(rule["rejected"] for rule in told), "rules": told, "files": outputs}
    files.write_json(target / "report.json", about)
    files.write_text(target / "index.html", page.cleaning(f"{recipe.name}: clean", about))
    files.write_json(target / "state.json", {"made_by": made_by, "parts": parts})
    for place in ("parts", "keys"):
        files.remove_others(target / place, [part["file"] for part in parts if place == "parts" or part["keys_sha256"]])
    files.remove_others(target, outputs)


class Stream:
    """The rules that go through the data part by part, in the order of the parts; of equal rows the first in that order stays.

    Each part has the columns of `like`, those of all parts: what a part lacks is null in it.
    """

    def __init__(self, source: Path, target: Path, like: pa.Table, rules: list[Named], kinds: frozenset[str], made_by: str) -> None:
        self.source, self.target, self.like, self.rules, self.kinds = source, target, like, rules, kinds
        self.at = next((at for at, (name, _) in enumerate(rules) if name == "exact_duplicates"), len(rules))
        before = files.read_json(target / "state.json") if (target / "state.json").is_file() else {}
        self.before = {part["raw"]: part for part in before.get("parts", [])} if before.get("made_by") == made_by else {}
        self.expected, self.unmoved = iter(self.before), True  # unmoved: all parts so far are those of the earlier run, in its order
        self.seen, self.ids = Seen(), list[pa.Array]()

    def parts(self, raws: list[dict[str, Any]], pool: ThreadPoolExecutor) -> list[dict[str, Any]]:
        """The records of all parts. While one is written, the rules that need no other part are applied to the next, if it is new."""
        done: list[dict[str, Any]] = []
        ahead: Future[Begun] | None = None
        for raw, following in zip(raws, [*raws[1:], None], strict=True):
            begun, ahead = ahead, pool.submit(self.begun, following) if following and following["sha256"] not in self.before else None
            done.append(self.kept(raw) or self.cleaned(raw, begun.result() if begun else self.begun(raw)))
        return done

    def begun(self, raw: dict[str, Any]) -> Begun:
        """A part as it came, and after the rules before the duplicates'."""
        table = files.read_table(self.source / raw["file"])
        if table.column_names != self.like.column_names:
            table = pa.concat_tables([self.like, table], promote_options="default").combine_chunks()
        return table, applied(table, self.rules[: self.at], self.kinds)

    def kept(self, raw: dict[str, Any]) -> dict[str, Any] | None:
        """The record of a part that an earlier run cleaned, if its bytes verify and cleaning it now would give the same."""
        self.unmoved = next(self.expected, None) == raw["sha256"] and self.unmoved
        part = self.before.get(raw["sha256"])
        if part is None or part["file"] != raw["file"] or not self.verified(part):
            return None
        if part["keys_sha256"]:
            table = files.read_table(self.target / "keys" / part["file"])
            found = (table["high"].to_numpy(), table["low"].to_numpy())
            if not self.unmoved and (part["crossed"] or self.seen.holds(found).any()):
                return None
            self.seen.note(found)
            self.ids.append(table["id"].combine_chunks())
        return dict(part)

    def verified(self, part: dict[str, Any]) -> bool:
        named = {"parts": part["sha256"], REJECTS: part["rejects_sha256"], "keys": part["keys_sha256"]}
        return all(
            digest is None or ((self.target / folder / part["file"]).is_file() and files.sha256(self.target / folder / part["file"]) == digest)
            for folder, digest in named.items()
        )

    def cleaned(self, raw: dict[str, Any], begun: Begun) -> dict[str, Any]:
        """Clean a part to the end and write it; returns its record."""
        file, crossed, hashed = raw["file"], 0, None
        before, (table, dropped, told) = begun
        if self.at < len(self.rules):
            start = self.seen.size
            found = keys(table, duplicates.content_columns(table))
            first = self.seen.first(found)
            self.ids.append(table["id"].combine_chunks())
            again = first != start + np.arange(table.num_rows)
            crossed = int((first < start).sum())
            hashed = pa.table({"id": table["id"], "high": found[0], "low": found[1]})
            reasons = pa.array([f"same as {self.id_of(row)}" for row in first[again]], pa.string())
            table, out, one = filtered(table, "exact_duplicates", pa.array(again), reasons, self.kinds)
            more = applied(table, self.rules[self.at + 1 :], self.kinds)
            table, dropped, told = more[0], [*dropped, *([out] if out.num_rows else []), *more[1]], [*told, one, *more[2]]
        files.write_table(self.target / "parts" / file, table)
        rejects = files.united(dropped, before) if dropped else None
        for folder, content in ((REJECTS, rejects), ("keys", hashed)):
            if content is not None:
                files.write_table(self.target / folder / file, content)
        return {
            "raw": raw["sha256"],
            "file": file,
            "sha256": files.sha256(self.target / "parts" / file),
            "rejects_sha256": files.sha256(self.target / REJECTS / file) if rejects is not None else None,
            "keys_sha256": files.sha256(self.target / "keys" / file) if hashed is not None else None,
            "rows_in": before.num_rows,
            "rows": table.num_rows,
            "rejects": rejects.num_rows if rejects is not None else 0,
            "crossed": crossed,
            "rules": told,
        }

    def id_of(self, row: int) -> str:
        """The id of a row by its number among those that came to the duplicates' rule."""
        for ids in self.ids:
            if row < len(ids):
                return str(ids[row])
            row -= len(ids)
        raise IndexError(row)


def applied(table: pa.Table, rules: list[Named], kinds: frozenset[str]) -> tuple[pa.Table, list[pa.Table], list[Told]]:
    """The table after the rules, the rows that they dropped, and what each did."""
    dropped: list[pa.Table] = []
    told: list[Told] = []
    for kind, group in groupby(rules, key=lambda rule: RULES[rule[0]].kind):
        if kind == "text":
            table, counted = transformed(table, list(group), kinds)
            told += counted
            continue
        for rule, arguments in group:
            result = RULES[rule].apply(table, **arguments)
            changed, reasons = (table, result) if kind == "filter" else result if isinstance(result, tuple) else (result, None)
            gone = pa.array([False] * table.num_rows, pa.bool_())
            if reasons is not None:
                why = pa.array(reasons, pa.string())
                gone = pc.is_valid(why)
                # a row that goes is kept as it was before the rule, but for what must be kept nowhere
                _, out, one = filtered(changed if rule == "pii" else table, rule, gone, why.drop_null(), kinds)
                dropped += [out] if out.num_rows else []
            else:
                one = {"rule": rule, "changed": 0, "rejected": 0, "examples": []}
            table, changed = table.filter(pc.invert(gone)), changed.filter(pc.invert(gone))
            if kind == "columns":
                count, examples = differences(table, changed, kinds, removes=rule == "pii")
                one = {**one, "changed": count, "examples": [*examples, *one["examples"]]}
            table = changed
            told.append(one)
    return table, dropped, told


def filtered(table: pa.Table, rule: str, gone: pa.Array, reasons: pa.Array, kinds: frozenset[str]) -> tuple[pa.Table, pa.Table, Told]:
    """The table without some rows, those rows as rejects, and the count with examples."""
    out = files.rejects(table.filter(gone), "clean", rule, reasons)
    examples = list(personal.safe(out.slice(0, EXAMPLES).select(["id", "detail"]).to_pylist(), kinds))
    return table.filter(pc.invert(gone)), out, {"rule": rule, "changed": 0, "rejected": out.num_rows, "examples": examples}


def differences(before: pa.Table, after: pa.Table, kinds: frozenset[str], removes: bool) -> tuple[int, list[dict[str, Any]]]:
    """How many rows differ, and for each column the first cells that do; `removes` if it is the rule that takes personal data out."""
    examples: list[dict[str, Any]] = []
    if not before.num_rows:  # Arrow crashes where it looks for what differs in columns without chunks
        return 0, examples
    touched = pa.array(np.zeros(before.num_rows, bool))
    for name in before.column_names:
        old, new = before[name], after[name]
        comparable = (old, new) if old.type == new.type else (old.cast(pa.string()), new.cast(pa.string()))
        differs = pc.fill_null(pc.not_equal(*comparable), False)
        differs = pc.or_(differs, pc.xor(pc.is_null(old), pc.is_null(new)))
        touched = pc.or_(touched, differs)
        found = []
        for at in pc.indices_nonzero(differs).to_pylist()[:CANDIDATES]:
            was, is_now = shown(old[at]), shown(new[at])
            found.append({"id": before["id"][at].as_py(), "column": name, "before": was, "after": is_now, "last": None if removes else is_now})
        examples += chosen(found, kinds)
    return pc.sum(touched).as_py() or 0, examples


def chosen(examples: list[dict[str, Any]], kinds: frozenset[str]) -> list[dict[str, Any]]:
    """The first examples that may be shown, without those that are like an earlier one."""
    found: dict[tuple[Any, Any], dict[str, Any]] = {}
    for example in personal.safe(examples, kinds):
        found.setdefault((example["before"], example["after"]), example)
        if len(found) == EXAMPLES:
            break
    return list(found.values())


def shown(cell: pa.Scalar) -> str | None:
    return None if cell.as_py() is None else str(cell.as_py())


def transformed(table: pa.Table, rules: list[Named], kinds: frozenset[str]) -> tuple[pa.Table, list[Told]]:
    """The table after rules for texts, as one Daft plan, and for each rule how many texts it changed, with examples."""
    if not table.num_rows:  # Arrow crashes where it looks for what differs in columns without chunks
        return table, [{"rule": rule, "changed": 0, "rejected": 0, "examples": []} for rule, _ in rules]
    steps = ["text", *(f"__{number}" for number in range(len(rules)))]
    pairs = list(zip(steps, steps[1:], strict=False))
    plan = daft.from_arrow(table.select(["id", "text"]))
    for (before, after), (rule, arguments) in zip(pairs, rules, strict=True):
        plan = plan.with_column(after, RULES[rule].apply(col(before), **arguments))
    # only the last text is kept of all steps, with a mark for each step that changed it
    done = plan.select("id", col(steps[-1]).alias("text"), *((col(before) != col(after)).alias(f"{after}!") for before, after in pairs)).to_arrow()
    if not done["id"].equals(table["id"]):  # a cluster may give its parts in another order
        done, table = done.sort_by("id"), table.sort_by("id")
    marks = [pc.fill_null(done[f"{after}!"], False) for _, after in pairs]
    first = [pc.indices_nonzero(mark).to_pylist()[:CANDIDATES] for mark in marks]
    told = []
    few = table.take(pa.array(sorted({at for found in first for at in found}), pa.int64())) if any(first) else table.slice(0, 0)
    again = daft.from_arrow(few.select(["id", "text"]))
    for (before, after), (rule, arguments) in zip(pairs, rules, strict=True):
        again = again.with_column(after, RULES[rule].apply(col(before), **arguments))
    by_id = {row["id"]: row for row in again.to_pylist()} if any(first) else {}
    for (before, after), (rule, _), mark, found in zip(pairs, rules, marks, first, strict=True):
        names = [table["id"][at].as_py() for at in found]
        examples = [{"id": name, "before": by_id[name][before], "after": by_id[name][after], "last": by_id[name][steps[-1]]} for name in names]
        told.append({"rule": rule, "changed": pc.sum(mark.cast(pa.int64())).as_py() or 0, "rejected": 0, "examples": chosen(examples, kinds)})
    return table.set_column(table.column_names.index("text"), "text", done["text"].cast(pa.string())), told


def summed(told: list[Told]) -> Told:
    """What a rule did to all parts."""
    counts = Counter[str]()
    for one in told:
        counts.update({"changed": one["changed"], "rejected": one["rejected"]})
    examples = [example for one in told for example in one["examples"]][:EXAMPLES]
    return {"rule": told[0]["rule"], "changed": counts["changed"], "rejected": counts["rejected"], "examples": examples}


if __name__ == "__main__":
    main(clean)
