"""The errors of S3 as sentences. No credential is ever part of one."""

import contextlib
from collections.abc import Iterator

from tasks.core.errors import RetryableError, StageError
from tasks.storage.store_settings import StoreSettings

REFUSED_CODES = {
    "PreconditionFailed",
    "ConditionalRequestConflict",
    "NoSuchKey",
    "NoSuchVersion",
    "InvalidRange",
    "404",
    "409",
    "412",
    "416",
}
DENIED_CODES = {
    "AccessDenied",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "401",
    "403",
}
EXPIRED_CODES = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
CLOCK_CODES = {"RequestTimeTooSkewed", "RequestExpired"}
REGION_CODES = {
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
    "301",
}
UNKNOWN_OUTCOME_CODES = {"InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout"}
MISSING_CODES = {"NoSuchKey", "404"}
MISSING_BUCKET_CODES = {"NoSuchBucket", "404"}


@contextlib.contextmanager
def raise_readable_errors(settings: StoreSettings) -> Iterator[None]:
    """Raise the SDK's errors as sentences."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except BotoCoreError as error:
        raise describe_failure(settings, error) from None
    except ClientError as error:
        raise describe_refusal(settings, error) from None
    except ResponseParserError:
        raise foreign_answer_error(settings) from None


def foreign_answer_error(settings: StoreSettings) -> StageError:
    """Return the error for an answer that is none of S3."""
    _, endpoint_variable = settings.variables
    return StageError(
        f"{settings.address} does not answer as an S3 server does: check that "
        f"{endpoint_variable} is right."
    )


def describe_failure(settings: StoreSettings, error: Exception) -> StageError:
    """Return the sentence for a request that was not sent, or that got no answer."""
    from botocore import exceptions

    address = settings.address
    kind = type(error).__name__
    _, endpoint_variable = settings.variables
    if isinstance(error, exceptions.NoCredentialsError):
        return StageError(
            f"There are no credentials for {address}: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
        )
    if is_credentials_failure(error):
        return StageError(
            f"The credentials for {address} cannot be read ({kind}): log in again, or correct the "
            "variables of AWS or the files in ~/.aws."
        )
    if isinstance(error, exceptions.ParamValidationError):
        reason = str(error).splitlines()[-1]
        return StageError(f"{address} cannot be asked for ({reason}): correct the name.")
    if isinstance(error, exceptions.SSLError) and "certificate" in str(error).lower():
        return StageError(
            f"{address} shows a certificate that is not trusted here: name the file of its "
            "authority's certificate in AWS_CA_BUNDLE, or as ca_bundle of the profile."
        )
    if is_timeout(error):
        return RetryableError(
            f"{address} does not answer in time ({kind}): it hangs or is overloaded; check it, "
            f"and that {endpoint_variable} is right."
        )
    return RetryableError(
        f"{address} cannot be reached ({kind}): check that it runs and that {endpoint_variable} "
        "is right."
    )


def is_timeout(error: Exception) -> bool:
    """Return whether a server took too long to answer, or to take what is sent."""
    from botocore.exceptions import HTTPClientError, ReadTimeoutError

    if isinstance(error, ReadTimeoutError):
        return True
    cause = error.kwargs.get("error") if isinstance(error, HTTPClientError) else None
    return any(isinstance(reason, TimeoutError) for reason in getattr(cause, "args", ()))


def is_credentials_failure(error: Exception) -> bool:
    """Return whether a request was not sent because credentials could not be read."""
    from botocore import exceptions

    return isinstance(
        error,
        (
            exceptions.NoCredentialsError,
            exceptions.PartialCredentialsError,
            exceptions.CredentialRetrievalError,
            exceptions.UnknownCredentialError,
            exceptions.TokenRetrievalError,
            exceptions.SSOError,
            exceptions.LoginError,
        ),
    )


def describe_refusal(settings: StoreSettings, error: Exception) -> StageError:
    """Return the sentence for a request that the store refused."""
    address = settings.address
    bucket_variable, _ = settings.variables
    code = get_error_code(error)
    sentence = describe_refused_identity(settings, code, getattr(error, "operation_name", ""))
    if sentence:
        return StageError(sentence)
    if code in MISSING_BUCKET_CODES:
        return StageError(
            f"{address}: there is no bucket {settings.bucket!r}: create it, or correct "
            f"{bucket_variable}."
        )
    return RetryableError(f"{address} answered with an error ({code or type(error).__name__}).")


def describe_refused_identity(settings: StoreSettings, code: str, operation: str) -> str:
    """Return the sentence for a refusal because of who asks, when or where; or an empty text."""
    address = settings.address
    bucket_variable, _ = settings.variables
    if code in DENIED_CODES:
        return (
            f"{address} refuses the credentials ({code} for {operation}), or the bucket "
            f"{settings.bucket!r} is not theirs: check the access key, its secret, what it may "
            f"do and {bucket_variable}."
        )
    if code in EXPIRED_CODES:
        return f"{address} refuses the credentials, which have expired ({code}): get new ones."
    if code in CLOCK_CODES:
        return (
            f"{address} refuses the time of this machine ({code}): set its clock, or the "
            "server's, right."
        )
    if code in REGION_CODES:
        return (
            f"{address} belongs to another region than the request names ({code}): set "
            "AWS_DEFAULT_REGION to the bucket's region."
        )
    return ""


def get_error_code(error: Exception) -> str:
    """Return the S3 error code of an exception of the SDK, or an empty string."""
    response = getattr(error, "response", None) or {}  # None for lost connections
    return str(response.get("Error", {}).get("Code", ""))


def is_outcome_unknown(error: Exception) -> bool:
    """Return whether a failed write may have happened all the same."""
    from botocore.exceptions import BotoCoreError, ParamValidationError

    if isinstance(error, BotoCoreError):
        return not (isinstance(error, ParamValidationError) or is_credentials_failure(error))
    code = get_error_code(error)
    return code.startswith("5") or code in UNKNOWN_OUTCOME_CODES


def is_worth_retry(error: Exception) -> bool:
    """Return whether reading may succeed at once after this error: the server is there, and busy.

    A server that hangs has been waited for long enough.
    """
    from botocore.exceptions import ConnectTimeoutError, SSLError

    if is_timeout(error) or isinstance(error, (ConnectTimeoutError, SSLError)):
        return False
    return is_outcome_unknown(error)
