"""Check ready: Great Expectations over the rows that go into training and evaluation.

python -m tasks.check_ready support-desk
"""

from tasks import check, files, resolve
from tasks.step import main


def check_ready(name: str) -> None:
    folder = files.folder_of(name)
    check.run(resolve.read(name), "ready", [folder / "split" / f"{side}.parquet" for side in ("train", "val", "test")], folder / "checks" / "ready")


if __name__ == "__main__":
    main(check_ready)
