"""The energy that a stage uses, as codecarbon estimates it offline. It goes to the run record: a stage's outputs are the same wherever it runs."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from tasks.core import stage

COUNTRY_VARIABLE = "MILLRACE_COUNTRY"  # ISO 3166 code of three letters, whose mix of sources makes kilowatt-hours into CO₂; it belongs to the machine, not to a recipe


@contextlib.contextmanager
def measure_energy() -> Iterator[None]:
    """Note what the work inside uses, where a run record asks for it and codecarbon is installed."""
    tracker = start_tracker() if os.environ.get("MILLRACE_STATUS") else None
    try:
        yield
    finally:
        if tracker:
            tracker.stop()
            found = tracker.final_emissions_data
            stage.RUN_MEASUREMENTS.update(
                energy_wh=round(found.energy_consumed * 1000, 6),
                co2_g=round(found.emissions * 1000, 6),
                country=found.country_iso_code,
            )


def start_tracker() -> Any:
    """A tracker of this process that asks no server, writes no file and says nothing; None where there is none."""
    try:
        import codecarbon
    except ModuleNotFoundError:
        return None
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    tracker = codecarbon.OfflineEmissionsTracker(
        country_iso_code=os.environ.get(COUNTRY_VARIABLE, "USA"),
        output_methods=[],
        tracking_mode="process",
        allow_multiple_runs=True,
        log_level="critical",
    )
    tracker.start()
    return tracker
