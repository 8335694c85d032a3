"""Stages that need a GPU wait for one; others, and machines without, do not."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from prefect.testing.utilities import prefect_test_harness

from flows import gpus
from flows.dvc_graph import Stage
from tasks.core.errors import ConfigError
from tasks.storage.locks import file_lock
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
TRAIN = Stage(
    name="train",
    recipe="xor",
    retries=0,
    backoff=[],
    timeout=60.0,
    tags=["gpu"],
    keeps_outputs=False,
)


@dataclass
class Gauge:
    """Counts how many threads hold GPUs at once."""

    held: list[str] = field(default_factory=list)
    peak: int = 0
    n_reservations: int = 0

    def hold(self, stage: Stage) -> None:
        """Reserve the stage's GPUs for a while."""
        with gpus.reserve_gpus(stage) as variables:
            self.n_reservations += 1
            name = variables[gpus.VISIBLE_VARIABLE] if variables else f"none {self.n_reservations}"
            self.held.append(name)
            assert len(set(self.held)) == len(self.held)  # no two have the same
            self.peak = max(self.peak, len(self.held))
            time.sleep(0.5)
            self.held.remove(name)


def peak_of_three(stage: Stage) -> int:
    """Return how many of three threads hold the stage's GPUs at once."""
    gauge = Gauge()
    threads = [threading.Thread(target=gauge.hold, args=(stage,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert gauge.n_reservations == 3
    return gauge.peak


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    """A Prefect server of this module's own."""
    with prefect_test_harness():
        yield


@pytest.fixture
def machine(prefect: None, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with two GPUs; returns what changes its environment."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MILLRACE_GPUS", "2")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


@pytest.mark.parametrize("limit", [1, 2])
def test_stages_with_the_tag_hold_one_slot_for_each_gpu(
    machine: pytest.MonkeyPatch, limit: int
) -> None:
    machine.setenv("MILLRACE_GPUS", str(limit))
    assert peak_of_three(TRAIN) == limit


def test_stages_without_the_tag_hold_none(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("MILLRACE_GPUS", "1")
    assert peak_of_three(replace(TRAIN, tags=[])) == 3


def test_a_stage_sees_its_gpu_alone(machine: pytest.MonkeyPatch) -> None:
    pretrain = replace(TRAIN, recipe="cloud-docs-scratch", name="pretrain")
    with gpus.reserve_gpus(pretrain) as variables:
        assert variables == {"CUDA_VISIBLE_DEVICES": "0"}


def test_a_gpu_that_another_workspace_holds_is_left_out(machine: pytest.MonkeyPatch) -> None:
    """That workspace has a Prefect server of its own, so only the lock file tells."""
    machine.setenv("CUDA_VISIBLE_DEVICES", "5,3")
    with file_lock(gpus.lock_path("5")), gpus.reserve_gpus(TRAIN) as variables:
        assert variables == {"CUDA_VISIBLE_DEVICES": "3"}


def test_a_stage_waits_for_a_gpu_and_never_goes_on_without(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("CUDA_VISIBLE_DEVICES", "5")
    is_taken = threading.Event()

    def hold_for_a_second() -> None:
        with file_lock(gpus.lock_path("5")):
            is_taken.set()
            time.sleep(1.0)

    thread = threading.Thread(target=hold_for_a_second)
    thread.start()
    assert is_taken.wait(10)
    start_time = time.monotonic()
    with gpus.reserve_gpus(TRAIN) as variables:
        assert variables == {"CUDA_VISIBLE_DEVICES": "5"}
        assert time.monotonic() - start_time >= 0.9
    thread.join()


def test_a_stage_whose_section_is_empty_need_not_wait(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("CUDA_VISIBLE_DEVICES", "5,3")
    with gpus.reserve_gpus(TRAIN) as first, gpus.reserve_gpus(TRAIN) as second:
        assert first == {"CUDA_VISIBLE_DEVICES": "5"}
        assert second == {"CUDA_VISIBLE_DEVICES": "3"}
        with gpus.reserve_gpus(replace(TRAIN, name="pretrain")) as variables:
            assert variables == {}


def test_a_number_of_gpus_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_GPUS", "all")
    sentence = "MILLRACE_GPUS is 'all': set it to how many GPUs runs may use"
    with pytest.raises(ConfigError, match=sentence), gpus.reserve_gpus(TRAIN):
        pass
