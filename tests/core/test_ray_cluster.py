"""The same plan gives the same bytes in this process and on a Ray cluster."""

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.storage import files, hashing
from tests.conftest import ROOT

RECIPE = """name: tiny
modality: text
ingest: {kind: files, path: in}
columns: {id: id}
max_dropped: 0.6
clean: {rules: [encoding, html, unicode, white_space, length: {min: 3}, exact_duplicates, control]}
gate: [{rule: floor, metric: macro_f1, bound: 0.5}]
"""
# A process of its own, since a runner can be set once only. The cluster has the workers of two
# nodes on this machine, and ends with the process.
CLEAN = """
import sys
from pathlib import Path
from tasks import clean, ingest
from tasks.recipe.loading import read_recipe
from tasks.storage.layout import StagePaths

if sys.argv[1] == "ray":
    import ray
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 << 20,
        runtime_env={"env_vars": {"PYTHONPATH": sys.argv[2]}},
    )
recipe = read_recipe(Path("recipe.yaml"))
engine = recipe.engine.model_copy(update={"kind": sys.argv[1]})
recipe = recipe.model_copy(update={"engine": engine})
folder = Path(sys.argv[1])
ingest.run(recipe, StagePaths(folder))
clean.run(recipe, StagePaths(folder))
import daft
print(daft.runners.get_or_infer_runner_type())
"""


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_bytes_as_this_process(here: Path) -> None:
    pytest.importorskip(
        "ray", reason="Ray is not installed: pip install -c constraints.txt 'millrace[ray]'"
    )
    texts = [
        f"<p>caf\u00e9 n\u00famero {row % 900} has &amp; words</p>"
        if row % 3
        else f"na\u00c3\u00afve   row {row % 700}"
        for row in range(3000)
    ]
    rows = [f"r{row:05d},{text},{row % 2}" for row, text in enumerate(texts)]
    (here / "in").mkdir()
    for number, part in enumerate(
        (rows[:1200], rows[1200:2200], [], rows[2200:])
    ):  # two are worked on at once
        (here / "in" / f"{number}.csv").write_text("\n".join(["id,text,label", *part]) + "\n")
    (here / "recipe.yaml").write_text(RECIPE)
    for engine in ("local", "ray"):
        done = subprocess.run(
            [sys.executable, "-c", CLEAN, engine, str(ROOT)],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=300,
            env={**env(), "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[-1] == {"local": "native", "ray": "ray"}[engine]
    assert files.read_json(here / "ray" / "clean" / "report.json")["rows"] < 2000
    assert hashing.hash_folder(here / "ray") == hashing.hash_folder(here / "local")


def env() -> dict[str, str]:
    import os

    return {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "DAFT_"))
    } | {"RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1"}
