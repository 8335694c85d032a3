"""How data lie in folders and files: classes, predefined splits, and files that are not read."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.core.errors import ConfigError
from tasks.recipe.split import Split
from tests import tiny
from tests.data_stages import Content, StageRun, build_recipe, run_stages, write_inputs
from tests.sources.malformed.builders import build_zip

PNG = tiny.encode_image(np.arange(16, dtype=np.uint8).reshape(4, 4))
TREE = "pics/{}/{}.png"


def animation(form: str) -> bytes:
    """An image of two frames, the first of them black."""
    frames = [Image.new("L", (4, 4), level) for level in (0, 255)]
    return tiny.encode_image(frames[0], form, save_all=True, append_images=frames[1:])


def pictures(*folders: str) -> dict[str, Content]:
    """Two images in each folder."""
    inputs: dict[str, Content] = {}
    for folder in folders:
        for number in range(2):
            inputs[f"pics/{folder}/{number}.png"] = PNG
    return inputs


@dataclass(frozen=True)
class Layout:
    """Files in folders, and what ingest makes of them."""

    name: str
    inputs: dict[str, Content]
    levels: list[str] | None = None
    split: dict[str, Any] = field(default_factory=dict)
    labels: dict[str | None, int] = field(default_factory=dict)  # rows by label
    parts: dict[str | None, int] = field(default_factory=dict)  # rows by predefined part
    rejects: list[str] = field(default_factory=list)  # beginnings of their details
    said: str = ""  # a pattern in the warnings
    sentence: str = ""  # a pattern of the error


FOLDERS = [
    Layout("classes", pictures("cat", "dog"), labels={"cat": 2, "dog": 2}),
    Layout(
        "split above the classes",
        pictures("train/cat", "train/dog", "test/cat", "test/dog"),
        labels={"cat": 4, "dog": 4},
        parts={"train": 4, "test": 4},
        said="pics: the folders test, train are the predefined split",
    ),
    Layout(
        "other names of parts",
        pictures("Training Set/cat", "val2017/cat", "test_images/dog"),
        labels={"cat": 4, "dog": 2},
        parts={"train": 2, "val": 2, "test": 2},
        said="the predefined split",
    ),
    Layout(
        "split below the classes",
        pictures("cat/train", "cat/test", "dog/train", "dog/test"),
        labels={"cat": 4, "dog": 4},
        parts={"train": 4, "test": 4},
        said="the folders in those of the classes are the predefined split",
    ),
    Layout(
        "a test without classes waits for labels",
        pictures("train/cat", "train/dog", "test"),
        labels={"cat": 2, "dog": 2, None: 2},
        parts={"train": 4, "test": 2},
        said="the predefined split",
    ),
    Layout(
        "a folder around all",
        pictures("images/train/cat", "images/test/dog"),
        labels={"cat": 2, "dog": 2},
        parts={"train": 2, "test": 2},
        said="pics/images: the folders test, train",
    ),
    Layout(
        "a class that is named as a part",
        pictures("train", "bus"),
        labels={"train": 2, "bus": 2},
    ),
    Layout(
        "breeds below classes",
        pictures("cat/siamese", "dog/poodle"),
        labels={"cat": 2, "dog": 2},
        said="the classes are the folders cat, dog; what lies below them, as in pics/cat/siamese",
    ),
    Layout(
        "the same folders below others",
        pictures("2023/cat", "2023/dog", "2024/cat"),
        sentence=r"pics/2023 and pics/2024 both hold folders named cat, so it is not clear which "
        r"are the classes: write ingest.levels from the top: \[group, class\] if they are cat .*"
        r"\[split, class\] if 2023, 2024 are the parts .* or \[class\]",
    ),
    Layout(
        "the same folders two levels below others",
        pictures("seg_train/seg_train/cat", "seg_test/seg_test/cat"),
        sentence=r"\[group, level2, class\] if they are cat",
    ),
    Layout(
        "parts without classes",
        pictures("train", "test"),
        sentence=r"the folders test, train, which are named as parts of a split and hold no "
        r"folders of classes: .* write ingest.levels: \[class\]",
    ),
    Layout(
        "parts that are the classes",
        pictures("train", "test"),
        levels=["class"],
        labels={"train": 2, "test": 2},
    ),
    Layout(
        "levels of any name",
        pictures("2023/cat", "2024/cat", "2024/dog"),
        levels=["year", "class"],
        labels={"cat": 4, "dog": 2},
    ),
    Layout(
        "a part of another name",
        pictures("fit/cat", "late/dog"),
        levels=["split", "class"],
        split={"train": "fit", "test": ["late"]},
        labels={"cat": 2, "dog": 2},
        parts={"train": 2, "test": 2},
    ),
    Layout(
        "a part of another name that nothing explains",
        pictures("fit/cat", "late/dog"),
        levels=["split", "class"],
        sentence="the folder 'fit' is on the level of splits, and its name says neither train, "
        r"val nor test: write .* split: \{train: \[fit\]",
    ),
    Layout(
        "an empty folder", pictures("cat") | {"pics/dog": Path.mkdir}, sentence="pics/dog holds"
    ),
]
FILES = [
    Layout(
        "every format, by its content",
        {
            f"pics/cat/{form}": tiny.encode_image(Image.new("L", (4, 4)), form)
            for form in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
        },
        labels={"cat": 6},
    ),
    Layout(
        "the first of several frames",
        {
            "pics/cat/1.gif": animation("GIF"),
            "pics/cat/2.tif": animation("TIFF"),
            "pics/cat/3.webp": animation("WEBP"),
        },
        labels={"cat": 3},
        said="pics/cat: 3 images hold several frames, of which the first is read, such as "
        "pics/cat/1.gif",
    ),
    Layout(
        "what is no image",
        pictures("cat")
        | {
            "pics/cat/notes.txt": "x",
            "pics/cat/photo.heic": b"\0\0\0\x18ftypheic",
            "pics/cat/cut.png": PNG[:40],
            "pics/logo.png": PNG,
            "pics/labels/cat.xml": "<x/>",
        },
        labels={"cat": 2},
        rejects=[
            "not a readable image (",
            "files of type .txt are not read; PNG, JPEG, WebP, BMP, TIFF and GIF are: pics/cat/",
            "files of type .heic are not read",
            "it lies in no folder of a class: pics/logo.png",
            "files of type .xml are not read",
        ],
        said="pics: 1 file is not read, such as pics/logo.png: it lies in no folder of a class",
    ),
    Layout(
        "links and hidden files",
        pictures("cat")
        | {
            "pics/cat/gone.png": lambda path: path.symlink_to("nowhere.png"),
            "pics/cat/.DS_Store": "x",
            "pics/Thumbs.db": "x",
            "pics/dog": lambda path: path.symlink_to("cat", target_is_directory=True),
            "pics/cat/loop": lambda path: path.symlink_to("..", target_is_directory=True),
        },
        labels={"cat": 2, "dog": 2},
        rejects=["it is not a file, or a link to one that is gone"] * 2,
        said="pics: 3 hidden files are passed over, such as pics/Thumbs.db",
    ),
]


def check(layout: Layout, run: StageRun, part_column: str = "predefined_split") -> None:
    """Check what a layout became."""
    assert re.search(layout.sentence or "^$", run.error), run.error
    if layout.sentence:
        return
    assert Counter(row["label"] for row in run.rows) == layout.labels
    parts = Counter(row[part_column] for row in run.rows if part_column in row)
    assert parts == layout.parts
    details = [detail for _, detail in run.rejects()]
    unmatched = [start for start in layout.rejects if not any(start in text for text in details)]
    assert (unmatched, len(details)) == ([], len(layout.rejects)), details
    snapshot = run.report("raw/snapshot.json")
    assert snapshot["rows_in"] == snapshot["rows"] + snapshot["rejects"]
    assert [f"warning: {line}" for line in snapshot["warnings"]] == [
        line for line in run.output.splitlines() if line.startswith("warning: ")
    ]
    assert bool(layout.said) == bool([*run.warnings]) or layout.rejects
    assert layout.said in "\n".join(run.warnings)


@pytest.mark.parametrize("layout", [*FOLDERS, *FILES], ids=lambda layout: layout.name)
def test_folders_of_images_say_what_they_are(
    here: Path, capsys: pytest.CaptureFixture[str], layout: Layout
) -> None:
    write_inputs(layout.inputs)
    source: dict[str, Any] = {"kind": "images", "path": "pics"}
    if layout.levels:
        source["levels"] = layout.levels
    recipe = build_recipe("image", ingest=source, split=layout.split)
    check(layout, run_stages(recipe, capsys))


ROWS = "text,label\n{0} one,no\n{0} two,yes\n"
TABLES = [
    Layout(
        "files of other kinds in a folder",
        {
            "in/a.csv": ROWS.format("a"),
            "in/b.xlsx": b"PK",
            "in/deep/README": "x",
            "in/.b.csv": ROWS.format("b"),
        },
        labels={"no": 1, "yes": 1},
        rejects=["files of type .xlsx are not read; .csv, ", "files of type without a suffix"],
        said="in: 2 files are not read, such as in/b.xlsx",
    ),
    Layout(
        "files of other kinds in an archive",
        {
            "in/a.zip": build_zip(
                ("a.csv", ROWS.format("a").encode()), ("b.doc", b"x"), ("__MACOSX/._a.csv", b"x")
            )
        },
        labels={"no": 1, "yes": 1},
        rejects=["files of this type are not read: in/a.zip/b.doc"],
        said="in/a.zip: 1 file is not read",
    ),
    Layout(
        "files that are named as parts",
        {"in/my-train.csv": ROWS.format("a"), "in/my-test.csv": ROWS.format("b")},
        labels={"no": 2, "yes": 2},
        said="all rows are divided anew: to keep their parts write split: "
        "{test: [my-test.csv], train: [my-train.csv]}",
    ),
    Layout(
        "files that are parts",
        {
            "in/my-train.csv": ROWS.format("a"),
            "in/new/x.csv": ROWS.format("b"),
            "in/other.csv": ROWS.format("c"),
        },
        split={"train": "my-*.csv", "test": "new"},
        labels={"no": 3, "yes": 3},
        parts={"train": 2, "test": 2, None: 2},
    ),
    Layout(
        "a pattern without files",
        {"in/a.csv": ROWS.format("a")},
        split={"train": "a.csv", "test": "tset.csv"},
        sentence="split.test: 'tset.csv' matches no file of the source; it has in/a.csv",
    ),
    Layout(
        "a column",
        {"in/a.csv": "text,label,part\na,no,one\nb,yes,two\n"},
        split={"column": "part", "train": "one", "test": "two"},
        labels={"no": 1, "yes": 1},
        parts={"one": 1, "two": 1},
    ),
    Layout(
        "a column that is not there",
        {"in/a.csv": "text,label,part\na,no,one\nb,yes,two\n"},
        split={"column": "prat"},
        sentence=r"there is no column 'prat' \(did you mean part\?\).*correct split.column",
    ),
]


@pytest.mark.parametrize("layout", TABLES, ids=lambda layout: layout.name)
def test_no_file_is_passed_over_in_silence(
    here: Path, capsys: pytest.CaptureFixture[str], layout: Layout
) -> None:
    write_inputs(layout.inputs)
    source = {"kind": "files", "path": "in"}
    check(layout, run_stages(build_recipe("text", ingest=source, split=layout.split), capsys))


def test_an_unchanged_folder_keeps_its_warnings(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_inputs(pictures("train/cat", "test/dog") | {"pics/train/cat/x.txt": "x"})
    recipe = build_recipe("image", ingest={"kind": "images", "path": "pics"})
    first = run_stages(recipe, capsys)
    from tasks import ingest
    from tests.data_stages import PATHS

    before = PATHS.raw.snapshot.read_bytes()
    ingest.run(recipe, PATHS)
    assert PATHS.raw.snapshot.read_bytes() == before
    assert capsys.readouterr().out == first.output


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"val": 1.5}, "1.5: input should be less than 1 and above 0"),
        ({"train": 0.8}, "0.8 is a share, and train gets what val and test leave"),
        ({"test": []}, "must be a share of the rows, such as 0.1, or the values or files"),
        ({"test": ["b"]}, "names test and not train: name the values or files of train"),
        ({"train": ["a"], "test": ["a"]}, "has 'a' in train and in test: keep one"),
        ({"column": "x", "time": "y"}, "has a time beside a predefined split"),
    ],
)
def test_a_predefined_split_that_contradicts_itself_is_refused(
    section: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Split.model_validate(section)


@pytest.mark.parametrize(
    ("levels", "sentence"),
    [
        (["split"], "must name each level once, and one of them `class`"),
        (["a", "a", "class"], "must name each level once"),
        (["label", "class"], "levels has 'label', which is a column already"),
    ],
)
def test_levels_that_name_no_class_are_refused(
    here: Path, levels: list[str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_recipe("image", ingest={"kind": "images", "path": "x", "levels": levels})
