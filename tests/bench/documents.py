"""Synthetic documents of about 0.4 KB that resemble texts from the web and from support.

Most are plain ASCII; some have tags, entities, accents or mojibake. A tenth occurs twice.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

WORDS = 62  # a document
BLOCK = 50_000
DOUBLED = 0.1


def vocabulary() -> "np.ndarray[tuple[int], np.dtype[np.str_]]":
    chance = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
    return np.array(
        ["".join(chance.choice(letters, chance.integers(2, 11))) for _ in range(20_000)]
    )


def blocks(count: int, seed: int = 1) -> Iterator[list[str]]:
    """The documents in lists of at most BLOCK; the same for the same seed."""
    chance, words = np.random.default_rng(seed), vocabulary()
    before: list[str] = []
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        chosen = words[chance.integers(0, len(words), (size, WORDS))]
        texts = [" ".join(row) for row in chosen.tolist()]
        for at, kind in enumerate(chance.random(size)):
            text = texts[at]
            if kind < 0.4:
                cut = text.split(" ", 20)
                start_text, end_text = " ".join(cut[:5]), " ".join(cut[6:])
                texts[at] = (
                    f"<p>{start_text} <b>{cut[5]}</b><br/>{end_text} &amp; it&#39;s  done</p>"
                )
            elif kind < 0.55:
                texts[at] = text + " caf\u00e9 cre\u0301me na\u00efve"
            elif kind < 0.58:
                texts[at] = text + " caf\u00c3\u00a9 na\u00c3\u00afve"
        for at in chance.integers(0, size, int(size * DOUBLED)).tolist():
            pool = before or texts
            texts[at] = pool[int(chance.integers(0, len(pool)))]
        before = texts
        yield texts


def write(folder: Path, count: int, files: int = 1, seed: int = 1) -> None:
    """Write the documents as Parquet files with the columns id, text and label.

    Each block of documents is spread over the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    per, number, row = -(-count // files), 0, 0
    writer = None
    for texts in blocks(count, seed):
        for start in range(0, len(texts), per):
            part = texts[start : start + per]
            table = pa.table(
                {
                    "id": [f"d{seed}-{row + at:09d}" for at in range(len(part))],
                    "text": part,
                    "label": ["x"] * len(part),
                }
            )
            row += len(part)
            writer = writer or pq.ParquetWriter(folder / f"{number:05d}.parquet", table.schema)
            writer.write_table(table)
            if row >= per * (number + 1):
                writer.close()
                writer, number = None, number + 1
    if writer:
        writer.close()
