"""How a run can end: the state's name, the sentence and the exit status."""

from flows import outcomes
from flows.outcomes import Failed, Superseded
from tasks.contracts.channel_pointer import ChannelPointer
from tasks.core.errors import StageError
from tasks.registry.channel_pointer import CurrentPointer
from tests.registry import examples


def test_each_outcome_has_an_exit_status_of_its_own_kind() -> None:
    assert outcomes.EXIT_STATUS_BY_NAME == {
        "Promoted": 0,
        "Unchanged": 0,
        "Rejected": 3,
        "Inconclusive": 4,
        "Frozen": 3,
        "Superseded": 5,
        "Failed": 1,
    }


def test_a_verdict_that_allows_no_promotion_ends_the_run() -> None:
    rejected = outcomes.of_verdict(examples.evidence("digits", "0123", "reject"))
    assert (rejected.name, rejected.message) == ("Rejected", "A rule is not met.")
    assert (
        outcomes.of_verdict(examples.evidence("digits", "0123", "inconclusive")).name
        == "Inconclusive"
    )


def test_a_superseded_run_says_which_version_won() -> None:
    record = ChannelPointer(
        generation=2,
        promotion_id="id",
        model="digits",
        channel="production",
        version="0123",
        previous=None,
        evidence="key",
        actor="ann",
        reason="a better model",
        time="2026-01-01T00:00:00+00:00",
    )
    outcome = Superseded("production", CurrentPointer(record, "etag"))
    assert outcome.message == (
        "production moved while this run was judged: it names 0123, promoted by ann "
        "(a better model)."
    )


def test_a_failure_is_its_error_as_a_sentence() -> None:
    assert Failed(StageError("The table is empty: fill it.")).message == (
        "The table is empty: fill it."
    )
