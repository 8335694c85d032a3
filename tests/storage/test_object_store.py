"""What a store that cannot be used says of itself."""

from pathlib import Path
from typing import Any

import pytest

from flows import embedded_s3, server_secrets
from tasks.core.errors import StageError
from tasks.storage import files
from tasks.storage.object_store import ObjectStore
from tasks.storage.store_settings import StoreSettings


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"endpoint": "http://127.0.0.1:9", "key": "k", "secret": "hidden-secret"},
            "cannot be reached",
        ),
        ({"secret": "hidden-secret"}, "refuses the credentials"),
        ({"bucket": "of-others"}, "or the bucket 'of-others' is not theirs"),
    ],
)
def test_a_store_that_cannot_be_used_says_why_without_the_secret(
    store: ObjectStore, changed: dict[str, Any], sentence: str
) -> None:
    settings = store.settings._replace(**changed)
    with pytest.raises(StageError, match=sentence) as caught:
        ObjectStore(settings).verify_access()
    assert "hidden-secret" not in str(caught.value)
    assert str(store.settings.secret) not in str(caught.value)


def test_a_missing_bucket_is_named(here: Path) -> None:
    identity = {
        "name": "all",
        "credentials": [{"accessKey": "key", "secretKey": "secret"}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    server_secrets.SERVER_FOLDER.mkdir(parents=True)
    files.write_private(
        server_secrets.CREDENTIALS_FILE, files.encode_json({"identities": [identity]})
    )
    sentence = "there is no bucket 'nowhere': create it, or correct MILLRACE_S3_BUCKET"
    with embedded_s3.open_store() as store:
        settings = StoreSettings(
            "nowhere", endpoint=store.settings.endpoint, key="key", secret="secret"
        )
        with pytest.raises(StageError, match=sentence):
            ObjectStore(settings).verify_access()
