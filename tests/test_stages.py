"""The data stages on a small text source: what they keep, set aside and refuse."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tasks import clean, ingest, label, split
from tasks.core import stage
from tasks.core.errors import StageError
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.rows import dropped_rows
from tasks.storage import files, hashing, layout
from tasks.storage.layout import StagePaths

RECIPE = """name: tiny
modality: text
ingest: {kind: files, path: source.csv}
columns: {id: id}
gate: [{rule: floor, metric: macro_f1, bound: 0.5}]
"""
WORDS = [
    "amber",
    "basil",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heron",
    "inlet",
    "jetty",
    "knoll",
    "lotus",
    "maple",
    "night",
    "ocean",
    "pearl",
    "quartz",
    "river",
    "stone",
    "tulip",
]


def rows(count: int = 120) -> list[str]:
    def word(number: int) -> str:
        return WORDS[number % len(WORDS)]

    texts = [
        f"{word(n)} {word(n * 7 + 3)} {word(n * 11 + n // 20)} row {n} has its own words {n * 37}"
        for n in range(count)
    ]
    return [f"r{n:03d},{text},{'yes' if n % 2 else 'no'}" for n, text in enumerate(texts)]


def recipe(here: Path, lines: list[str], extra: str = "") -> Recipe:
    (here / "source.csv").write_text("\n".join(["id,text,label", *lines]) + "\n")
    (here / "recipe.yaml").write_text(RECIPE + extra)
    return read_recipe(here / "recipe.yaml")


def write_erasures(folder: Path, ids: list[str]) -> None:
    (folder / "erase.csv").write_text("\n".join(["id", *ids]) + "\n")


def until_split(made: Recipe, here: Path) -> Path:
    folder = here / "data"
    ingest.run(made, StagePaths(folder))
    clean.run(made, StagePaths(folder))
    label.run(made, StagePaths(folder))
    split.run(made, StagePaths(folder))
    return folder


def placed(folder: Path) -> dict[str, str]:
    return {
        name: side
        for side in layout.SPLITS
        for name in pq.read_table(folder / "split" / f"{side}.parquet")["id"].to_pylist()
    }


DIRT = [
    "r200,only three,x,cells too many",
    "r000,the id of another row,yes",
    ",no id at all,no",
    "r201,,yes",
    "r202,a row without any label at all,",
    rows()[5].replace("r005", "r203"),
]


def test_rows_in_are_rows_out_and_rejects_at_every_step(here: Path) -> None:
    folder = until_split(recipe(here, rows() + DIRT), here)
    previous = len(rows()) + len(DIRT)
    for name, report in (
        ("raw", "snapshot"),
        ("clean", "report"),
        ("labelled", "report"),
        ("split", "report"),
    ):
        told: dict[str, Any] = files.read_json(folder / name / f"{report}.json")
        out = told["rows"]
        assert told["rows_in"] == previous == out + told["rejects"]
        assert pq.read_table(folder / name / "rejects.parquet").num_rows == told["rejects"]
        previous = out
    assert files.read_json(folder / "raw" / "snapshot.json")["by_rule"] == {
        "broken row": 1,
        "id given twice": 1,
        "no id": 1,
    }
    assert pq.read_table(folder / "labelled" / "rejects.parquet")["id"].to_pylist() == ["r202"]


def test_equal_input_gives_equal_bytes(here: Path) -> None:
    made = recipe(here, rows() + DIRT)
    first = {
        path.relative_to(here): hashing.sha256(path)
        for path in until_split(made, here).rglob("*")
        if path.is_file()
    }
    assert {
        path.relative_to(here): hashing.sha256(path)
        for path in until_split(made, here).rglob("*")
        if path.is_file()
    } == first


def test_no_row_changes_sides_when_others_come_or_go(here: Path) -> None:
    before = placed(until_split(recipe(here, rows(120)), here))
    after = placed(until_split(recipe(here, rows(160)[10:]), here))
    common = before.keys() & after.keys()
    assert len(common) > 80
    assert all(before[name] == after[name] for name in common)


def test_near_duplicates_never_stand_on_two_sides(here: Path) -> None:
    twins = [
        line.replace(f"r{n:03d}", f"t{n:03d}").replace(",yes", "!,yes").replace(",no", "!,no")
        for n, line in enumerate(rows())
    ]
    made = recipe(here, rows() + twins, "clean: {rules: [white_space]}\n")
    found = placed(until_split(made, here))
    assert len(found) < 240
    assert all(
        found[f"r{n:03d}"] == found[f"t{n:03d}"]
        for n in range(120)
        if f"r{n:03d}" in found and f"t{n:03d}" in found
    )


def test_html_mojibake_and_personal_data_are_cleaned_and_code_is_not(here: Path) -> None:
    made = recipe(
        here,
        [
            *rows(),
            "x1,<p>donâ€™t call 020 7946 0123</p><br>mail a@example.com,yes",
            "x2,List<String> items = get(<your key>);,no",
        ],
    )
    folder = until_split(made, here)
    texts = dict(
        zip(
            *(
                pq.read_table(folder / "clean" / "rows.parquet")[name].to_pylist()
                for name in ("id", "text")
            ),
            strict=True,
        )
    )
    assert texts["x1"] == "don’t call [phone]\n\nmail [email]"
    assert texts["x2"] == "List<String> items = get(<your key>);"


@pytest.mark.parametrize(
    ("lines", "extra", "sentence"),
    [
        ([], "", "holds no rows: a header alone is not data"),
        ([*rows(), "x1,one row of its own class,rare"], "", "'rare' has no row in"),
        (
            [*rows(), "x1,a label that nobody allowed,yse"],
            "label: {classes: ['yes', 'no']}\n",
            "label 'yse' of 1 row(s), first x1, is not among label.classes (did you mean yes?)",
        ),
    ],
)
def test_bad_data_ends_with_a_sentence(
    here: Path, lines: list[str], extra: str, sentence: str
) -> None:
    made = recipe(here, lines, extra)
    with pytest.raises(StageError) as caught:
        until_split(made, here)
    assert sentence in str(caught.value)


def test_a_missing_column_names_those_that_are_there(here: Path) -> None:
    made = recipe(here, rows())
    (here / "source.csv").write_text("id,txt,label\nr1,hello,no\n")
    with pytest.raises(
        StageError,
        match=r"there is no column 'text' \(did you mean txt\?\). "
        r"It has id, txt, label: correct columns.text in the recipe.",
    ):
        ingest.run(made, StagePaths(here))


def test_text_that_is_not_utf8_names_the_line_and_the_cure(here: Path) -> None:
    made = recipe(here, rows())
    (here / "source.csv").write_bytes("id,text,label\nr1,hello,no\nr2,café,yes\n".encode("latin-1"))
    with pytest.raises(
        StageError,
        match=r"source.csv, line 3: byte 0xe9 is not utf-8 text: "
        "save the file as utf-8, or set ingest.encoding, for example latin-1",
    ):
        ingest.run(made, StagePaths(here))


def test_a_truncated_parquet_file_is_named(here: Path) -> None:
    folder = until_split(recipe(here, rows()), here)
    path = folder / "split" / "train.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StageError, match=r"train.parquet is not a readable Parquet file"):
        files.read_table(path)


def test_a_full_disk_leaves_nothing_half_written(here: Path) -> None:
    target = here / "out.json"
    target.write_text("before")
    with pytest.raises(OSError, match="No space left"), files.atomic_file(target) as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_text("x" * 100_000)
    assert target.read_text() == "before"
    assert list(here.iterdir()) == [target]


def test_a_full_disk_is_told_as_such(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def clean(name: str) -> None:
        with files.atomic_file(here / name) as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_text("x" * 100_000)

    with pytest.raises(SystemExit) as ended:
        stage.main(clean, ["out"])
    assert ended.value.code == 1
    sentence = (
        f"No space is left on the disk at {here / 'out'} while clean was writing: "
        "free some space and run it again"
    )
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("columns", ["{id: id}", "{}"])
def test_every_step_says_what_becomes_of_the_rows(
    here: Path, capsys: pytest.CaptureFixture[str], columns: str
) -> None:
    made = recipe(here, [*rows(), *DIRT], "clean: {rules: [length: {min: 1}, exact_duplicates]}\n")
    until_split(
        made.model_copy(
            update={
                "columns": made.columns.model_copy(update={"id": "id" if columns != "{}" else None})
            }
        ),
        here,
    )
    said = capsys.readouterr().out.splitlines()
    named = (
        "ingest: the source held 126 rows, 123 stay; "
        "broken row drops 1 (they cannot be read as rows)"
    )
    assert said[0].startswith(named if columns != "{}" else named.replace("123", "125"))
    assert ("id given twice drops 1 (an earlier row has the same id)" in said[0]) == (
        columns != "{}"
    )
    assert any(
        line.startswith("clean: ")
        and "exact_duplicates drops 1 (an earlier row has the same content)" in line
        for line in said
    )
    assert any(
        line.startswith("label: ")
        and "no label drops 1 (they wait for a person in the review queue)" in line
        for line in said
    )
    assert said[-1].startswith("split: ")


def test_an_id_that_was_named_and_repeats_stops_the_run_and_says_what_to_do(here: Path) -> None:
    lines = [line.replace(line[:4], f"r{n % 12:03d}") for n, line in enumerate(rows())]
    with pytest.raises(StageError) as caught:
        until_split(recipe(here, lines), here)
    told = str(caught.value)
    sentence = (
        "ingest: 108 of 120 rows are dropped, 90%, and max_dropped allows 50%: "
        "id given twice drops 108 (an earlier row has the same id)."
    )
    assert sentence in told
    assert "set max_dropped: 0.9 in the recipe" in told
    assert pq.read_table(here / "data" / "raw" / "rejects.parquet").num_rows == 108


@pytest.mark.parametrize(
    ("step_name", "lines", "extra", "rule"),
    [
        ("clean", rows(), "clean: {rules: [length: {min: 48}]}\n", "length"),
        (
            "clean",
            [f"r{n:03d},text {n // 6},{'yes' if n // 6 % 2 else 'no'}" for n in range(120)],
            "clean: {rules: [exact_duplicates]}\n",
            "exact_duplicates",
        ),
        (
            "split",
            [f"{line},{'never' if n % 3 else n + 2000}" for n, line in enumerate(rows())],
            "split: {time: when}\n",
            "no time",
        ),
    ],
)
def test_a_step_that_drops_more_than_half_of_its_rows_stops_unless_allowed(
    here: Path, step_name: str, lines: list[str], extra: str, rule: str
) -> None:
    made = recipe(here, lines, extra)
    if rule == "no time":
        (here / "source.csv").write_text("\n".join(["id,text,label,when", *lines]) + "\n")
    with pytest.raises(
        StageError,
        match=rf"^{step_name}: \d+ of 120 rows are dropped, \d+%, "
        rf"and max_dropped allows 50%: {rule} drops",
    ):
        until_split(made, here)
    folder = until_split(made.model_copy(update={"max_dropped": 0.9}), here)
    assert 0 < files.read_json(folder / "split" / "report.json")["rows"] < 60


def test_erased_rows_and_rows_that_wait_for_a_label_are_not_counted_as_dropped(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [
        line if n % 5 == 0 else line.rpartition(",")[0] + "," for n, line in enumerate(rows(240))
    ]
    made = recipe(here, few)
    write_erasures(here, [f"r{n:03d}" for n in range(140)])
    ingest.run(made, StagePaths(here))
    clean.run(made, StagePaths(here))
    label.run(made, StagePaths(here))
    said = capsys.readouterr().out
    assert "erased drops 140 (erase.csv lists them)" in said
    assert "no label drops 80" in said


@pytest.mark.parametrize("whole", [100, 700, 1000, 3000])
def test_the_share_that_the_error_suggests_is_enough(whole: int) -> None:
    for count in range(whole // 2 + 1, whole + 1, whole // 100):
        with pytest.raises(StageError) as caught:
            dropped_rows.check_max_dropped(
                "clean", whole, {"length": count}, 0.5, Path("rejects.parquet")
            )
        suggested = float(str(caught.value).partition("set max_dropped: ")[2].partition(" ")[0])
        dropped_rows.check_max_dropped(
            "clean", whole, {"length": count}, suggested, Path("rejects.parquet")
        )


def test_a_run_that_reads_nothing_anew_still_says_how_many_rows_the_source_held(here: Path) -> None:
    from flows import artifacts

    ingest.run(recipe(here, rows()), StagePaths.of_recipe("tiny"))
    assert artifacts.describe_source_rows("tiny") == "ingest: the source held 120 rows, 120 stay"
