"""Clients of S3: the only module that imports boto3.

Region, profile, certificates and endpoint are found in boto3's own order.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tasks.core.errors import StageError
from tasks.storage.store_settings import StoreSettings

if TYPE_CHECKING:
    from botocore.session import Session

CONNECT_SECONDS = 10
READ_SECONDS = 60
MAX_CONNECTIONS = 48
# Most servers take any region; boto3 has to sign with one.
DEFAULT_REGION = "us-east-1"
REGION_VARIABLES = ("AWS_DEFAULT_REGION", "AWS_REGION")


class Connection(NamedTuple):
    """A client, and what another client of the same store has to know.

    Attributes:
        client: boto3's client.
        endpoint: The server's URL; None for AWS itself.
        region: The region that requests are signed for; None if the bucket decides.
        ca_bundle: The file of certificates that the server's is checked against; None for the
            public ones.
    """

    client: Any
    endpoint: str | None
    region: str | None
    ca_bundle: str | None


def connect(settings: StoreSettings, attempts: int = 1) -> Connection:
    """Prepare a client; nothing is sent yet.

    Args:
        settings: The store.
        attempts: How often a request is tried. More than once is only for requests that may be
            repeated: a retry would report "precondition failed" for a conditional write that had
            succeeded and whose answer was lost.

    Raises:
        StageError: AWS's variables or files hold something that cannot be used.
    """
    from botocore.exceptions import BotoCoreError

    try:
        session = create_session(settings)
        ca_bundle = session.get_config_variable("ca_bundle")
        region = find_region(settings, session)
        client = create_client(settings, session, region, attempts)
    except BotoCoreError as error:
        raise unusable_configuration_error(settings, str(error).rstrip(".")) from None
    except ValueError:  # its words hold the endpoint, which may hold a password
        reason = "AWS_ENDPOINT_URL or a profile's endpoint_url is not the address of a server"
        raise unusable_configuration_error(settings, reason) from None
    if ca_bundle and not Path(ca_bundle).exists():
        raise unusable_configuration_error(
            settings, f"AWS_CA_BUNDLE or a profile's ca_bundle names {ca_bundle}, which is missing"
        )
    endpoint = settings.endpoint or find_endpoint(client)
    return Connection(client, endpoint, region, ca_bundle)


def unusable_configuration_error(settings: StoreSettings, reason: str) -> StageError:
    """Return the error for variables or files of AWS that cannot be used."""
    return StageError(
        f"{settings.address} cannot be opened ({reason}): correct or unset the variable of AWS "
        "that says so, such as AWS_PROFILE, or correct the files in ~/.aws."
    )


def create_session(settings: StoreSettings) -> "Session":
    """Return a session of botocore.

    If the settings hold keys, the session reads no profile and no file of AWS: they may be wrong,
    and have nothing to do with this store.
    """
    import botocore.session

    if not settings.key:
        return botocore.session.Session()
    without_files: dict[str, tuple[None, None, str | None, None]] = {
        "profile": (None, None, None, None),
        "config_file": (None, None, os.devnull, None),
        "credentials_file": (None, None, os.devnull, None),
        "ca_bundle": (None, None, None, None),
    }
    return botocore.session.Session(session_vars=without_files)


def find_region(settings: StoreSettings, session: "Session") -> str | None:
    """Return the region that requests are signed for.

    It is AWS_DEFAULT_REGION, as for boto3; else AWS_REGION, which other tools of AWS read; else
    that of the profile.
    """
    if settings.key:
        return DEFAULT_REGION
    region = read_region(session)
    if region is None and settings.endpoint:
        return DEFAULT_REGION
    return region


def read_region(session: "Session") -> str | None:
    """Return the region that the environment or the profile names."""
    named = [os.environ.get(variable) for variable in REGION_VARIABLES]
    named.append(session.get_config_variable("region"))
    return next(filter(None, named), None)


def create_client(
    settings: StoreSettings, session: "Session", region: str | None, attempts: int
) -> Any:
    """Return a client of boto3. With an endpoint it puts the bucket into the path."""
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"total_max_attempts": attempts},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=MAX_CONNECTIONS,
    )
    return boto3.Session(botocore_session=session).client(
        "s3",
        endpoint_url=settings.endpoint,
        aws_access_key_id=settings.key,
        aws_secret_access_key=settings.secret,
        config=config,
        region_name=region,
    )


def find_endpoint(client: Any) -> str | None:
    """Return the endpoint that boto3 found in variables or files; None for AWS itself."""
    endpoint: str = client.meta.endpoint_url
    return None if ".amazonaws.com" in endpoint else endpoint


def configure_transfer(part_bytes: int, concurrency: int) -> object:
    """Return boto3's configuration of a transfer in so many parts at once."""
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(
        multipart_threshold=part_bytes,
        multipart_chunksize=part_bytes,
        max_concurrency=concurrency,
        preferred_transfer_client="classic",
    )
