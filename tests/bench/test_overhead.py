"""What the flow costs over the bare stages.

The same recipe runs from cold by `python -m tasks.<step>`, by `dvc repro` and by `millrace run`.

make bench
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from tests.conftest import ROOT

RECIPE = "digits"
COPIED = [
    "dvc.yaml",
    "constraints.txt",
    "tasks",
    "flows",
    "recipes",
    "data/sources",
    ".dvc/config",
    ".dvcignore",
]
ORDER = [
    "resolve",
    "ingest",
    "check_raw",
    "clean",
    "label",
    "split",
    "check_ready",
    "tune",
    "train",
    "evaluate",
    "gate",
]


def timed(command: list[str], folder: Path) -> float:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MILLRACE_", "PREFECT_", "DVC_"))
    }
    environment |= {
        "PYTHONPATH": str(folder),
        "PATH": str(Path(sys.executable).parent) + os.pathsep + environment["PATH"],
    }
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return time.perf_counter() - begun


def workspace(folder: Path) -> Path:
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    (folder / "data" / RECIPE).mkdir()
    (folder / "data" / RECIPE / "erase.csv").write_text("id\n")
    (folder / "params.yaml").write_text(yaml.safe_dump({"recipes": [RECIPE]}))
    timed([sys.executable, "-m", "dvc", "init", "--no-scm", "--force", "--quiet"], folder)
    return folder


def test_the_flow_costs_little_over_the_bare_stages(tmp_path: Path) -> None:
    bare, repro, flow = (workspace(tmp_path / name) for name in ("bare", "repro", "flow"))
    steps = {name: timed([sys.executable, "-m", f"tasks.{name}", RECIPE], bare) for name in ORDER}
    through_dvc = timed([sys.executable, "-m", "dvc", "repro", "--quiet", f"gate@{RECIPE}"], repro)
    through_flow = timed([sys.executable, "-m", "flows.cli", "run", RECIPE], flow)
    unchanged = timed([sys.executable, "-m", "flows.cli", "run", RECIPE], flow)
    record = json.loads(
        max(
            (flow / "runs").glob("*.json"),
            key=lambda path: path.stat().st_mtime - 1e9 * ("Unchanged" in path.read_text()),
        ).read_text()
    )
    seconds = {stage["stage"].partition("@")[0]: stage["seconds"] for stage in record["stages"]}
    print(f"\n{'stage':12} {'bare s':>8} {'flow s':>8} {'over s':>8}")
    for name in ORDER:
        print(
            f"{name:12} {steps[name]:8.2f} {seconds[name]:8.2f} {seconds[name] - steps[name]:8.2f}"
        )
    bare_total, flow_total = sum(steps.values()), sum(seconds.values())
    overhead = flow_total - bare_total
    print(
        f"{'stages':12} {bare_total:8.2f} {flow_total:8.2f} {overhead:8.2f}  "
        f"= {overhead / len(ORDER):.2f} s a stage"
    )
    print(
        f"dvc repro {through_dvc:.1f} s; millrace run {through_flow:.1f} s with servers, push and "
        f"promotion; a second one {unchanged:.1f} s"
    )
    assert set(seconds) == set(ORDER)
