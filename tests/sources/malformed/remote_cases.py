"""URLs, buckets and databases that give nothing, or not what is wanted."""

from pydantic import JsonValue

from tests.sources.malformed.builders import write_database
from tests.sources.malformed.case import (
    CONFIG_ERROR,
    FINAL,
    RETRYABLE,
    SECRET,
    Case,
    texts,
)

ATTACH = "attach 'made.db' as made"
ENDLESS = "with recursive n(id) as (select 1 union all select id + 1 from n) select id from n"
COUNT = f"select count(*) from ({ENDLESS})"
NOT_UTF_8 = "select cast(x'c3a9ff' as text) as text, '1' as id, 'a' as label"


def from_url(
    name: str,
    sentence: str,
    status: int = FINAL,
    change: dict[str, object] | None = None,
    **settings: JsonValue,
) -> Case:
    """A URL that ends with a sentence, from the test's server unless another one is named."""
    source: dict[str, JsonValue] = {"kind": "http", "url": "SITE", **settings}
    return Case(name, source=source, sentence=sentence, status=status, site=change or {})


def from_sql(name: str, sentence: str, status: int = FINAL, **settings: JsonValue) -> Case:
    """A database that ends with a sentence."""
    source: dict[str, JsonValue] = {"kind": "sql", "url": "sqlite:///desk.db", **settings}
    return Case(name, {"desk.db": write_database}, source, sentence, status)


URL_CASES = [
    Case(
        "URL that never answers",
        source={"kind": "http", "url": "SILENT"},
        sentence=r"cannot be read to its end \(ReadTimeout\)",
        status=RETRYABLE,
    ),
    from_url(
        "URL that refuses",
        r"127.0.0.1:9/rows.csv cannot be read to its end \(ConnectError\)",
        RETRYABLE,
        url="http://user:${PASSWORD}@127.0.0.1:9/rows.csv",
    ),
    from_url(
        "redirect to a file",
        "leads to an address that is not read",
        change={"to": "file:///etc/passwd"},
    ),
    from_url(
        "redirect in a circle",
        r"leads to an address that is not read \(TooManyRedirects\)",
        change={"to": "/rows.csv"},
    ),
    from_url("not found", "answers with status 404: check the address", change={"status": 404}),
    from_url(
        "forbidden",
        "answers with status 403: check the address and what its credentials may read",
        change={"status": 403},
    ),
    from_url("server error", "answers with status 500", RETRYABLE, change={"status": 500}),
    from_url("body cut off", "cannot be read to its end", RETRYABLE, change={"cut_after": 20}),
    from_url(
        "larger than allowed", "is larger than 10 bytes: raise ingest.max_bytes", max_bytes=10
    ),
    from_url(
        "another sha256", "has sha256 [0-9a-f]{64}, but the recipe expects 0000", sha256="0" * 64
    ),
    from_url(
        "changed during the download",
        "has sha256 [0-9a-f]{64}, but the recipe expects",
        change={"served": '"two"'},
        sha256="1" * 64,
    ),
    from_url(
        "a web page in place of data",
        "127.0.0.1:.*/rows.csv is not what its name says: it begins like an HTML page",
        change={"data": b"<html>Sign in</html>"},
    ),
    from_url("an empty body", r"/rows.csv is empty \(0 bytes\)", change={"data": b""}),
    from_url(
        "variable that is not set",
        "names the variable NOT_SET, which is not set",
        CONFIG_ERROR,
        url="https://${NOT_SET}@127.0.0.1/rows.csv",
    ),
    from_url(
        "password in the recipe",
        "ingest.url: holds a password or token in plain text: write",
        CONFIG_ERROR,
        url=f"https://user:{SECRET}@127.0.0.1/rows.csv",
    ),
    from_url(
        "token in the recipe",
        "ingest.url: holds a password or token in plain text",
        CONFIG_ERROR,
        url=f"https://127.0.0.1/rows.csv?access_token={SECRET}",
    ),
    from_url(
        "URL with a port that is none",
        "ingest.url: is not the URL of a server",
        CONFIG_ERROR,
        url="http://user:${PASSWORD}@127.0.0.1:port/rows.csv",
    ),
    from_url(
        "URL that is none",
        "ingest.url: ",
        CONFIG_ERROR,
        url=f"ftp://user:{SECRET}@127.0.0.1/rows.csv",
    ),
]

BUCKET_CASES = [
    Case(
        "object deleted after it was listed",
        source={"kind": "s3"},
        sentence="in/b.csv was deleted or changed after it was listed",
        status=RETRYABLE,
        store="deleted",
    ),
    Case(
        "bucket that is not there",
        source={"kind": "s3", "bucket": "nowhere"},
        sentence="'nowhere'.*ingest.bucket",
        store="good",
    ),
    Case(
        "wrong secret",
        source={"kind": "s3", "prefix": "in/"},
        sentence="refuses the credentials",
        store="wrong secret",
    ),
    Case(
        "prefix without objects",
        source={"kind": "s3", "prefix": "nothing/"},
        sentence="holds no object that is read",
        store="good",
    ),
    Case(
        "store out of reach",
        source={"kind": "s3", "bucket": "any", "endpoint": "http://127.0.0.1:9"},
        sentence="cannot be reached",
        status=RETRYABLE,
    ),
]

DATABASE_CASES = [
    from_sql(
        "SQL with a mistake", 'the database answers: near "selec": syntax error', query="selec 1"
    ),
    from_sql(
        "query that writes", "the query does more than read this file", query="delete from messages"
    ),
    from_sql(
        "database that is not there",
        "desc.db is not a file here",
        url="sqlite:///desc.db",
        table="x",
    ),
    from_sql(
        "database in memory", "names no file of SQLite", CONFIG_ERROR, url="sqlite://", table="x"
    ),
    from_sql("query that attaches a file", "the query does more than read this file", query=ATTACH),
    from_sql("query without an end", "takes more than 0.2 seconds", query=COUNT, max_seconds=0.2),
    from_sql("rows without an end", "gives more than 5 rows", query=ENDLESS, max_rows=5),
    from_sql("query that reads a file", "no such function: readfile", query="select readfile('a')"),
    Case(
        "text of a database that is not UTF-8",
        {"desk.db": write_database},
        {"kind": "sql", "url": "sqlite:///desk.db", "query": NOT_UTF_8},
        rows=1,
        check=texts(r"é\xff"),
    ),
    from_sql("table that is not there", "no such table: mesages", table="mesages"),
    from_sql("table without rows", "sql messages holds no rows", table="messages"),
    from_sql(
        "columns of one name",
        "gives id more than once: name the columns",
        query="select 1 as id, 2 as id",
    ),
    from_sql(
        "database out of reach",
        "onnection refused",
        RETRYABLE,
        table="x",
        url="postgresql+psycopg://reader:${PASSWORD}@127.0.0.1:9/desk",
    ),
    from_sql(
        "driver that is not there",
        "the driver of this database is not installed",
        CONFIG_ERROR,
        table="x",
        url="oracle://reader:${PASSWORD}@127.0.0.1/desk",
    ),
    from_sql(
        "database URL that is none",
        "ingest.url is not the URL of a database",
        CONFIG_ERROR,
        table="x",
        url="reader ${PASSWORD}",
    ),
    from_sql(
        "database variable that is not set",
        "names the variable NOT_SET",
        CONFIG_ERROR,
        table="x",
        url="postgresql://reader:${NOT_SET}@127.0.0.1/desk",
    ),
    from_sql(
        "database password in the recipe",
        "ingest.url: holds a password",
        CONFIG_ERROR,
        table="x",
        url=f"postgresql://reader:{SECRET}@127.0.0.1/desk",
    ),
]
