"""A column `id` that nobody named: it names the rows, or is an ordinary column."""

import random
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tasks.core.errors import StageError
from tasks.recipe.recipe import Recipe
from tasks.rows import table_columns
from tasks.sources import partitions
from tasks.storage import files
from tests.cleaning.parts import recipe, run, times, touched, write


def unnamed(here: Path) -> Recipe:
    """A source with a column id that the recipe does not name."""
    return recipe(here, with_id=False)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_column_id_that_repeats_at_times_gives_what_a_fresh_run_gives(
    here: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(partitions, "MAX_ROWS_PER_FILE", 10)
    made, kinds = unnamed(here), set()

    def rows() -> list[tuple[str, str]]:
        return [
            (f"r{chance.randrange(700)}", f"text  {chance.randrange(40)}")
            for _ in range(chance.randrange(1, 20))
        ]

    for name in "ce":
        write(here, f"{name}.csv", rows())
    for _ in range(12):
        name = f"{chance.choice('abcdefgh')}.csv"
        if (
            chance.random() < 0.5
            and (here / "in" / name).exists()
            and len(list((here / "in").iterdir())) > 1
        ):
            (here / "in" / name).unlink()
        else:
            write(here, name, rows())
        lines = (
            (here / "in" / name).read_text().splitlines() if (here / "in" / name).exists() else []
        )
        erase = [lines[1].partition(",")[0]] if lines and chance.random() < 0.3 else []
        after = run(made, here / "data", erase)
        assert after == run(made, here / "fresh", erase)
        kinds.add(files.read_json(here / "data" / "raw" / "snapshot.json")["id_column"])
        shutil.rmtree(here / "fresh")
    assert kinds == {"found", "ordinary"}


def test_a_repeating_column_id_that_nobody_named_loses_no_row(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = unnamed(here)
    write(here, "1.csv", [(f"c{number % 40}", f"text {number}") for number in range(400)])
    run(made, here / "data")
    rows = files.read_rows(here / "data" / "clean")
    assert rows.num_rows == 400
    assert set(rows["data.id"].to_pylist()) == {f"c{number}" for number in range(40)}
    assert len(set(rows["id"].to_pylist())) == 400
    said = capsys.readouterr().out
    assert (
        "the column 'id' repeats or lacks values, and columns.id does not name it: it is kept as "
        "the ordinary column 'data.id'" in said
    )


def test_a_column_id_that_nobody_named_names_the_rows_where_each_has_its_own(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = unnamed(here)
    write(here, "1.csv", [("a", "one"), ("b", "two")])
    run(made, here / "data")
    assert files.read_rows(here / "data" / "clean")["id"].to_pylist() == ["a", "b"]
    assert "columns.id" not in capsys.readouterr().out


def test_unchanged_parts_are_kept_where_the_column_id_is_ordinary(here: Path) -> None:
    made = unnamed(here)
    write(here, "1.csv", [("a", "one"), ("a", "two")])
    run(made, here / "data")
    before = times(here / "data")
    write(here, "2.csv", [("b", "three")])
    run(made, here / "data")
    assert len(touched(here / "data", before)) == 2


def test_a_row_is_erased_by_the_source_s_own_id_where_that_repeats(here: Path) -> None:
    made = unnamed(here)
    write(
        here,
        "1.csv",
        [("a", "a secret of mine"), ("a", "my other secret"), ("b", "two"), ("b", "three")],
    )
    run(made, here / "data")
    run(made, here / "data", ["a"])
    for path in (here / "data").rglob("*.parquet"):
        assert "secret" not in str(pq.read_table(path).to_pylist())
    assert files.read_json(here / "data" / "raw" / "snapshot.json")["by_rule"] == {"erased": 2}


def test_a_setting_that_means_the_ordinary_column_id_is_told_its_name(here: Path) -> None:
    made = unnamed(here)
    write(here, "1.csv", [("a", "one"), ("a", "two")])
    run(made, here / "data")
    with pytest.raises(
        StageError,
        match=(
            r"split.group: the source's column 'id' is kept as 'data.id', because it does not "
            r"name the rows: write data.id here"
        ),
    ):
        table_columns.get_column(files.read_rows(here / "data" / "clean"), "id", "split.group")


def test_an_ordinary_column_id_does_not_replace_a_column_of_the_source(here: Path) -> None:
    made = unnamed(here)
    (here / "in" / "1.csv").write_text("id,data.id,text,label\na,1,one,x\na,2,two,x\n")
    with pytest.raises(
        StageError, match=r"and the name that it would get, 'data.id', is taken: rename one of them"
    ):
        run(made, here / "data")
