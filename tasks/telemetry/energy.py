"""The energy that a stage uses, estimated offline by codecarbon.

It goes to the run record, because a stage's outputs must be the same wherever it runs.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from tasks.core import stage
from tasks.core.settings import read_settings


@contextlib.contextmanager
def measure_energy() -> Iterator[None]:
    """Add the energy used inside the block to the run record.

    Nothing is measured if no run supervises this process, or codecarbon is not installed.
    """
    tracker = start_tracker() if read_settings().status else None
    try:
        yield
    finally:
        if tracker:
            tracker.stop()
            emissions = tracker.final_emissions_data
            stage.RUN_MEASUREMENTS.update(
                energy_wh=round(emissions.energy_consumed * 1000, 6),
                co2_g=round(emissions.emissions * 1000, 6),
                country=emissions.country_iso_code,
            )


def start_tracker() -> Any:
    """Start a tracker that asks no server and writes no file; None without codecarbon."""
    try:
        import codecarbon
    except ModuleNotFoundError:
        return None
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    tracker = codecarbon.OfflineEmissionsTracker(
        country_iso_code=read_settings().country,
        output_methods=[],
        tracking_mode="process",
        allow_multiple_runs=True,
        log_level="critical",
    )
    tracker.start()
    return tracker
