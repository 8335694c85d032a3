"""docs/schemas/: every file between stages has a JSON schema, and it is fresh."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts.base import Contract
from tests import contract_schemas
from tests.conftest import ROOT
from tests.registry import examples

CONTRACTS = contract_schemas.list_contracts()
ADVICE = "run `python -m tests.contract_schemas --write`"
KINDS = {"string": str, "integer": int, "object": dict, "array": list}  # types of JSON


def read_schema(contract: type[Contract]) -> dict[str, Any]:
    path = contract_schemas.FOLDER / contract_schemas.file_name(contract)
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


def test_the_schemas_are_fresh() -> None:
    rendered = contract_schemas.render_files()
    present = {path.name: path.read_text("utf-8") for path in contract_schemas.FOLDER.iterdir()}
    assert present == rendered, ADVICE


def test_every_module_with_a_contract_has_a_schema() -> None:
    modules = {contract.__module__.rpartition(".")[2] for contract in CONTRACTS}
    expected = set()
    for path in (ROOT / "tasks" / "contracts").glob("[!_]*.py"):
        bases = re.findall(r"^class \w+\((\w+)\):", path.read_text(), re.MULTILINE)
        if {"Contract", "SignedContract", "StageReport"} & set(bases):
            expected.add(path.stem)
    assert len(expected) >= 12
    assert expected - modules == {"signed", "stage_report"}  # what other contracts extend


@pytest.mark.parametrize("contract", CONTRACTS, ids=contract_schemas.file_name)
def test_a_schema_fixes_the_version_and_the_keys(contract: type[Contract]) -> None:
    schema = read_schema(contract)
    assert schema["properties"]["schema_version"]["const"] == contract.VERSION
    assert "schema_version" in schema["required"]
    assert schema["additionalProperties"] is False
    assert schema["description"]


@pytest.mark.parametrize(
    "content", [examples.verdict(), examples.evidence("digits", "0123")], ids=type
)
def test_a_written_file_has_the_keys_and_types_of_its_schema(
    content: Contract, tmp_path: Path
) -> None:
    schema = read_schema(type(content))
    content.write(tmp_path / "file.json")
    written = json.loads((tmp_path / "file.json").read_text())
    assert set(schema["required"]) <= set(written) <= set(schema["properties"])
    for key, value in written.items():
        kind = schema["properties"][key].get("type")
        assert isinstance(value, KINDS.get(kind, object)), key
