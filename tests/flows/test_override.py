"""A person promotes what the gate rejected: only with a name and a reason, both recorded, and never other bytes than those that were judged."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows import cli, promotion, terminal
from tasks.core.errors import StageError
from tasks.registry import channel_pointer, gate_evidence, journal, manifests, object_keys
from tasks.storage import files, object_store
from tasks.storage.object_store import ObjectStore
from tests.conftest import ROOT
from tests.flows.test_pipeline import Workspace
from tests.flows.test_pipeline import cold as cold  # noqa: F401
from tests.flows.test_pipeline import folders as folders  # noqa: F401

BY = {"actor": "ann", "reason": "the test rows of May are mislabelled"}


def published(store: ObjectStore, model: str, folder: Path, content: str) -> str:
    files.write_text(folder / "model.bin", content)
    return manifests.publish_version(
        store, model, folder, manifests.encode_manifest(model, folder, {}, {}, {})
    )


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--override"],
        ["--override", "--actor", "ann"],
        ["--override", "--actor", " ", "--reason", "x"],
        ["--actor", "ann"],
    ],
)
def test_without_an_actor_and_a_reason_nothing_is_overridden(
    given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(cli.main, ["promote", "digits", *given])
    assert done.exit_code == 2
    assert (
        "`millrace run digits` promotes what the gate allows; to promote what it does not, add --override, --actor NAME (who decides)"
        in done.output
    )


def test_an_override_is_in_evidence_and_journal_and_status_and_history_show_it(
    store: ObjectStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version = published(store, "over", tmp_path, "worse")
    verdict = {
        "verdict": "reject",
        "reason": "macro_f1 0.5000 must be at least 0.9.",
        "champion": None,
    }
    object_store.create_once(
        store, object_keys.evidence_key("over", version, None), files.encode_json(verdict)
    )
    with pytest.raises(StageError, match="does not allow this promotion"):
        channel_pointer.promote(
            store, "over", "production", version, verdict, None, "flow", "run 1"
        )
    assert channel_pointer.promote(
        store, "over", "production", version, {**verdict, "override": BY}, None, "ann", BY["reason"]
    ).won
    [record] = journal.read_history(store, "over", "production")
    assert (record["override"], record["actor"], record["reason"]) == (BY, "ann", BY["reason"])
    evidence = store.get(record["evidence"])
    assert evidence and json.loads(evidence[0]) == {**verdict, "override": BY}
    assert (
        gate_evidence.recorded_verdict(store, "over", version, None) == verdict
    )  # what the gate said stays
    terminal.print_history("over", [record])
    terminal.print_status("over", record, manifests.read_manifest(store, "over", version))
    assert capsys.readouterr().out.count("ann, overriding the gate") == 2


def test_evidence_for_another_champion_is_no_override(store: ObjectStore, tmp_path: Path) -> None:
    version = published(store, "another", tmp_path, "x")
    with pytest.raises(StageError, match="the evidence is for champion other"):
        channel_pointer.promote(
            store,
            "another",
            "production",
            version,
            {"verdict": "reject", "champion": "other", "override": BY},
            None,
            "ann",
            "y",
        )


def test_a_version_has_one_look_at_a_champion_however_often_it_asks_and_no_two_have_the_same(
    store: ObjectStore,
) -> None:
    assert [
        gate_evidence.claim_comparison_number(store, "looks", version, "v0")
        for version in ("a", "b", "a", "c", "b")
    ] == [1, 2, 1, 3, 2]
    assert (
        gate_evidence.claim_comparison_number(store, "looks", "c", "v1") == 1
    )  # another champion is another question
    names = [f"at once {number}" for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert sorted(
            pool.map(
                lambda name: gate_evidence.claim_comparison_number(store, "looks", name, "v2"),
                names,
            )
        ) == [
            1,
            2,
            3,
            4,
            5,
            6,
        ]


def test_a_rejection_is_kept_and_not_judged_again(here: Path, store: ObjectStore) -> None:
    files.write_json(
        Path("data/kept/gate.json"), {"verdict": "reject", "reason": "no", "champion": None}
    )
    first = promotion.judge_candidate.fn(store, "kept", "v1", None, None)
    files.write_json(
        Path("data/kept/gate.json"), {"verdict": "promote", "reason": "yes", "champion": None}
    )
    assert (
        promotion.judge_candidate.fn(store, "kept", "v1", None, None)
        == first
        == gate_evidence.recorded_verdict(store, "kept", "v1", None)
    )
    assert promotion.judge_candidate.fn(store, "kept", "v2", None, None)["verdict"] == "promote"
    assert (
        gate_evidence.recorded_verdict(store, "kept", "v2", None) is None
    )  # it is written with the promotion
    assert promotion.judge_candidate.fn(store, "kept", "v1", None, BY) == {**first, "override": BY}


@pytest.mark.slow
def test_a_rejected_model_is_promoted_by_a_person_and_other_bytes_are_not(
    cold: Workspace,  # noqa: F811
    tmp_path: Path,
) -> None:
    workspace = cold.copy(tmp_path)
    workspace.edit("recipes/digits.yaml", "bound: 0.3", "bound: 1.0")
    workspace.edit("recipes/digits.yaml", "epochs: 2", "epochs: 1")
    rejected = workspace.run("millrace", "run", "digits")
    assert rejected.returncode == 3, rejected.stdout + rejected.stderr
    override = (
        "millrace",
        "promote",
        "digits",
        "--override",
        "--actor",
        BY["actor"],
        "--reason",
        BY["reason"],
    )
    history = workspace.root / "data" / "digits" / "model" / "history.jsonl"
    known = history.read_bytes()
    history.chmod(0o644)
    history.write_bytes(known + b"\n")
    refused = workspace.run(*override)
    assert refused.returncode == 1
    assert "is not the model that was evaluated" in refused.stdout
    history.write_bytes(known)
    done = workspace.run(*override)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"ann overrode the verdict reject: {BY['reason']}" in done.stdout.splitlines()[-1]
    record: dict[str, Any] = workspace.record()
    assert (record["outcome"], record["verdict"], record["override"], record["stages"]) == (
        "Promoted",
        "reject",
        BY,
        [],
    )
    assert workspace.status()["override"] == BY
    assert "ann, overriding the gate" in workspace.run("millrace", "history", "digits").stdout
    assert workspace.run(*override).returncode == 0
    assert workspace.record()["outcome"] == "Unchanged"
    assert (
        "**ann** promoted it although the verdict was reject"
        in (workspace.root / "data" / "digits" / "card.md").read_text()
    )
    workspace.edit(
        "recipes/digits.yaml", "bound: 1.0", "bound: 0.05"
    )  # another version, with the same answers as the champion
    judged = workspace.run("millrace", "run", "digits")
    assert judged.returncode == 0, judged.stdout + judged.stderr
    champion = workspace.record()["checks"][1]
    assert (champion["rule"], champion["outcome"], champion["alpha"]) == (
        "champion",
        "pass",
        0.0125,
    )
    assert [name for name in workspace.objects() if "/looks/" in name] == [
        f"digits/looks/{record['version']}/000001.json"
    ]
    assert "override" not in workspace.status()
