"""Stages that need a GPU wait for one; others, and machines without, do not."""

import os
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from flows import gpus
from flows.dvc_graph import Stage
from tasks.core.errors import ConfigError
from tasks.storage.locks import file_lock
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
STAGE = Stage("train", "xor", 0, [], 60.0, ["gpu"], keeps=False)


def most_at_once(stage: Stage) -> int:
    """Of three threads that each hold the stage's slots for a while."""
    inside, most, held = list[str](), 0, 0

    def hold() -> None:
        nonlocal most, held
        with gpus.reserve_gpus(stage) as visible:
            mine = visible[-1] if visible else f"any {held}"
            inside.append(mine)
            held += 1
            assert len(set(inside)) == len(inside)  # no two have the same
            most = max(most, len(inside))
            time.sleep(0.5)
            inside.remove(mine)

    threads = [threading.Thread(target=hold) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert held == 3
    return most


def test_stages_with_the_tag_hold_one_slot_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with prefect_test_harness():
        monkeypatch.setenv("MILLRACE_GPUS", "1")
        assert most_at_once(STAGE) == 1
        assert most_at_once(replace(STAGE, tags=[])) == 3
        monkeypatch.setenv("MILLRACE_GPUS", "2")
        assert most_at_once(STAGE) == 2
        with gpus.reserve_gpus(
            replace(STAGE, recipe="cloud-docs-scratch", name="pretrain")
        ) as visible:
            assert visible == ["env", "CUDA_VISIBLE_DEVICES=0"]
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3")
        lock = Path(tempfile.gettempdir()) / f"millrace-{os.getuid()}-gpu-5"
        with (
            file_lock(lock),
            gpus.reserve_gpus(STAGE) as other,
        ):  # as a workspace with a Prefect server of its own holds it
            assert other[-1] == "CUDA_VISIBLE_DEVICES=3"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
        taken, begun = file_lock(lock), time.monotonic()
        taken.__enter__()
        threading.Timer(1.0, taken.__exit__, (None, None, None)).start()
        with gpus.reserve_gpus(STAGE) as one:
            assert (
                one[-1] == "CUDA_VISIBLE_DEVICES=5" and time.monotonic() - begun >= 1.0
            )  # it has waited, and never goes on without
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3")
        with gpus.reserve_gpus(STAGE) as one, gpus.reserve_gpus(STAGE) as other:
            assert (one[-1], other[-1]) == ("CUDA_VISIBLE_DEVICES=5", "CUDA_VISIBLE_DEVICES=3")
            with gpus.reserve_gpus(
                replace(STAGE, name="pretrain")
            ) as nothing:  # xor has no such section: it need not wait
                assert nothing == []


def test_a_number_of_gpus_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_GPUS", "all")
    with (
        pytest.raises(
            ConfigError, match="MILLRACE_GPUS is 'all': set it to how many GPUs runs may use"
        ),
        gpus.reserve_gpus(STAGE),
    ):
        pass
