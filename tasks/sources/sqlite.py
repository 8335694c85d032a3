"""Files of SQLite: opened for reading alone, where a query can create and change nothing."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import sqlalchemy

from tasks.core.errors import ConfigError, StageError

PROGRESS_INSTRUCTIONS = 100_000  # of SQLite's machine, between two looks at the clock
BUSY_SECONDS = 10.0  # to wait for another process that writes
WRONG_TEXT_WARNING = (
    "the database holds text that is not UTF-8: its other bytes are read as \\xNN; mend it there"
)
DENIAL = "not authorized"  # SQLite's words for what `authorize` does not allow
ALLOWED_ACTIONS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_TRANSACTION,
}
ALLOWED_PRAGMAS = ("read_uncommitted", "table_info", "table_xinfo", "table_list")


def is_sqlite(url: sqlalchemy.URL) -> bool:
    """Tell whether a URL is that of a file of SQLite, read by Python's own driver."""
    return url.drivername in ("sqlite", "sqlite+pysqlite")


def build_creator(
    url: sqlalchemy.URL, seconds: float, warnings: list[str]
) -> Callable[[], sqlite3.Connection]:
    """Return what opens the file of a URL.

    Args:
        url: The URL of a file that is there.
        seconds: After which a query is interrupted.
        warnings: To which is appended what people should know of the texts.

    Raises:
        ConfigError: The URL names no file.
        StageError: The file is not there: SQLite itself would create an empty one.
    """
    name = url.database or ""
    if not name or name == ":memory:" or name.startswith("file:"):
        raise ConfigError(
            "ingest.url names no file of SQLite: write it as sqlite:///folder/file.db."
        )
    path = Path(name)
    if not path.is_file():
        raise StageError(
            f"ingest.url: {name} is not a file here: put the database there or correct the path."
        )

    def connect() -> sqlite3.Connection:
        connection = open_read_only(path, time.monotonic() + seconds)
        connection.text_factory = TextDecoder(warnings)
        return connection

    return connect


def open_read_only(path: Path, deadline: float) -> sqlite3.Connection:
    """Open a file; whatever a query says, it reads this file and no other."""
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=ro",
        uri=True,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
    )
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.set_authorizer(authorize)
    connection.set_progress_handler(lambda: time.monotonic() > deadline, PROGRESS_INSTRUCTIONS)
    return connection


def authorize(action: int, first: str | None, *_others: str | None) -> int:
    """Allow what reads."""
    is_harmless = action == sqlite3.SQLITE_PRAGMA and first in ALLOWED_PRAGMAS
    if action in ALLOWED_ACTIONS or is_harmless:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


class TextDecoder:
    """Decodes the texts of a file, and warns of the first that is no UTF-8."""

    def __init__(self, warnings: list[str]) -> None:
        self.warnings = warnings

    def __call__(self, data: bytes) -> str:
        r"""Return a text, in which bytes that are no UTF-8 become \xNN."""
        text = data.decode("utf-8", "backslashreplace")
        if not self.warnings and text.encode() != data:
            self.warnings.append(WRONG_TEXT_WARNING)
        return text
