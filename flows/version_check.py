r"""Validate a version in a fresh process that has the bucket alone.

    python -m flows.version_check support-desk 0123456789abcdef --output FILE --promote JSON

Fetches the version to an empty folder, verifies it, loads it and asks it its golden requests.
"""

import argparse
import faulthandler
import sys
import tempfile
from pathlib import Path

from flows import registry_access, stage_process
from tasks.contracts.validation_result import ValidationResult
from tasks.core.errors import RetryableError, StageError
from tasks.recipe.promote import Promote
from tasks.registry import manifests

FETCH_SECONDS = 3600.0  # a limit for the whole process
VALIDATION_SECONDS = 300.0  # a model that is fetched and does not answer within it hangs
TIMEOUT = "Timeout ("  # what faulthandler prints first when they are over
NAME = "validation"
RETRYABLE = "retryable: "  # before the last line of a process that could not reach the store


class InvalidVersionError(StageError):
    """A version cannot be served, so it is not put into a channel."""

    exit_status = 3


def run_validation(model: str, version: str, budgets: Promote) -> ValidationResult:
    """Validate a version in a process of its own. However that process ends is a verdict.

    Call it while the registry is open.

    Args:
        model: The recipe's name.
        version: The version, published.
        budgets: The recipe's section `promote`.

    Raises:
        RetryableError: The store does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="millrace-validation-") as folder:
        output = Path(folder) / "result.json"
        command = [sys.executable, "-m", "flows.version_check", model, version]
        command += ["--output", str(output), "--promote", budgets.model_dump_json()]
        lines: list[str] = []
        try:
            stage_process.run_process(command, NAME, FETCH_SECONDS, lines.append)
        except RetryableError:  # it took too long to fetch the version
            raise
        except StageError:
            return ValidationResult(verdict="fail", reason=describe_crash(lines))
        return ValidationResult.read(output)


def require_valid(model: str, version: str, budgets: Promote) -> None:
    """Validate a version.

    Raises:
        InvalidVersionError: It cannot be served.
    """
    result = run_validation(model, version, budgets)
    if result.verdict == "fail":
        raise InvalidVersionError(f"{model} {version}: {result.reason} Nothing was moved.")


def describe_crash(lines: list[str]) -> str:
    """Return why a process gave no verdict: it hung, was killed, or aborted.

    Raises:
        RetryableError: The process could not reach the store.
    """
    last = lines[-1] if lines else "it printed nothing"
    if last.startswith(RETRYABLE):
        raise RetryableError(last.removeprefix(RETRYABLE))
    if any(line.startswith(TIMEOUT) for line in lines):
        return (
            f"The version does not answer within {VALIDATION_SECONDS:g} s: it hangs, or is far too "
            "slow. `millrace pull` fetches it, to be looked at."
        )
    return (
        f"The process that loads the version ended without a verdict ({last}): it was killed, "
        "possibly for want of memory, or the runtime aborted."
    )


def main() -> None:
    """Validate the version that the command line names; write the result to a file."""
    parser = argparse.ArgumentParser(prog="python -m flows.version_check")
    parser.add_argument("model")
    parser.add_argument("version")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--promote", required=True)
    arguments = parser.parse_args()
    budgets = Promote.model_validate_json(arguments.promote)
    try:
        with tempfile.TemporaryDirectory(prefix="millrace-version-") as folder:
            result = fetch_and_validate(arguments.model, arguments.version, Path(folder), budgets)
    except RetryableError as error:
        print(f"{RETRYABLE}{error}")
        sys.exit(1)
    result.write(arguments.output)


def fetch_and_validate(
    model: str, version: str, folder: Path, budgets: Promote
) -> ValidationResult:
    """Fetch a version and validate it; what cannot be fetched or believed fails."""
    from tasks.gating import infra_validation

    try:
        with registry_access.open_registry() as registry:
            target = manifests.fetch_version(registry, model, version, folder)
    except RetryableError:
        raise
    except StageError as error:
        return ValidationResult(verdict="fail", reason=str(error))
    faulthandler.dump_traceback_later(VALIDATION_SECONDS, exit=True)  # whatever the runtime does
    return infra_validation.validate_folder(target, budgets)


if __name__ == "__main__":
    main()
