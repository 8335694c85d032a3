"""Personal data: what is found, what replaces it, and that its values appear nowhere else."""

import base64
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

from flows.cli import main
from tasks import clean, ingest
from tasks.cleaning import pii_encryption
from tasks.cleaning.pii import protect_pii
from tasks.cleaning.pii_recognizers import find_pii
from tasks.core.errors import ConfigError, StageError
from tasks.recipe.cleaning_rules import Pii
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.storage import files
from tasks.storage.layout import StagePaths
from tests.conftest import ROOT

REAL = ROOT.parent / "shared" / "data" / "presidio_pii" / "generated_large.json"
KINDS = frozenset(Pii().kinds)
OF_TYPE = {
    "CREDIT_CARD": "card",
    "PHONE_NUMBER": "phone",
    "EMAIL_ADDRESS": "email",
    "US_SSN": "id",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "DOMAIN_NAME": "url",
}
KEY = base64.b64encode(bytes(range(32))).decode()
VALUES = [
    "020 7946 0123",
    "ada@example.com",
    "4242 4242 4242 4242",
    "GB82 WEST 1234 5698 7654 32",
    "192.0.2.44",
    "219-09-9999",
]
TEXT = "Call {} or mail {}; card {}, account {}, from {}, number {}."


def done(text: str, action: str = "mask", **arguments: Any) -> str:
    """The text after the rule."""
    section = Pii(action=action, **arguments)  # type: ignore[arg-type]
    outcome = protect_pii(pa.table({"text": [text]}), "text", **dict(section))
    return str(outcome.table["text"][0])


def recipe(here: Path, pii: str, rows: list[str]) -> Recipe:
    (here / "source.csv").write_text("\n".join(["id,text,label", *rows]) + "\n")
    (here / "recipe.yaml").write_text(
        "name: tiny\nmodality: text\ningest: {kind: files, path: source.csv}\ncolumns: {id: id}\n"
        "max_dropped: 1\n"
        f"clean: {{rules: [encoding, html, white_space, {{length: {{min: 2}}}}, {pii}, "
        f"exact_duplicates]}}\n"
        "gate: [{rule: floor, metric: macro_f1, bound: 0.5}]\n"
    )
    return read_recipe(here / "recipe.yaml")


def cleaned(here: Path, pii: str, rows: list[str]) -> dict[str, Any]:
    made = recipe(here, pii, rows)
    ingest.run(made, StagePaths(here))
    clean.run(made, StagePaths(here))
    report: dict[str, Any] = files.read_json(here / "clean" / "report.json")
    return report


@pytest.mark.skipif(
    not REAL.is_file(), reason="Presidio's generated texts are not beside the repository"
)
def test_recall_on_presidio_s_texts_is_above_95_percent_for_types_with_a_form() -> None:
    """A span is found if each of its characters lies in findings.

    A finding is precise if it touches a span of a type with a form.
    """
    spans, found, precise, all_found = Counter[str](), Counter[str](), 0, 0
    for row in json.loads(REAL.read_text(encoding="utf-8")):
        findings = find_pii(row["full_text"], KINDS | {"url"})
        wanted = [span for span in row["spans"] if span["entity_type"] in OF_TYPE]
        hidden = {at for one in findings for at in range(one.start, one.end)}
        spans.update(span["entity_type"] for span in wanted)
        found.update(
            span["entity_type"]
            for span in wanted
            if hidden.issuperset(range(span["start_position"], span["end_position"]))
        )
        all_found += len(findings)
        precise += sum(
            any(
                span["start_position"] < one.end and one.start < span["end_position"]
                for span in wanted
            )
            for one in findings
        )
    assert set(spans) == set(OF_TYPE)
    assert {
        kind: found[kind] / spans[kind] for kind in spans if found[kind] / spans[kind] < 0.95
    } == {}
    assert precise / all_found > 0.97


def test_each_kind_has_its_name() -> None:
    assert done(TEXT.format(*VALUES)) == TEXT.format(
        "[phone]", "[email]", "[card]", "[iban]", "[ip]", "[id]"
    )
    assert (
        done("Formulier: 2001:db8::7 of https://example.org/a?b=c", kinds=["ip", "url"])
        == "Formulier: [ip] of [url]"
    )


@pytest.mark.parametrize(
    "text",
    [
        "It cost 12 000 000 in 2019 2020, from 2021-03-04 10:15:30 to 12.05.1999, 4242 4242 4242 "
        "4243 of them.",
        "800-450 = 350 and 6000-5400 = 600, so 28 980 - 18 480; 10 12 14 and 16:30, version "
        "1.2.3.4.5",
        "npm i react@18.2.0 lodash@latest; class A1B2C3D4E5; sha "
        "9f86d081884c7d659a2feaa0c55ad015; pages 100-200",
    ],
)
def test_dates_sums_versions_and_cards_with_a_wrong_checksum_stay(text: str) -> None:
    assert done(text) == text


def test_of_findings_that_overlap_nothing_is_left_over() -> None:
    assert (
        done("4242424242424242x99 and anna.4242424242424242@example.com")
        == "4242424242424242x99 and [email]"
    )
    assert (
        done("see http://example.org/?user=ada@example.org&x=1 now", kinds=["email", "url"])
        == "see [email] now"
    )


def test_digits_of_other_scripts_are_digits() -> None:
    assert done("اتصل ٠٢٠ ٧٩٤٦ ٠١٢٣ الآن") == "اتصل [phone] الآن"


def test_words_need_no_spaces_around_them_in_scripts_that_have_none() -> None:
    text = "卡号4242424242424242,电话13812345678号,邮箱ada@example.com谢谢,2021年03月04日"
    assert done(text) == "卡号[card],电话[phone]号,邮箱[email]谢谢,2021年03月04日"


def test_dropped_rows_are_masked_in_the_rejects_and_the_detail_names_kinds_alone(
    here: Path,
) -> None:
    report = cleaned(
        here,
        "pii: drop",
        [f"r1,write to {VALUES[1]} or {VALUES[1]} or {VALUES[0]},yes", "r2,nothing personal,no"],
    )
    assert (report["rows"], report["rejects"]) == (1, 1)
    [row] = files.read_table(here / "clean" / "rejects.parquet").to_pylist()
    assert (row["rule"], row["detail"], row["text"]) == (
        "pii",
        "2 email, 1 phone",
        "write to [email] or [email] or [phone]",
    )


@pytest.mark.parametrize("action", ["mask", "drop", "hash", "encrypt"])
def test_no_value_reaches_an_output_a_report_or_the_page(
    here: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setenv(pii_encryption.KEY_VARIABLE, KEY)
    hidden = VALUES[1].replace("@", "&#64;")  # seen by no recogniser before the rule html
    rows = [
        f'r{number},"<p>{value}</p>  at {number}",yes'
        for number, value in enumerate([*VALUES, hidden])
    ]
    cleaned(here, f"pii: {action}", [*rows, "s1,<p>plain</p>  text,no", "s2,x,no"])
    for path in (path for path in (here / "clean").rglob("*") if path.is_file()):
        shown = (
            files.read_table(path).to_pylist().__repr__()
            if path.suffix == ".parquet"
            else path.read_text()
        )
        assert not [value for value in [*VALUES, hidden, KEY] if value in shown], path
    page = (here / "clean" / "index.html").read_text()
    assert "<del>&lt;p&gt;</del>plain" in page
    assert "█████" in page or action == "drop"


def test_hashes_ignore_separators_and_depend_on_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(pii_encryption.KEY_VARIABLE, KEY)
    first, again, other = (
        done(f"call {value}", "hash")
        for value in ("020 7946 0123", "020-7946-0123", "020 7946 0124")
    )
    assert first == again != other
    monkeypatch.setenv(pii_encryption.KEY_VARIABLE, base64.b64encode(bytes(32)).decode())
    assert done("call 020 7946 0123", "hash") != first


def test_what_was_encrypted_is_revealed_and_equal_values_encrypt_to_equal_bytes(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(pii_encryption.KEY_VARIABLE, KEY)
    text = TEXT.format(*VALUES)
    secret = done(text, "encrypt")
    assert secret == done(text, "encrypt")
    assert not [value for value in VALUES if value in secret]
    (here / "letter.txt").write_text(secret)
    assert CliRunner().invoke(main, ["reveal", "letter.txt"]).output == text
    assert CliRunner().invoke(main, ["reveal"], input=f"{secret}\n").output == f"{text}\n"


def test_a_wrong_key_or_a_changed_value_ends_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(pii_encryption.KEY_VARIABLE, KEY)
    secret = "first line\n" + done(f"mail {VALUES[1]}", "encrypt")
    with pytest.raises(
        StageError,
        match=(
            "line 2: the phone there was encrypted with another key than MILLRACE_PII_KEY holds, "
            "or was changed since"
        ),
    ):
        pii_encryption.decrypt_text(secret.replace("[email", "[phone"))
    monkeypatch.setenv(pii_encryption.KEY_VARIABLE, base64.b64encode(bytes(32)).decode())
    result = CliRunner().invoke(main, ["reveal"], input=secret)
    assert result.exit_code == 1
    assert result.output == f"error: {sentence(pii_encryption.decrypt_text, secret)}\n"


def sentence(function: Any, *arguments: Any) -> str:
    with pytest.raises(StageError) as caught:
        function(*arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (None, "is not set"),
        ("hunter2", r"is not 32 bytes or more in base64 \(7 characters\)"),
        ("c2hvcnQ=", "is not 32 bytes"),
    ],
)
def test_a_missing_or_weak_key_is_refused_with_how_to_make_one(
    monkeypatch: pytest.MonkeyPatch, given: str | None, problem: str
) -> None:
    monkeypatch.delenv(pii_encryption.KEY_VARIABLE, raising=False)
    if given:
        monkeypatch.setenv(pii_encryption.KEY_VARIABLE, given)
    for action in ("hash", "encrypt"):
        with pytest.raises(
            ConfigError,
            match=f"MILLRACE_PII_KEY {problem}.*make a key with `openssl rand -base64 32`",
        ) as caught:
            done("nothing at all", action)
        assert not given or given not in str(caught.value)


def test_only_the_named_columns_are_searched_and_in_a_table_all_that_are_text() -> None:
    table = pa.table({"id": ["a@b.org"], "note": ["c@d.org"], "owner": ["e@f.org"], "age": [3]})
    assert protect_pii(table, "tabular", **Pii().model_dump()).table.to_pylist() == [
        {"id": "a@b.org", "note": "[email]", "owner": "[email]", "age": 3}
    ]
    assert (
        protect_pii(table, "tabular", **Pii(columns=["owner"]).model_dump()).table.to_pylist()[0][
            "note"
        ]
        == "c@d.org"
    )
    with pytest.raises(
        StageError,
        match=(
            r"clean: pii: the data has no column 'ownr' \(did you mean owner\?\); it has id, "
            r"note, owner, age"
        ),
    ):
        protect_pii(table, "tabular", **Pii(columns=["ownr"]).model_dump())
    with pytest.raises(
        StageError, match="clean: pii works on text, and the column 'age' holds int64"
    ):
        protect_pii(table, "tabular", **Pii(columns=["age"]).model_dump())


def test_nothing_is_fetched_written_or_logged(tmp_path: Path) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*_): sys.exit('a connection was tried')\n"
        "socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse\n"
        "from tasks.cleaning.pii_recognizers import find_pii\n"
        f"print(len(find_pii({TEXT.format(*VALUES)!r}, frozenset({sorted(KINDS | {'url'})}))))\n"
    )
    home = {
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | home,
    )
    assert (ended.stdout, ended.stderr) == ("6\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_search_that_takes_too_long_ends_the_step_rather_than_let_the_text_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find_pii("a@b.org", KINDS)
    monkeypatch.setattr("presidio_analyzer.pattern_recognizer.REGEX_TIMEOUT_SECONDS", 1e-9)
    with pytest.raises(
        StageError,
        match=(
            "pii: a text took longer than 60 s to search: put `length` with a smaller max before "
            "`pii`"
        ),
    ):
        find_pii("a." * 5000 + "@" + "b-" * 5000, KINDS)


def test_names_need_a_model_that_is_installed(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=(
            "person and place need a spaCy model, and none is installed: run `python -m spacy "
            "download en_core_web_sm`"
        ),
    ):
        done("Ada Lovelace lived in London", kinds=["person"])
    import spacy

    model = spacy.blank("en")
    names = {"PERSON": "Ada Lovelace", "GPE": "London"}
    patterns = [{"label": kind, "pattern": name} for kind, name in names.items()]
    ruler = model.add_pipe("entity_ruler")
    ruler.add_patterns(patterns)  # type: ignore[attr-defined]
    package = tmp_path / "en_two_names"
    package.mkdir()
    model.to_disk(package / "model")
    (package / "__init__.py").write_text(
        "import pathlib, spacy\n\ndef load(**given):\n"
        "    return spacy.load(pathlib.Path(__file__).parent / 'model')\n"
    )
    about = tmp_path / "en_two_names-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: en_two_names\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[spacy_models]\nen_two_names = en_two_names\n")
    code = (
        "import pyarrow as pa\nfrom tasks.cleaning.pii import protect_pii\n"
        "table = pa.table({'text': ['Ada Lovelace (ada@example.com) lived in London']})\n"
        "print(protect_pii(table, 'text', 'mask', ['person', 'place', 'email'], "
        "None).table['text'][0])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"},
    )
    assert (ended.stdout, ended.stderr) == ("[person] ([email]) lived in [place]\n", "")


def test_the_short_form_is_the_action(here: Path) -> None:
    assert recipe(here, "pii: hash", []).clean.rules[4] == {"pii": Pii(action="hash").model_dump()}
    with pytest.raises(
        ConfigError,
        match=(
            r"pii.action: 'msk' is not allowed \(did you mean mask\?\). Allowed: mask, drop, "
            r"hash, encrypt."
        ),
    ):
        recipe(here, "pii: msk", [])
    with pytest.raises(
        ConfigError, match=r"pii.kinds\[0\]: 'emial' is not allowed \(did you mean email\?\)"
    ):
        recipe(here, "pii: {kinds: [emial]}", [])
