"""The settings that come from the environment: every MILLRACE_* variable, in one place.

docs/state.md describes them for people; a test compares that table with these fields.
"""

import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.core.errors import ConfigError

PREFIX = "MILLRACE_"


def parse_gpu_count(value: object) -> object:
    """Refuse what is no count of GPUs."""
    if isinstance(value, str) and not value.isdecimal():
        raise ValueError("set it to how many GPUs runs may use, such as 2, or unset it")
    return value


def parse_country(value: object) -> object:
    """Refuse what is no country code of three letters."""
    if not re.fullmatch("[A-Za-z]{3}", str(value)):
        raise ValueError("set it to a country code of three letters, such as DEU, or unset it")
    return str(value).upper()


class Settings(BaseSettings):
    """The environment of this process. An empty variable counts as unset."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True)

    s3_bucket: str | None = Field(
        None, description="Bucket of the model store; unset: a server on loopback, per run."
    )
    s3_endpoint: str | None = Field(
        None,
        description="URL of an S3 server that is not AWS, with a path if it has one; needs "
        "MILLRACE_S3_BUCKET.",
    )
    s3_prefix: str = Field("millrace", description="Prefix of all keys in the bucket; / for none.")
    keys: Path | None = Field(
        None, description="Folder of the keys that sign and verify; unset: .millrace/keys."
    )
    key_passphrase: SecretStr | None = Field(
        None, description="Passphrase of the private key that signs, if it is encrypted."
    )
    gpus: Annotated[int | None, BeforeValidator(parse_gpu_count)] = Field(
        None, description="How many of this machine's GPUs runs may use; unset: all."
    )
    country: Annotated[str, BeforeValidator(parse_country)] = Field(
        "USA",
        description="ISO 3166 code of three letters of where the machine stands; its mix of "
        "sources turns kilowatt-hours into CO2.",
    )
    tensorboard: Path | None = Field(
        None, description="Folder to which training writes its curves for TensorBoard."
    )
    pii_key: SecretStr | None = Field(
        None, description="Key of `pii: encrypt`: 32 random bytes in base64."
    )
    status: Path | None = Field(
        None,
        description="Set by a run: the file in which a stage reports progress and its end.",
    )
    workspace: Path | None = Field(
        None, description="Set by a run: the workspace that a process works for."
    )
    run: int | None = Field(
        None, description="Set by a run: the process id of the run that started a process."
    )


def variable_name(field: str) -> str:
    """Return the environment variable of a field, such as MILLRACE_S3_BUCKET."""
    return PREFIX + field.upper()


def read_settings() -> Settings:
    """Read the environment.

    Raises:
        ConfigError: A variable has a value that it cannot have.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = variable_name(str(first["loc"][0]))
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{name} is {first['input']!r}: {reason}.") from None
