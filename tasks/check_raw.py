"""Check raw: Great Expectations over the data as it came.

python -m tasks.check_raw support-desk
"""

from tasks import check, files, resolve
from tasks.step import main


def check_raw(name: str) -> None:
    folder = files.folder_of(name)
    sources = [
        folder / "raw" / part["file"]
        for part in files.read_json(folder / "raw" / "snapshot.json")["partitions"]
    ]
    check.run(
        resolve.read(name),
        "raw",
        files.read_table(sources),
        check.fingerprint(sources),
        folder / "checks" / "raw",
    )


if __name__ == "__main__":
    main(check_raw)
