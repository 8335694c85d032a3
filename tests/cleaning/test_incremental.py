"""Ingest and clean keep unchanged parts, and leave the same files as a fresh run."""

import random
import shutil
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.core.errors import RetryableError, StageError
from tasks.rows.seen_keys import hash_rows
from tasks.sources import erasure, iter_partitions, partitions
from tasks.storage import files
from tests.cleaning.parts import recipe, run, times, touched, write


@pytest.mark.parametrize("with_id", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_after_any_changes_the_files_are_those_of_a_fresh_run(
    here: Path, monkeypatch: pytest.MonkeyPatch, seed: int, with_id: bool
) -> None:
    """The folder of earlier runs stays in place.

    Parts come, go and change, ids and texts occur in several of them, and ids are erased.
    """
    chance = random.Random(seed)
    monkeypatch.setattr(partitions, "MAX_ROWS_PER_FILE", 10)
    made = recipe(here, with_id)

    def rows() -> list[tuple[str, str]]:
        return [
            (f"r{chance.randrange(60)}", f"text  {chance.randrange(40)}")
            for _ in range(chance.randrange(1, 25))
        ]

    for name in "cegi":
        write(here, f"{name}.csv", rows(), with_id)
    for _ in range(8):
        name = f"{chance.choice('abcdefghij')}.csv"
        if (
            chance.random() < 0.3
            and (here / "in" / name).exists()
            and len(list((here / "in").iterdir())) > 1
        ):
            (here / "in" / name).unlink()
        else:
            write(here, name, rows(), with_id)
        erase = [f"r{chance.randrange(60)}"] if chance.random() < 0.3 else []
        after = run(made, here / "data", erase)
        assert after == run(made, here / "fresh", erase)
        shutil.rmtree(here / "fresh")


def test_only_the_new_part_is_written(here: Path) -> None:
    made = recipe(here)
    for number in range(4):
        write(
            here, f"{number}.csv", [(f"r{number}{row}", f"text {number} {row}") for row in range(5)]
        )
    run(made, here / "data")
    before = times(here / "data")
    write(here, "4.csv", [(f"r4{row}", f"text 4 {row}") for row in range(5)])
    run(made, here / "data")
    assert len(before) == 8
    assert len(touched(here / "data", before)) == 2
    assert pq.read_table(here / "data" / "clean" / "parts").num_rows == 25


def test_an_archive_that_is_unchanged_is_not_read_again(here: Path) -> None:
    made = recipe(here)
    made = made.model_copy(update={"ingest": made.ingest.model_copy(update={"path": "in/*"})})
    with zipfile.ZipFile(here / "in" / "1.zip", "w") as archive:
        archive.writestr("a.csv", "id,text,label\na,one,x\nb,two,x\n")
        archive.writestr("b.csv", "id,text,label\nb,doubled,x\nc,three,x\n")
    run(made, here / "data")
    before = times(here / "data")
    write(here, "2.csv", [("d", "four"), ("c", "doubled")])
    run(made, here / "data")
    assert len(before) == 4
    assert len(touched(here / "data", before)) == 2
    assert run(made, here / "data") == run(made, here / "fresh")
    assert files.read_rows(here / "data" / "clean").num_rows == 4


def test_a_file_that_changes_while_it_is_read_is_not_kept(here: Path) -> None:
    made = recipe(here)
    write(here, "1.csv", [("a", "one")])
    [part] = iter_partitions(made.ingest)
    write(here, "1.csv", [("a", "another one")])
    with pytest.raises(
        RetryableError,
        match=r"in/1.csv changed while it was read: nothing of it is kept.",
    ):
        list(part.read())


def test_of_equal_texts_in_two_parts_the_first_stays_also_when_its_part_was_kept(
    here: Path,
) -> None:
    made = recipe(here)
    write(here, "1.csv", [("a", "the same words"), ("b", "other words")])
    run(made, here / "data")
    write(here, "2.csv", [("c", "the  same words")])
    run(made, here / "data")
    report = files.read_json(here / "data" / "clean" / "report.json")
    assert report["rules"][1] == {
        "rule": "exact_duplicates",
        "changed": 0,
        "rejected": 1,
        "examples": [{"id": "c", "detail": "same as a"}],
    }


@pytest.mark.parametrize(
    "place",
    [
        "raw/*-*.parquet",
        "clean/parts/*.parquet",
        "clean/keys/*.parquet",
        "raw/rejects.parquet/*-*.parquet",
    ],
)
def test_a_damaged_file_is_not_believed(here: Path, place: str) -> None:
    made = recipe(here)
    write(here, "1.csv", [("a", "one"), ("b", "two"), ("a", "doubled")])
    fresh = run(made, here / "data")
    [damaged] = (here / "data").glob(place)
    damaged.write_bytes(damaged.read_bytes()[:-9] + b"x" * 9)
    assert run(made, here / "data") == fresh


def test_a_changed_rule_cleans_every_part_anew(here: Path) -> None:
    made = recipe(here)
    write(here, "1.csv", [("a", "<b>one</b>"), ("b", "two")])
    run(made, here / "data")
    run(recipe(here, rules="html, exact_duplicates"), here / "data")
    assert pq.read_table(here / "data" / "clean" / "parts")["text"].to_pylist() == ["one", "two"]


def test_rules_for_all_rows_come_after_the_parts_and_lose_none(here: Path) -> None:
    made = recipe(here, rules="exact_duplicates, near_duplicates, length: {min: 10}")
    sentence = (
        "the quick brown fox jumps over the lazy dog and runs on through the wide dark forest "
        "until the night falls"
    )
    write(here, "1.csv", [("a", sentence), ("b", "short")])
    write(here, "2.csv", [("c", sentence + "!"), ("d", sentence), ("e", "a text of its own")])
    run(made, here / "data")
    report = files.read_json(here / "data" / "clean" / "report.json")
    assert (report["rows_in"], report["rows"], report["rejects"]) == (5, 2, 3)
    assert files.read_rows(here / "data" / "clean")["id"].to_pylist() == ["a", "e"]
    rejects = {
        row["id"]: row["rule"]
        for row in pq.read_table(here / "data" / "clean" / "rejects.parquet").to_pylist()
    }
    assert rejects == {"b": "length", "c": "near_duplicates", "d": "exact_duplicates"}


def test_a_list_of_ids_to_erase_that_cannot_be_read_ends_with_a_sentence(here: Path) -> None:
    (here / "erase.csv").write_bytes("id\ncaf\xe9\n".encode("latin-1"))
    with pytest.raises(
        StageError, match=r"erase.csv is not a CSV file in UTF-8 \(.*0xe9.*\): save it as one."
    ):
        erasure.read_erased_ids(here / "erase.csv")


def test_an_erased_row_leaves_only_its_id(here: Path) -> None:
    made = recipe(here)
    write(here, "1.csv", [("a", "a secret of mine"), ("b", "two")])
    run(made, here / "data")
    run(made, here / "data", ["a"])
    for path in (here / "data").rglob("*.parquet"):
        assert "a secret of mine" not in str(pq.read_table(path).to_pylist())
    for path in (here / "data").rglob("*.json"):
        assert "a secret of mine" not in path.read_text()
    [reject] = pq.read_table(here / "data" / "raw" / "rejects.parquet").to_pylist()
    assert (reject["id"], reject["text"], reject["rule"]) == ("a", None, "erased")


def test_a_part_without_rows_is_cleaned_by_every_rule(here: Path) -> None:
    made = recipe(
        here,
        rules=(
            "html, missing, types: {columns: {age: number}, unparsed: 'null'}, pii, "
            "exact_duplicates"
        ),
    )
    (here / "in" / "1.csv").write_text("id,text,label,age\n")
    (here / "in" / "2.csv").write_text("id,text,label,age\na,one,x,30\n")
    run(made, here / "data")
    assert files.read_rows(here / "data" / "clean")["age"].to_pylist() == [30.0]


def test_parts_may_have_more_columns_or_them_in_another_order(here: Path) -> None:
    """A row is the same row wherever its columns stand, and what a part lacks is null in it."""
    made = recipe(here, with_id=False, rules="types: {columns: {age: number}}, exact_duplicates")
    (here / "in" / "1.csv").write_text("text,label\none,x\n")
    (here / "in" / "2.csv").write_text("age,label,text,city\n30,x,two,Rome\nold,x,three,Oslo\n")
    (here / "in" / "3.csv").write_text("city,text,age,label\nRome,two,30,x\n")
    run(made, here / "data")
    names = [
        pq.read_table(path)["id"][0].as_py()
        for path in sorted((here / "data" / "raw").glob("*.parquet"))
        if path.is_file()
    ]
    assert len({name.partition("-")[0] for name in names}) == 2
    rows = files.read_rows(here / "data" / "clean").drop_columns("id").to_pylist()
    assert sorted(row["text"] for row in rows) == ["one", "two"]
    assert {"text": "one", "label": "x", "age": None, "city": None} in rows
    assert {
        row["city"]
        for row in pq.read_table(here / "data" / "clean" / "rejects.parquet").to_pylist()
    } == {"Rome", "Oslo"}


def test_a_new_column_is_null_in_the_parts_before(here: Path) -> None:
    made = recipe(here)
    write(here, "1.csv", [("a", "one")])
    run(made, here / "data")
    (here / "in" / "2.csv").write_text("id,text,label,city\nb,two,x,Rome\n")
    assert run(made, here / "data") == run(made, here / "fresh")
    assert pq.read_table(here / "data" / "clean" / "parts")["city"].to_pylist() == [None, "Rome"]


def test_what_a_killed_run_left_half_written_goes(here: Path) -> None:
    made = recipe(here)
    write(here, "1.csv", [("a", "one")])
    fresh = run(made, here / "data")
    for place in (
        "raw",
        "raw/rejects.parquet",
        "clean",
        "clean/parts",
        "clean/keys",
        "clean/rejects.parquet",
    ):
        (here / "data" / place / ".rows.parquet.123.tmp").write_text("half of a row")
    assert run(made, here / "data") == fresh


def test_columns_named_like_those_of_rejects_are_kept_in_them(here: Path) -> None:
    made = recipe(here, rules="types: {columns: {rule: number}}, length: {min: 4}")
    (here / "in" / "1.csv").write_text(
        "id,text,label,detail,rule\na,one,x,mine,1\nb,other,x,yours,none\nb,again,x,theirs,2\n"
        ",x,x,nobody's,3\nc,words,x,his,4\n"
    )
    run(made, here / "data")
    raw, rejects = (
        pq.read_table(here / "data" / place / "rejects.parquet").to_pylist()
        for place in ("raw", "clean")
    )
    assert {(row["data.detail"], row["data.rule"], row["rule"]) for row in raw} == {
        ("theirs", "2", "id given twice"),
        ("nobody's", "3", "no id"),
    }
    assert {(row["data.detail"], row["data.rule"], row["rule"]) for row in rejects} == {
        ("yours", "none", "types"),
        ("mine", "1", "length"),
    }


def test_an_id_to_erase_is_found_among_blanks_and_in_lines_that_are_no_rows(
    here: Path,
) -> None:
    made = recipe(here)
    (here / "in" / "1.csv").write_text(
        "id,text,label\na1 ,a secret of mine,x\na1,my other secret\na11,no secret\nb,two,x\n"
    )
    run(made, here / "data")
    assert run(made, here / "data", ["a1"]) == run(made, here / "fresh", ["a1"])
    rejects = pq.read_table(here / "data" / "raw" / "rejects.parquet").to_pylist()
    assert sorted((row["id"] or "", row["text"], row["detail"]) for row in rejects) == [
        ("", None, "line 3: 2 cells where the header has 3: (erased)"),
        ("", None, "line 4: 2 cells where the header has 3: a11,no secret"),
        ("a1 ", None, ""),
    ]


def test_a_list_of_ids_to_erase_that_cannot_be_read_is_told(here: Path) -> None:
    (here / "erase.csv").write_bytes("id\ncaf\u00e9\n".encode("latin-1"))
    with pytest.raises(
        StageError, match=r"erase.csv is not a CSV file in UTF-8 \(.*\): save it as one"
    ):
        erasure.read_erased_ids(here / "erase.csv")


def test_a_missing_cell_is_not_an_empty_one() -> None:
    first, second = hash_rows(
        pa.table({"a": ["", None, "x", None], "b": [None, "", None, "x"]}), ["a", "b"]
    )
    assert len(set(first.tolist())) == len(set(second.tolist())) == 4


def test_examples_of_a_rule_differ_from_each_other(here: Path) -> None:
    made = recipe(here, rules="html, missing: {columns: [label]}")
    (here / "in" / "1.csv").write_text(
        "id,text,label\n"
        + "".join(f"{number},<b>{text}</b>,NA\n" for number, text in enumerate("aaabc"))
    )
    run(made, here / "data")
    _, html, missing = files.read_json(here / "data" / "clean" / "report.json")["rules"]
    assert [example["id"] for example in html["examples"]] == ["0", "3", "4"]
    assert [example["id"] for example in missing["examples"]] == ["0"]
