"""Training on texts without labels: what it reads, what it writes, and that it is the same each time."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks import files, pretrain
from tasks.recipe import Recipe
from tests import tiny

NETWORK = {"layers": 2, "width": 32, "heads": 2, "vocabulary": 300}
SECTION: dict[str, Any] = {"network": NETWORK, "epochs": 2, "batch_size": 16, "batch_tokens": 512, "learning_rate": 3e-3, "max_length": 32}


def recipe(**changes: Any) -> Recipe:
    return tiny.recipe("text", Path(), pretrain={**SECTION, **changes})


def source(folder: Path) -> Path:
    """A split, and the cleaned rows that it came from: its own, 40 without a label, and two that are like one of val."""
    tiny.split("text", folder / "split")
    tables = {side: files.read_table(folder / "split" / f"{side}.parquet") for side in ("train", "val")}
    files.write_table(folder / "split" / "test.parquet", tiny.table("text", 700, 20))
    more = tiny.table("text", 900, 40)
    text = tables["val"]["text"][0].as_py()
    copies = pa.table({"id": ["x1", "x2"], "text": [text.upper(), f"  {text}"]})
    parts = [*tables.values(), files.read_table(folder / "split" / "test.parquet"), more]
    rows = pa.concat_tables([*(part.select(["id", "text"]) for part in parts), copies])
    files.write_table(folder / "clean" / "rows.parquet", rows)
    return folder


def test_the_same_texts_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        pretrain.run(recipe(), source(tmp_path), tmp_path / name, tmp_path / "checkpoints")
    assert files.hashes(tmp_path / "first") == files.hashes(tmp_path / "second")
