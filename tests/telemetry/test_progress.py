"""Progress, curves, memory and energy of a run, while it goes on and in its record."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flows import stage_process
from tasks.contracts.epoch_record import EpochRecord, History
from tasks.core import stage
from tasks.telemetry import energy, progress, tensorboard
from tasks.telemetry.progress import Progress
from tests.conftest import ROOT


def test_a_line_says_how_well_and_how_fast_it_goes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "REPORT_SECONDS", 0.0)
    history: History = []
    shown = Progress(90, 2, 0, True, "tokens", "macro_f1", history)
    shown.step(0, 1, 0.75, 640)
    history.append(EpochRecord(1, 45, 0.5, {"accuracy": 0.9, "macro_f1": 0.8125}))
    shown.epoch()
    shown.step(1, 46, 0.25, 640)
    first, done, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"epoch 1/2  step 1/90  loss 0\.7500  [\d,]+ tokens/s  \d+ s left", first)
    assert done == "epoch 1/2 done  loss 0.5000  val_macro_f1 0.8125  val_accuracy 0.9000"
    assert re.fullmatch(
        r"epoch 2/2  step 46/90  loss 0\.2500  val_macro_f1 0\.8125  [\d,]+ tokens/s  \d+ s left",
        last,
    )


STEP = """
import sys
from tasks.core import stage
from tasks.telemetry import energy
def work(name):
    with energy.measure_energy():
        held = b"x" * (64 << 20)
        print(len(held), 'codecarbon' in sys.modules)
stage.main(work, ["xor"])
"""


def test_memory_and_energy_go_to_the_record_and_nothing_is_written_or_printed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MILLRACE_COUNTRY", "DEU")
    command = [sys.executable, "-c", STEP]
    result = stage_process.run_process(command, "work", 60, lambda line: None)
    measured: Mapping[str, Any] = result.measurements
    assert result.lines == [f"{64 << 20} True"]
    assert measured["peak_memory_mib"] >= 64
    assert 0 < measured["energy_wh"] < 10
    assert 0 < measured["co2_g"] < 10
    assert measured["country"] == "DEU"
    assert not list(here.iterdir())


def test_nobody_who_asks_costs_nothing() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MILLRACE_STATUS"}
    done = subprocess.run(
        [sys.executable, "-c", STEP], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout == f"{64 << 20} False\n"


def test_measuring_asks_no_server(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any) -> None:
        raise AssertionError(f"connects to {arguments[1]}")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setenv("MILLRACE_STATUS", str(here / "status"))
    with energy.measure_energy():
        pass
    assert float(stage.RUN_MEASUREMENTS.pop("energy_wh")) >= 0
    stage.RUN_MEASUREMENTS.clear()


def test_curves_go_to_tensorboard_where_a_folder_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = [
        EpochRecord(1, 3, 0.5, {"accuracy": 0.75}),
        EpochRecord(2, 6, 0.25, {"accuracy": 1.0}),
    ]
    monkeypatch.delenv("MILLRACE_TENSORBOARD", raising=False)
    tensorboard.build_curve_writer("xor")(history)
    assert not list(here.iterdir())
    monkeypatch.setenv("MILLRACE_TENSORBOARD", str(here / "board"))
    write = tensorboard.build_curve_writer("xor")
    write(history[:1])
    write(history)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(here / "board" / "xor")).Reload()
    assert found.Tags()["scalars"] == ["loss", "val_accuracy"]
    assert {(event.step, event.value) for event in found.Scalars("val_accuracy")} == {
        (1, 0.75),
        (2, 1.0),
    }
