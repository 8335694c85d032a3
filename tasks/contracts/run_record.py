"""The record of a run: its stages, what the gate decided, and how the run ended."""

from typing import Literal

from tasks.contracts.base import Contract, Record
from tasks.contracts.evidence import Evidence
from tasks.contracts.validation_result import ValidationResult

StageState = Literal["ran", "restored", "cached", "failed"]


class StageMeasurements(Record):
    """What a stage used. None if it was not measured.

    Attributes:
        peak_memory_mib: The most memory that its process held, in MiB.
        peak_gpu_mib: The most memory of the GPU that it held, in MiB.
        energy_wh: Energy in watt-hours, as codecarbon estimates it.
        co2_g: Grams of CO2 for this energy.
        country: ISO 3166 code of the country whose mix of sources the CO2 was computed with.
    """

    peak_memory_mib: int | None = None
    peak_gpu_mib: int | None = None
    energy_wh: float | None = None
    co2_g: float | None = None
    country: str | None = None


class StageEntry(Record):
    """What a run did with one stage.

    Attributes:
        stage: The stage's address, such as `clean@digits`.
        state: `ran`; `restored` from DVC's cache; `cached`, if nothing had changed; `failed`.
        reasons: What had changed since the stage last ran.
        seconds: How long the stage took.
        measurements: What the stage used.
    """

    stage: str
    state: StageState
    reasons: list[str]
    seconds: float
    measurements: StageMeasurements = StageMeasurements()


class RunRecord(Contract):
    """One run of the flow. What the run did not reach is None or empty.

    Attributes:
        run: The id of the flow run.
        recipe: The recipe's name.
        commit: The commit that was checked out; None outside of git.
        started: When the run began, in ISO 8601 and UTC.
        ended: When it ended.
        stages: What it did with each stage, in order.
        version: The version that it made.
        channel: The channel that it was for.
        warnings: What the checks of the data warn of.
        evidence: What the gate decided.
        validation: What became of the version when it was loaded from the store.
        outcome: How the run ended, such as `Promoted`.
        message: The same as a sentence.
    """

    run: str
    recipe: str
    commit: str | None
    started: str
    ended: str
    stages: list[StageEntry]
    version: str | None
    channel: str | None
    warnings: list[str]
    evidence: Evidence | None
    validation: ValidationResult | None = None
    outcome: str
    message: str

    @classmethod
    def advice(cls) -> str:
        """Say what to do if a record cannot be read."""
        return "delete it; the next run writes its own"
