"""Errors of stages, and the exit status that tells whether another try could help."""

EXIT_FAILED = 1
EXIT_CONFIG_ERROR = 2
EXIT_RETRYABLE = 75  # EX_TEMPFAIL of sysexits.h
MAX_CHARACTERS = 300
MAX_MESSAGE_CHARACTERS = 8000


class StageError(Exception):
    """A final failure: running the stage again would end the same way.

    The message is a sentence for the person who can mend it: what was given, where, what is
    allowed and what to do.
    """

    exit_status = EXIT_FAILED
    kind = "final"

    def __str__(self) -> str:
        """Return the message for a terminal, whatever it quotes."""
        return make_printable(cut_middle(super().__str__(), MAX_MESSAGE_CHARACTERS))


class ConfigError(StageError):
    """A mistake in the call, the environment or the recipe."""

    exit_status = EXIT_CONFIG_ERROR
    kind = "config_error"


class RetryableError(StageError):
    """A failure that may pass by itself, such as a lost connection or a full GPU."""

    exit_status = EXIT_RETRYABLE
    kind = "retryable"


ERROR_BY_KIND: dict[str, type[StageError]] = {
    error.kind: error for error in (StageError, ConfigError, RetryableError)
}


def cut_middle(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters; the end stays, since it says what to do."""
    if len(text) <= limit:
        return text
    n_last = limit // 2
    return f"{text[: limit - n_last - 1]}…{text[-n_last:]}"


def make_printable(text: str) -> str:
    """Write characters that would steer a terminal, or that cannot be written, as escapes."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, cut to a readable length."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:MAX_CHARACTERS]
