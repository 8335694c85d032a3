"""A person promotes what the gate did not allow: only with a name and a reason, both recorded."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows import cli, promotion, terminal
from flows.candidates import Candidate
from tasks.contracts.evidence import Evidence, Override
from tasks.contracts.gate_verdict import ComparisonResult
from tasks.core.errors import StageError
from tasks.registry import gate_evidence, journal, manifests, moves
from tasks.registry.registry import Registry
from tests.conftest import ROOT
from tests.flows.workspace import Workspace
from tests.registry import examples

OVERRIDE = Override(actor="ann", reason="the test rows of May are mislabelled")
PROMOTE_COMMAND = (
    *("millrace", "promote", "digits", "--override"),
    *("--actor", OVERRIDE.actor, "--reason", OVERRIDE.reason),
)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--override"],
        ["--override", "--actor", "ann"],
        ["--override", "--actor", " ", "--reason", "x"],
        ["--actor", "ann"],
    ],
)
def test_without_an_actor_and_a_reason_nothing_is_overridden(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(cli.main, ["promote", "digits", *options])
    assert done.exit_code == 2
    assert (
        "`millrace run digits` promotes what the gate allows; to promote what it does not, add "
        "--override, --actor NAME (who decides)"
    ) in done.output


def test_an_override_is_recorded_beside_the_verdict_and_shown(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version = examples.publish(registry, "over", tmp_path, "worse")
    verdict = examples.evidence("over", version, "reject")
    gate_evidence.write_evidence(registry, verdict)
    with pytest.raises(StageError, match="does not allow this promotion"):
        moves.promote(registry, examples.promotion(verdict))

    overridden = examples.evidence("over", version, "reject", override=OVERRIDE)
    attempt = examples.promotion(overridden, actor="ann")
    assert moves.promote(registry, attempt).won
    [record] = journal.read_history(registry, "over", examples.CHANNEL).records
    assert (record.override, record.actor) == (OVERRIDE, "ann")
    assert record.evidence
    stored = registry.store.get(record.evidence)
    assert stored
    written = Evidence.parse(json.loads(stored[0]), record.evidence)
    assert written.to_payload() == overridden.to_payload()
    kept = gate_evidence.read_evidence(registry, "over", examples.CHANNEL, version, None)
    assert kept
    assert kept.to_payload() == verdict.to_payload()

    terminal.print_history("over", [record], {version: None})
    manifest = manifests.read_manifest(registry, "over", version)
    provenance = manifests.read_provenance(registry, "over", version)
    terminal.print_status(record, manifest, provenance)
    assert capsys.readouterr().out.count("ann, overriding the gate") == 2


def test_evidence_for_another_champion_is_no_override(registry: Registry, tmp_path: Path) -> None:
    version = examples.publish(registry, "another", tmp_path, "x")
    evidence = examples.evidence("another", version, "reject", "other", OVERRIDE)
    with pytest.raises(StageError, match="the evidence is for champion other"):
        moves.promote(registry, examples.promotion(evidence))


def test_a_version_has_one_comparison_with_a_champion_however_often_it_asks(
    registry: Registry,
) -> None:
    claim = partial(gate_evidence.claim_comparison_number, registry, "claims")
    versions = ("a", "b", "a", "c", "b")
    assert [claim(version, "v0") for version in versions] == [1, 2, 1, 3, 2]
    assert claim("c", "v1") == 1  # another champion is another question


def test_no_two_versions_have_the_same_comparison_number(registry: Registry) -> None:
    claim = partial(gate_evidence.claim_comparison_number, registry, "claims", champion="v2")
    with ThreadPoolExecutor(6) as pool:
        numbers = list(pool.map(claim, [f"at once {number}" for number in range(6)]))
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]


def test_a_rejection_is_kept_and_not_judged_again(here: Path, registry: Registry) -> None:
    def candidate(python: str) -> Candidate:
        manifest = examples.manifest_of("kept", here, runtime={"python": python})
        return Candidate("kept", examples.CHANNEL, manifest, examples.provenance(manifest))

    def judge(candidate: Candidate, override: Override | None = None) -> Evidence:
        evidence = promotion.judge_candidate.fn(registry, candidate, None, override)
        return evidence.model_copy(update={"signature": None})

    def recorded(version: str) -> Evidence | None:
        return gate_evidence.read_evidence(registry, "kept", examples.CHANNEL, version, None)

    gate_file = Path("data/kept/gate.json")
    rejected, allowed = candidate("3.11"), candidate("3.12")
    examples.verdict("reject").write(gate_file)
    first = judge(rejected)
    examples.verdict("promote").write(gate_file)
    assert judge(rejected) == first
    kept = recorded(rejected.version)
    assert kept
    assert kept.to_payload() == first.to_payload()
    assert judge(allowed).verdict == "promote"
    # A verdict that allows the promotion is written with the promotion.
    assert recorded(allowed.version) is None
    assert judge(rejected, OVERRIDE) == first.model_copy(update={"override": OVERRIDE})


@pytest.fixture
def rejected(cold: Workspace, tmp_path: Path) -> Workspace:
    """A workspace in which the gate has rejected a model."""
    workspace = cold.copy(tmp_path)
    workspace.edit("recipes/digits.yaml", "bound: 0.3", "bound: 1.0")
    workspace.edit("recipes/digits.yaml", "epochs: 2", "epochs: 1")
    done = workspace.retrain()
    assert done.returncode == 3, done.stdout + done.stderr
    return workspace


@pytest.mark.slow
def test_a_rejected_model_is_promoted_by_a_person_and_other_bytes_are_not(
    rejected: Workspace,
) -> None:
    check_other_bytes_are_refused(rejected)
    check_override_promotes(rejected)
    check_next_version_is_compared(rejected)
    check_rollback_is_not_undone_by_a_run(rejected)


def check_other_bytes_are_refused(workspace: Workspace) -> None:
    history = workspace.paths().model.history
    content = history.read_bytes()
    history.chmod(0o644)
    history.write_bytes(content + b"\n")
    refused = workspace.run(*PROMOTE_COMMAND)
    assert refused.returncode == 1
    assert "is not the model that was evaluated" in refused.stdout
    history.write_bytes(content)


def check_override_promotes(workspace: Workspace) -> None:
    done = workspace.run(*PROMOTE_COMMAND)
    assert done.returncode == 0, done.stdout + done.stderr
    sentence = f"ann overrode the verdict reject: {OVERRIDE.reason}"
    assert sentence in done.stdout.splitlines()[-1]
    record = workspace.record()
    assert record.evidence
    assert (record.outcome, record.stages) == ("Promoted", [])
    assert (record.evidence.verdict, record.evidence.override) == ("reject", OVERRIDE)
    assert workspace.status()["override"] == OVERRIDE.model_dump()
    assert "ann, overriding the gate" in workspace.run("millrace", "history", "digits").stdout
    card = workspace.paths().model_card.read_text()
    assert "**ann** promoted it although the verdict was reject" in card
    assert workspace.run(*PROMOTE_COMMAND).returncode == 0
    assert workspace.record().outcome == "Unchanged"


def check_next_version_is_compared(workspace: Workspace) -> None:
    champion = workspace.record().version
    # Another recipe makes another version, here with the same predictions as the champion.
    workspace.edit("recipes/digits.yaml", "bound: 1.0", "bound: 0.05")
    done = workspace.retrain()
    assert done.returncode == 0, done.stdout + done.stderr
    evidence = workspace.record().evidence
    assert evidence
    result = evidence.gate.checks[1]
    assert isinstance(result, ComparisonResult)
    assert (result.rule, result.outcome, result.alpha) == ("champion", "pass", 0.0125)
    claims = [name for name in workspace.objects() if "/comparisons/" in name]
    assert claims == [f"digits/comparisons/{champion}/000001.json"]
    assert workspace.status()["override"] is None


def check_rollback_is_not_undone_by_a_run(workspace: Workspace) -> None:
    before = workspace.status()
    rollback = ("millrace", "rollback", "digits", "--actor", "ann", "--reason", "wrong answers")
    done = workspace.run(*rollback)
    assert done.returncode == 0, done.stdout + done.stderr
    after = workspace.status()
    assert (after["version"], after["frozen"]) == (before["previous"], True)
    refused = workspace.run("millrace", "promote", "digits", "--channel", "production")
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert "Frozen: production of digits is frozen since" in refused.stdout
    staged = workspace.run("millrace", "promote", "digits", "--channel", "staging")
    assert staged.returncode == 0, staged.stdout + staged.stderr
    shown = workspace.run("millrace", "status", "--channel", "staging", "--json").stdout
    [staging] = [entry for entry in json.loads(shown) if entry["recipe"] == "digits"]
    assert staging["pointer"]["version"] == before["version"]
