"""Where a store is: prefixes, endpoints, and regions and certificates as boto3 finds them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.errors import StageError
from tasks.storage.object_store import ObjectStore
from tasks.storage.store_settings import StoreSettings
from tests.storage import s3_answers
from tests.storage.s3_answers import EmptyBucket

CONFIG = """[default]
region = from-default-1
[profile mine]
region = from-profile-1
"""


@pytest.fixture
def environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with credentials, a configuration file and nothing else of AWS."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MILLRACE_S3_BUCKET", "models")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(here / "config"))
    (here / "config").write_text(CONFIG)
    return monkeypatch


@pytest.fixture(scope="module")
def bucket() -> Iterator[EmptyBucket]:
    with s3_answers.serve_empty_bucket() as served:
        yield served


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return s3_answers.write_certificate(tmp_path_factory.mktemp("tls") / "server.pem")


@pytest.fixture(scope="module")
def guarded(certificate: Path) -> Iterator[EmptyBucket]:
    with s3_answers.serve_empty_bucket(certificate) as served:
        yield served


def open_configured() -> ObjectStore:
    settings = StoreSettings.from_environment()
    assert settings
    return ObjectStore(settings)


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({}, "from-default-1"),
        ({"AWS_PROFILE": "mine"}, "from-profile-1"),
        ({"AWS_PROFILE": "mine", "AWS_REGION": "named-1"}, "named-1"),
        ({"AWS_PROFILE": "mine", "AWS_DEFAULT_REGION": "named-2"}, "named-2"),
        ({"AWS_REGION": "named-1", "AWS_DEFAULT_REGION": "named-2"}, "named-2"),
        ({"AWS_CONFIG_FILE": "/dev/null"}, "us-east-1"),
    ],
)
def test_requests_are_signed_for_the_region_that_is_named_first(
    environment: pytest.MonkeyPatch, bucket: EmptyBucket, variables: dict[str, str], region: str
) -> None:
    bucket.authorizations.clear()
    environment.setenv("MILLRACE_S3_ENDPOINT", bucket.endpoint)
    for name, value in variables.items():
        environment.setenv(name, value)
    store = open_configured()
    store.verify_access()
    assert bucket.regions() == {region}
    assert store.connection.region == region


@pytest.mark.parametrize("variable", ["MILLRACE_S3_ENDPOINT", "AWS_ENDPOINT_URL"])
@pytest.mark.parametrize("path", ["", "/s3", "/deep/s3/"])
def test_the_bucket_follows_the_path_of_the_endpoint(
    environment: pytest.MonkeyPatch, bucket: EmptyBucket, variable: str, path: str
) -> None:
    bucket.paths.clear()
    endpoint = bucket.endpoint.replace("127.0.0.1", "localhost") + path
    environment.setenv(variable, endpoint)
    store = open_configured()
    store.verify_access()
    assert [called.partition("?")[0] for called in bucket.paths] == [f"{path.rstrip('/')}/models"]
    assert store.connection.endpoint == endpoint


@pytest.mark.parametrize("place", ["AWS_CA_BUNDLE", "ca_bundle"])
def test_the_authority_of_a_server_is_named_by_a_variable_or_a_profile(
    environment: pytest.MonkeyPatch,
    here: Path,
    guarded: EmptyBucket,
    certificate: Path,
    place: str,
) -> None:
    environment.setenv("MILLRACE_S3_ENDPOINT", guarded.endpoint)
    with pytest.raises(StageError, match=r"certificate that is not trusted here: .*AWS_CA_BUNDLE"):
        open_configured().verify_access()
    if place == "ca_bundle":
        (here / "config").write_text(f"[default]\nca_bundle = {certificate}\n")
    else:
        environment.setenv(place, str(certificate))
    store = open_configured()
    store.verify_access()
    assert store.connection.ca_bundle == str(certificate)


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"AWS_CA_BUNDLE": "/nowhere.pem"}, "ca_bundle names /nowhere.pem, which is missing"),
        ({"AWS_PROFILE": "nowhere"}, r"\(nowhere\) could not be found.* such as AWS_PROFILE"),
        ({"AWS_DEFAULT_REGION": "not a region"}, "'not a region' doesn't match"),
        ({"AWS_ENDPOINT_URL": "hidden-secret"}, "AWS_ENDPOINT_URL .* is not the address"),
        ({"MILLRACE_S3_ENDPOINT": "host:9000"}, "MILLRACE_S3_ENDPOINT is not the address"),
        ({"MILLRACE_S3_ENDPOINT": "http://a:hidden-secret@host"}, "without user, password"),
        ({"MILLRACE_S3_ENDPOINT": "http://host:hidden-secret"}, "is not the address"),
        ({"MILLRACE_S3_PREFIX": "a/../b"}, "MILLRACE_S3_PREFIX is 'a/../b': no part of it"),
        ({"MILLRACE_S3_BUCKET": "", "MILLRACE_S3_ENDPOINT": "http://host"}, "name the bucket too"),
        ({"MILLRACE_S3_BUCKET": "a b"}, 'Invalid bucket name "a b"'),
    ],
)
def test_a_store_that_cannot_be_opened_is_one_sentence(
    environment: pytest.MonkeyPatch, variables: dict[str, str], sentence: str
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    with pytest.raises(StageError, match=sentence) as caught:
        open_configured().verify_access()
    assert "hidden-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("prefix", "key"),
    [("", "millrace/a"), ("/", "a"), ("/models//of/", "models/of/a"), ("models", "models/a")],
)
def test_no_key_begins_with_a_slash(environment: pytest.MonkeyPatch, prefix: str, key: str) -> None:
    environment.setenv("MILLRACE_S3_PREFIX", prefix)
    assert open_configured().key("a") == key
