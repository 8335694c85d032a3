"""Split: rows keep their splits and folds whatever comes or goes, and none is lost."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import split
from tasks.core import timestamps
from tasks.core.errors import ConfigError, StageError
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.rows import leakage_check, near_duplicates
from tasks.storage import files, hashing, layout
from tasks.storage.layout import StagePaths
from tests.test_stages import WORDS

RECIPE = """name: tiny
modality: text
ingest: {kind: files, path: source.csv}
columns: {id: id}
gate: [{rule: floor, metric: macro_f1, bound: 0.5}]
split: """
Row = dict[str, Any]


def recipe(folder: Path, section: str) -> Recipe:
    (folder / "recipe.yaml").write_text(RECIPE + section)
    return read_recipe(folder / "recipe.yaml")


def row(number: int) -> Row:
    r = random.Random(number)
    text = " ".join(r.choice(WORDS) for _ in range(15))
    date = f"20{r.randrange(10, 30)}-{r.randrange(1, 13):02d}-{r.randrange(1, 29):02d}"
    when = f"{date}T{r.randrange(24):02d}:00:00Z"
    return {
        "id": f"r{number:04d}",
        "text": text,
        "label": "yes" if number % 2 else "no",
        "team": f"team {number % 41}",
        "when": when,
    }


def twin(number: int, of: int) -> Row:
    """A row with nearly the text of another, in another team and at another time."""
    return {**row(number), "text": row(of)["text"] + "!"}


def rows(count: int = 300, twins: int = 60) -> list[Row]:
    return [
        *(row(number) for number in range(count)),
        *(twin(1000 + number, of=number) for number in range(twins)),
    ]


def ran(folder: Path, section: str, source_rows: list[Row]) -> dict[str, str]:
    """Split rows, and return the split of each row that is in one."""
    table = pa.table(
        {
            name: pa.array([item[name] for item in source_rows], pa.string())
            for name in source_rows[0]
        }
    )
    files.write_table(folder / "labelled" / "rows.parquet", table)
    split.run(recipe(folder, section), StagePaths(folder))
    return {name: side for side in layout.SPLITS for name in part(folder, side)["id"].to_pylist()}


def part(folder: Path, name: str) -> pa.Table:
    return pq.read_table(folder / "split" / f"{name}.parquet")


def report(folder: Path) -> Any:
    return files.read_json(folder / "split" / "report.json")


KINDS = [
    "{val: 0.2, test: 0.3}",
    "{val: 0.2, test: 0.3, group: team}",
    "{time: when, val_from: 2022-01-01, test_from: '2025-01-01T00:00:00+02:00'}",
]
KINDS += [kind.replace("}", ", folds: 4}") for kind in KINDS]


@pytest.mark.parametrize("section", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_insert_delete_and_append_move_no_row_even_among_near_duplicates(
    tmp_path: Path, section: str, seed: int
) -> None:
    r = random.Random(seed)
    before = ran(tmp_path, section, rows())
    kept = [item for item in rows() if r.random() < 0.8]
    new = [
        *(row(number) for number in range(5000, 5060)),
        *(twin(6000 + number, of=r.randrange(300)) for number in range(60)),
    ]
    after = ran(tmp_path, section, r.sample(kept + new, len(kept) + len(new)))
    both = before.keys() & after.keys()
    assert len(both) > 200
    assert {name: after[name] for name in both} == {name: before[name] for name in both}
    rejects = part(tmp_path, "rejects").to_pylist()
    assert {item["rule"] for item in rejects} == {"near-duplicate on another side"}
    assert {item["id"] for item in rejects} == {
        item["id"] for item in kept + new
    } - after.keys()  # what has no side is set aside, and nothing else


@pytest.mark.parametrize("section", KINDS)
def test_rows_in_are_rows_out_and_rejects_and_the_same_rows_give_the_same_bytes(
    tmp_path: Path, section: str
) -> None:
    placed = ran(tmp_path, section, rows())
    summary = report(tmp_path)
    assert (
        summary["rows_in"]
        == 360
        == len(placed) + summary["rejects"]
        == sum(summary["rows_by_split"].values()) + summary["rejects"]
    )
    before = hashing.hash_folder(tmp_path / "split")
    ran(tmp_path, section, rows()[::-1])
    assert hashing.hash_folder(tmp_path / "split") == before


@pytest.mark.parametrize("section", KINDS)
def test_the_proof_holds_for_every_split(tmp_path: Path, section: str) -> None:
    ran(tmp_path, section, rows())
    results, notes = leakage_check.check_leakage(
        {side: part(tmp_path, side) for side in ("train", "val", "test")}, "text"
    )
    assert notes == []
    assert all(outcome.result.success for outcome in results)


def test_a_crowd_of_like_rows_leaves_no_pair_that_the_proof_would_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        near_duplicates, "LARGE_BUCKET", 2
    )  # so that a crowd is small: past it each is compared with the first only
    source_rows = rows(100, 0)
    for number in range(60):
        words = row(number)["text"].split()
        source_rows += [
            {
                **row(number),
                "id": f"c{number}-{at}",
                "text": " ".join(
                    ["other" if place == at else word for place, word in enumerate(words)]
                ),
            }
            for at in range(0, 15, 2)
        ]
    ran(tmp_path, "{val: 0.2, test: 0.3}", source_rows)
    results, _ = leakage_check.check_leakage(
        {side: part(tmp_path, side) for side in ("train", "val", "test")}, "text"
    )
    assert all(outcome.result.success for outcome in results)


def test_equal_contents_of_two_groups_are_set_aside_too_where_they_are_no_texts(
    tmp_path: Path,
) -> None:
    tiny_recipe = recipe(tmp_path, "{val: 0.2, test: 0.3, group: team}").model_copy(
        update={"modality": "image"}
    )
    table = pa.table(
        {
            "id": [f"r{n}" for n in range(400)],
            "image": [b"%d" % (n // 2) for n in range(400)],
            "label": ["a", "b"] * 200,
        }
    )
    table = table.append_column(
        "team", pa.array([f"team {n % 3 + 10 * (n % 2)}" for n in range(400)])
    )
    files.write_table(
        tmp_path / "labelled" / "rows.parquet",
        table.set_column(2, "label", pa.array(["a", "a", "b", "b"] * 100)),
    )
    split.run(tiny_recipe, StagePaths(tmp_path))
    where: dict[bytes, set[str]] = {}
    for side in layout.SPLITS:
        for image in part(tmp_path, side)["image"].to_pylist():
            where.setdefault(image, set()).add(side)
    assert report(tmp_path)["rejects"] > 50
    assert all(len(found) == 1 for found in where.values())


def test_a_group_keeps_to_one_side_and_rows_without_one_are_spread_by_their_content(
    tmp_path: Path,
) -> None:
    source_rows = [
        {**item, "team": None if number % 3 == 0 else item["team"]}
        for number, item in enumerate(rows(300, 0))
    ]
    placed = ran(tmp_path, "{val: 0.2, test: 0.3, group: team}", source_rows)
    by_team: dict[str | None, set[str]] = {}
    for item in source_rows:
        if item["id"] in placed:
            by_team.setdefault(item["team"], set()).add(placed[item["id"]])
    assert by_team.pop(None) == {"train", "val", "test"}
    assert all(len(found) == 1 for found in by_team.values())


def test_the_newest_rows_are_tested_and_those_before_them_validate(tmp_path: Path) -> None:
    placed = ran(
        tmp_path, "{time: when, val_from: 2022-01-01, test_from: 2025-01-01}", rows(300, 0)
    )
    for item in rows(300, 0):
        assert placed[item["id"]] == (
            "test" if item["when"] >= "2025" else "val" if item["when"] >= "2022" else "train"
        )


def test_without_boundaries_they_are_quantiles_and_the_report_says_that_these_move(
    tmp_path: Path,
) -> None:
    ran(tmp_path, "{time: when, val: 0.2, test: 0.3}", rows(300, 0))
    summary = report(tmp_path)
    assert summary["rows_by_split"] == {"train": 150, "val": 60, "test": 90}
    assert (
        "are quantiles of these rows, so they move when rows come or go: write both into the recipe"
        in summary["time"]["note"]
    )
    fixed = ran(
        tmp_path,
        "{time: when, "
        f"val_from: '{summary['time']['val_from']}', test_from: '{summary['time']['test_from']}'}}",
        rows(300, 0),
    )
    assert report(tmp_path)["rows_by_split"] == summary["rows_by_split"]
    assert report(tmp_path)["time"]["note"] is None
    assert len(fixed) == 300


BAD_TIMES = [
    "0000-01-01",
    "10000-01-01",
    "2026-02-30",
    "yesterday",
    "",
    None,
    "NaN",
    "1e999",
    "2026-01-01T25:00",
    "9" * 500,
]


def test_a_time_that_cannot_be_read_is_rejected_with_its_value_and_never_a_crash(
    tmp_path: Path,
) -> None:
    bad = [{**row(2000 + number), "when": value} for number, value in enumerate(BAD_TIMES)]
    good = [
        {**row(3000), "when": "0001-01-01T00:00+14:00"},
        {**row(3001), "when": "9999-12-31T23:59-14:00"},
        {**row(3002), "when": " 2026-01-01 "},
    ]
    placed = ran(
        tmp_path,
        "{time: when, val_from: 2022-01-01, test_from: 2025-01-01}",
        rows(300, 0) + bad + good,
    )
    assert (placed["r3000"], placed["r3001"], placed["r3002"]) == ("train", "test", "test")
    rejects = {item["id"]: item for item in part(tmp_path, "rejects").to_pylist()}
    assert {name for name, item in rejects.items() if item["rule"] == "no time"} == {
        f"r{2000 + number}" for number in range(len(BAD_TIMES))
    }
    assert rejects["r2000"]["detail"] == "when is not a date or time of ISO 8601: '0000-01-01'"
    assert rejects["r2005"]["detail"] == "when is empty"


def test_numbers_are_times_too(tmp_path: Path) -> None:
    source_rows = [{**item, "when": str(number)} for number, item in enumerate(rows(300, 0))]
    placed = ran(
        tmp_path,
        "{time: when, val_from: 150, test_from: 200.5}",
        [*source_rows, {**row(4000), "when": "2026-01-01"}],
    )
    assert [placed[f"r{number:04d}"] for number in (0, 149, 150, 200, 201, 299)] == [
        "train",
        "train",
        "val",
        "val",
        "test",
        "test",
    ]
    assert part(tmp_path, "rejects")["detail"].to_pylist() == ["when is not a number: '2026-01-01'"]


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ("{time: wen}", "split.time: the data has no column 'wen' (did you mean when?)"),
        ("{group: tem}", "split.group: the data has no column 'tem' (did you mean team?)"),
        ("{time: text}", "split.time: no value of the column 'text' is a number; examples:"),
        (
            "{time: when, val_from: 1, test_from: 2}",
            "split.time: no value of the column 'when' is a number, as split.test_from, 2.0, is",
        ),
        ("{time: when, val_from: 2040-01-01, test_from: 2041-01-01}", "has no row in test"),
    ],
)
def test_what_cannot_be_split_ends_with_a_sentence(
    tmp_path: Path, section: str, sentence: str
) -> None:
    with pytest.raises(StageError) as caught:
        ran(tmp_path, section, rows(100, 0))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ("{group: team, time: when}", "has both group and time: choose one"),
        ("{val_from: 2020-01-01, test_from: 2021-01-01}", "val_from and test_from need `time`"),
        ("{time: when, test_from: 2021-01-01}", "needs both of val_from and test_from, or none"),
        (
            "{time: when, val_from: 2022-01-01, test_from: 2021-01-01}",
            "val_from, 2022-01-01, must be of the same kind as test_from, 2021-01-01, "
            "and before it",
        ),
        (
            "{time: when, val_from: 5, test_from: 2021-01-01}",
            "must be of the same kind as test_from",
        ),
        (
            "{time: when, val_from: soon, test_from: 2021-01-01}",
            "split.val_from: 'soon' is neither a number nor a date or time",
        ),
        ("{folds: 1}", "split.folds: 1: input should be greater than or equal to 2"),
    ],
)
def test_mistakes_in_the_section_are_sentences(tmp_path: Path, section: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe(tmp_path, section)
    assert sentence in str(caught.value)


def test_a_resolved_recipe_says_the_same(tmp_path: Path) -> None:
    import json

    tiny_recipe = recipe(
        tmp_path, "{time: when, val_from: 2022-01-01, test_from: 2025-01-01 12:00:00}"
    )
    assert Recipe.model_validate(json.loads(json.dumps(tiny_recipe.model_dump()))) == tiny_recipe


def folds(folder: Path) -> dict[str, int]:
    train = part(folder, "train")
    return dict(zip(train["id"].to_pylist(), train["fold"].to_pylist(), strict=True))


@pytest.mark.parametrize("section", ["{folds: 4}", "{group: team, folds: 4}"])
def test_like_rows_share_a_fold_and_all_folds_are_used(tmp_path: Path, section: str) -> None:
    ran(tmp_path, section, rows())
    folds_by_id = folds(tmp_path)
    assert set(folds_by_id.values()) == {0, 1, 2, 3}
    assert sum(report(tmp_path)["folds"].values()) == len(folds_by_id)
    pairs = [(f"r{number:04d}", f"r{1000 + number}") for number in range(60)]
    together = [pair for pair in pairs if set(pair) <= folds_by_id.keys()]
    assert len(together) > 20
    assert all(folds_by_id[first] == folds_by_id[second] for first, second in together)
    if "group" in section:
        teams = dict(
            zip(
                part(tmp_path, "train")["id"].to_pylist(),
                part(tmp_path, "train")["team"].to_pylist(),
                strict=True,
            )
        )
        assert all(
            len({folds_by_id[name] for name in folds_by_id if teams[name] == team}) == 1
            for team in set(teams.values())
        )
    assert all("fold" not in part(tmp_path, side).column_names for side in ("val", "test"))


def test_rows_that_are_like_no_other_keep_their_fold_when_others_come_or_go(tmp_path: Path) -> None:
    ran(tmp_path, "{folds: 5}", rows())
    before = folds(tmp_path)
    ran(tmp_path, "{folds: 5}", rows()[::2] + [row(number) for number in range(5000, 5100)])
    after = folds(tmp_path)
    alone = [f"r{number:04d}" for number in range(60, 300)]
    both = [name for name in alone if name in before and name in after]
    assert len(both) > 80
    assert all(before[name] == after[name] for name in both)


def test_a_column_named_fold_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"split\.folds: the data has a column 'fold' already"):
        ran(tmp_path, "{folds: 2}", [{**item, "fold": "x"} for item in rows(50, 0)])


def test_stratification_says_how_far_each_side_is_from_the_whole(tmp_path: Path) -> None:
    ran(tmp_path, "{val: 0.2, test: 0.3}", rows(300, 0))
    summary = report(tmp_path)
    whole = sum(counts["yes"] for counts in summary["classes"].values()) / sum(
        summary["rows_by_split"].values()
    )
    for side in layout.SPLITS:
        found = summary["stratification"][side]
        share = summary["classes"][side]["yes"] / summary["rows_by_split"][side]
        assert found["shares"]["yes"] == pytest.approx(share, abs=1e-6)
        assert found["total_variation"] == pytest.approx(abs(share - whole), abs=1e-6)
        assert (
            abs(found["largest"]["difference"]) == found["total_variation"]
        )  # as there are two classes


@pytest.mark.parametrize(
    ("value", "number", "instant"),
    [
        ("12", 12, None),
        (3, 3, None),
        ("1_0", None, None),
        (True, None, None),
        ("1970-01-02", None, 86400),
        ("1970-01-01T01:00+01:00", None, 0),
        (None, None, None),
    ],
)
def test_moments_are_numbers(value: Any, number: float | None, instant: float | None) -> None:
    assert (timestamps.parse_number(value), timestamps.parse_timestamp(value)) == (number, instant)
