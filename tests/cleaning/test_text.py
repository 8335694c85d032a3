"""The cleaning rules one by one, and the page that shows what they did."""

import io
import random
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import daft
import ftfy
import numpy as np
import pyarrow as pa
import pytest
from daft import col
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from tasks.cleaning import RULES
from tasks.contracts.cleaning_report import CleaningReport
from tasks.core.errors import ConfigError
from tasks.recipe.cleaning_rules import CLEANING_RULES
from tasks.recipe.loading import read_recipe
from tasks.reports import html_pages
from tests import tiny
from tests.conftest import ROOT

ODD = [
    "a",
    "Ã©",
    "â€™",
    "é",
    "e\u0301",
    " ",
    "  ",
    "\t",
    "\n",
    " \n",
    "\r\n",
    "\r",
    "\u00a0",
    "\u3000",
    "\u200b",
    "\x00",
    "x",
    "“",
    "好",
    "<b>",
    "&lt;",
    "\u0085",
]


def changed(rule: str, texts: Sequence[str | None]) -> list[str | None]:
    plan = daft.from_arrow(pa.table({"text": pa.array(texts, pa.string())})).with_column(
        "text", RULES[rule].bind({}, "text").extend_expression(col("text"))
    )
    return list(plan.to_arrow()["text"].to_pylist())


def reasons(
    rule: str, table: dict[str, Any], modality: str = "text", **arguments: Any
) -> list[str | None]:
    rows = pa.table(
        {"id": [f"r{number}" for number in range(len(next(iter(table.values()))))], **table}
    )
    return RULES[rule].bind(arguments, modality).apply(rows).reasons or [None] * rows.num_rows


def mixed(count: int = 2000) -> list[str]:
    chance = random.Random(0)
    return ["".join(chance.choices(ODD, k=chance.randint(0, 12))) for _ in range(count)]


def test_every_rule_of_the_recipe_has_a_function_and_the_other_way_round() -> None:
    assert set(RULES) == set(CLEANING_RULES)


def test_encoding_and_unicode_do_what_ftfy_and_python_do_to_every_text() -> None:
    texts = [*mixed(), "plain words " * 9 + "donâ€™t" + " plain words" * 9, "schÃ¶n, wirklich"]
    assert changed("encoding", texts) == [ftfy.fix_encoding(text) for text in texts]
    assert changed("unicode", texts) == [unicodedata.normalize("NFC", text) for text in texts]


def test_white_space_leaves_single_blanks_single_breaks_and_at_most_one_empty_line() -> None:
    def slowly(text: str) -> str:
        text = re.sub("[\x00\u200b]", "", text.replace("\r\n", "\n").replace("\r", "\n"))
        return re.sub(
            r"\n{3,}", "\n\n", re.sub(r" ?\n ?", "\n", re.sub(r"[^\S\n]+", " ", text))
        ).strip()

    assert changed("white_space", mixed()) == [slowly(text) for text in mixed()]


def test_a_missing_text_stays_missing() -> None:
    for rule in ("encoding", "html", "unicode", "control", "white_space"):
        assert changed(rule, [None, "a"]) == [None, "a"]


def test_control_takes_what_nobody_sees_and_leaves_what_scripts_and_emoji_need() -> None:
    hidden = "pay\u202etxt.exe\u202c \u200bzero\u2060 so\u00adft \x1b[0m\x85 tag\U000e0041"
    assert changed("control", [hidden, "می\u200cخواهم 👩\u200d👧 ❤\ufe0f\ttab\nline\r\n"]) == [
        "paytxt.exe zero soft [0m tag",
        "می\u200cخواهم 👩\u200d👧 ❤\ufe0f\ttab\nline\r\n",
    ]


def test_language_rejects_what_it_is_sure_of_and_keeps_short_and_undecided_texts() -> None:
    texts = [
        "Wie kann ich meine neue Karte sperren?",
        "How do I block my new card?",
        "Karte sperren?",
        "xq 12 zz 991 qqq -- 77 11 x",
        None,
        "我的银行卡在哪里可以激活呢请告诉我一下谢谢",
    ]
    told = reasons("language", {"text": texts}, allow=["en"])
    assert [bool(reason) for reason in told] == [True, False, False, False, False, True]
    assert re.fullmatch(r"de with probability 0\.9\d; allowed are en", str(told[0]))
    assert reasons("language", {"text": texts}, allow=["en", "de", "zh"]) == [None] * 6
    with pytest.raises(
        ConfigError,
        match=(
            r"language.allow: 'xx' is not a language that can be identified; give the codes of "
            r"ISO 639-1, such as en"
        ),
    ):
        reasons("language", {"text": texts}, allow=["xx"])


@pytest.mark.parametrize(
    ("column", "equal", "other"),
    [("text", ["Pay  now", "pay now ", "PAY NOW"], "later"), ("image", [b"1", b"1", b"1"], b"2")],
)
def test_rows_of_equal_content_and_different_labels_are_all_rejected(
    column: str, equal: list[Any], other: Any
) -> None:
    table = {
        column: [*equal, other, other, equal[0]],
        "label": ["yes", "no", " yes", "no", "no", None],
    }
    assert (
        reasons("conflicting_duplicates", table, column)
        == ["equal rows are labelled no, yes"] * 3 + [None] * 3
    )


def test_conflicting_duplicates_of_a_table_are_rows_with_equal_cells() -> None:
    told = reasons(
        "conflicting_duplicates",
        {"age": ["3", "3", "4"], "town": ["x", "x", "x"], "label": ["a", "b", "b"]},
        "tabular",
    )
    assert told == ["equal rows are labelled a, b"] * 2 + [None]


@pytest.mark.parametrize(
    ("arguments", "bad"),
    [
        (
            {"exact": [5, 4]},
            ["4x5 pixels; allowed are exactly 5x4", "2x2 pixels; allowed are exactly 5x4"],
        ),
        (
            {"min": [4, 4], "max": [9, 9]},
            [None, "2x2 pixels; allowed are at least 4x4 and at most 9x9"],
        ),
    ],
)
def test_images_of_another_size_are_rejected_with_theirs(
    arguments: dict[str, Any], bad: list[str | None]
) -> None:
    shapes = [(4, 5), (5, 4), (2, 2)]
    images = [tiny.encode_image(np.zeros(shape, np.uint8)) for shape in shapes]
    assert reasons("size", {"image": [*images, b"GIF89a", None]}, **arguments) == [
        None,
        *bad,
        "not a readable image: UnidentifiedImageError",
        "not a readable image: UnidentifiedImageError",
    ]


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def test_a_photo_is_found_again_smaller_brighter_cut_and_recompressed() -> None:
    first, second = (Image.fromarray(array) for array in load_sample_images().images)
    copies = [
        first.resize((200, 133)),
        first.point(lambda value: min(255, int(value * 1.2))),
        first.crop((5, 5, 630, 420)),
    ]
    table = {
        "image": [
            jpeg(first),
            jpeg(second),
            *map(jpeg, copies),
            jpeg(first, 30),
            b"no image",
            jpeg(second.rotate(90)),
        ]
    }
    told = reasons("near_duplicates", table, "image")
    assert [bool(reason) for reason in told] == [False, False, True, True, True, True, False, False]
    assert re.fullmatch(r"(99|100)% like r0", str(told[2]))


def test_tiny_drawings_are_found_again_and_not_mistaken_for_each_other() -> None:
    pictures: list[NDArray[np.uint8]] = [
        (picture * 15).astype(np.uint8) for picture in load_digits().images[:400]
    ]
    faint = [(picture * 0.9).astype(np.uint8) for picture in pictures[:20]]
    told = reasons(
        "near_duplicates",
        {"image": [tiny.encode_image(picture) for picture in [*pictures, *faint]]},
        "image",
    )
    assert not any(told[:400])
    assert [str(reason).split(" like ")[1] for reason in told[400:]] == [
        f"r{number}" for number in range(20)
    ]


def test_blank_images_are_no_near_duplicates() -> None:
    assert (
        reasons(
            "near_duplicates",
            {
                "image": [
                    tiny.encode_image(np.full((8, 8), value, np.uint8)) for value in (0, 255, 0)
                ]
            },
            "image",
        )
        == [None] * 3
    )


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ("[{length: 3}]", r"length takes its arguments by name, as in {length: {min: 3}}, not 3"),
        (
            "[{length: {mni: 3}}]",
            r"length.mni: is not a known key \(did you mean min\?\). Known here: max, min.",
        ),
        ("[{length: {min: 3}, html: {}}]", r"each rule is a name or one name with its arguments"),
        ("[html: {deep: true}]", "html takes no arguments"),
        ("[language]", "language.allow: is missing; add it"),
        (
            "[{size: {min: [9, 9], max: [3, 3]}}]",
            r"has a min, \[9, 9\], above its max, \[3, 3\]: no image could fit",
        ),
        ("[size]", r"needs either exact, or min or max or both, each as \[width, height\]"),
        (
            "[exact_duplicates, conflicting_duplicates]",
            "conflicting_duplicates must come before exact_duplicates, which leaves one of equal "
            "rows",
        ),
    ],
)
def test_mistakes_in_rules_say_what_is_wrong_and_what_is_allowed(
    tmp_path: Path, rules: str, sentence: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(
        f"name: tiny\nmodality: text\ningest: {{kind: files, path: x.csv}}\n"
        f"clean: {{rules: {rules}}}\ngate: [{{rule: floor, metric: macro_f1, bound: 0.5}}]\n"
    )
    with pytest.raises(ConfigError, match=sentence):
        read_recipe(tmp_path / "recipe.yaml")


@pytest.mark.parametrize(
    ("rule", "modality", "sentence"),
    [
        (
            "html",
            "tabular",
            "the rule html works on modality text or causal_lm, and this recipe's is tabular",
        ),
        (
            "size: {min: [9, 9]}",
            "text",
            "the rule size works on modality image, and this recipe's is text",
        ),
        (
            "near_duplicates",
            "tabular",
            "the rule near_duplicates works on modality text or image or causal_lm, and this "
            "recipe's is tabular",
        ),
    ],
)
def test_a_rule_for_another_modality_is_refused_before_anything_runs(
    tmp_path: Path, rule: str, modality: str, sentence: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(
        f"name: tiny\nmodality: {modality}\ningest: {{kind: files, path: x.csv}}\n"
        f"clean: {{rules: [{rule}]}}\ngate: [{{rule: floor, metric: macro_f1, bound: 0.5}}]\n"
    )
    with pytest.raises(ConfigError, match=f"clean: {sentence}: leave it out"):
        read_recipe(tmp_path / "recipe.yaml")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests" / "recipes").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_recipe_of_the_tests_loads(path: Path) -> None:
    assert read_recipe(path).name == path.stem


REPORT = CleaningReport.model_validate(
    {
        "by_rule": {"types": 4},
        "files": [],
        "rows_in": 1234,
        "rows": 1200,
        "rejects": 34,
        "rules": [
            {
                "rule": "html",
                "changed": 617,
                "rejected": 0,
                "examples": [
                    {"id": "r1", "column": "text", "before": "<b>one</b> two", "after": "one two"}
                ],
            },
            {
                "rule": "types",
                "changed": 1,
                "rejected": 4,
                "examples": [
                    {"id": "r2", "column": "age", "before": None, "after": "3"},
                    {"id": "r3", "detail": "<script>"},
                ],
            },
            {"rule": "unicode", "changed": 0, "rejected": 0, "examples": []},
        ],
    }
)


def test_the_page_shows_counts_differences_and_reasons_and_needs_nothing_from_outside() -> None:
    shown = html_pages.render_page("cleaning", "tiny: clean", report=REPORT)
    assert "1,234 rows in, 1,200 out, 34 set aside (2.76 %)" in shown
    assert (
        '<del>&lt;b&gt;</del>one<del>&lt;/b&gt;</del> two</td><td class="text half">one two</td>'
        in shown
    )
    assert '<td class="text half"></td><td class="text half"><ins>3</ins></td>' in shown
    assert "&lt;script&gt;" in shown and "<script" not in shown
    assert "prefers-color-scheme: dark" in shown and not re.search(r"https?://|src=|@import", shown)
    assert shown == html_pages.render_page("cleaning", "tiny: clean", report=REPORT)


def test_differences_show_white_space_and_the_part_where_they_begin() -> None:
    before, after = html_pages.highlight_differences("a " * 500 + "b\t\u200bc", "a " * 500 + "b c")
    assert (
        before.startswith("…")
        and before.endswith("b<del>⇥⟨200B⟩</del>c")
        and after.endswith("b<ins>·</ins>c")
    )
    assert len(before) < 200
    assert (
        html_pages.highlight_differences("x" * 2000, "y" * 2000)[0]
        == f"<del>{'x' * html_pages.MAX_SHOWN_CHARACTERS}</del>…"
    )
