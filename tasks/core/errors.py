"""Errors."""


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


EXIT_FAILED, EXIT_CONFIG_ERROR, EXIT_RETRYABLE = 1, 2, 75  # 75 is EX_TEMPFAIL of sysexits.h


class StageError(Exception):
    """A final failure: running the step again would end the same way. The message is one sentence for the person who can mend it."""

    exit_status = EXIT_FAILED


class ConfigError(StageError):
    """A mistake in the call or the recipe."""

    exit_status = EXIT_CONFIG_ERROR


class RetryableError(StageError):
    """A failure that may pass by itself: a lost connection, a full GPU."""

    exit_status = EXIT_RETRYABLE
