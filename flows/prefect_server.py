"""Prefect's temporary server, and the environment in which a run finds it."""

import os
import secrets
from pathlib import Path

from tasks.core.errors import StageError

START_SECONDS_VARIABLE = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
HOME_VARIABLE = "PREFECT_HOME"
DEFAULT_ENVIRONMENT = {
    HOME_VARIABLE: str(Path(".millrace/prefect").absolute()),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # The first start creates the database, which takes longer than the default of 20 s.
    START_SECONDS_VARIABLE: "120",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
# The server's and the client's; both are the same process's, or its child's.
AUTH_VARIABLES = ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING")
AUTH_BYTES = 32
START_ATTEMPTS = 3
ANSWER_SECONDS = 60  # a loaded machine takes its time
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
EVERY_HOST = "*"


def set_default_environment(extra: dict[str, str]) -> None:
    """Set Prefect's variables, unless they are set, and add others.

    Call it before Prefect is imported.
    """
    # Prefect does not create its folder, and waits in vain for a database there.
    Path(DEFAULT_ENVIRONMENT[HOME_VARIABLE]).mkdir(parents=True, exist_ok=True)
    os.environ.update({**DEFAULT_ENVIRONMENT, **os.environ, **extra})


def bypass_proxy_for_loopback() -> None:
    """Keep this process, and all that it starts, from asking a proxy for local servers."""
    lower = os.environ.get("no_proxy", "")
    upper = os.environ.get("NO_PROXY", "")
    os.environ["no_proxy"] = add_loopback_hosts(lower or upper)
    os.environ["NO_PROXY"] = add_loopback_hosts(upper or lower)


def add_loopback_hosts(value: str) -> str:
    """Return a list of hosts that need no proxy, with this machine's added."""
    hosts = [host.strip() for host in value.split(",") if host.strip()]
    if hosts == [EVERY_HOST]:
        return EVERY_HOST
    hosts += [host for host in LOOPBACK_HOSTS if host not in hosts]
    return ",".join(hosts)


def check_proxy_variables() -> None:
    """Raise StageError if a variable names a proxy that Prefect's client cannot use.

    Such is a SOCKS proxy.
    """
    import httpx

    try:
        httpx.Client().close()
    except (ImportError, ValueError):
        raise StageError(
            "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names a proxy of a kind that Prefect's client "
            "does not support: give the address of an HTTP proxy, as http://host:port, or unset "
            "the variable for this command."
        ) from None


def start_server() -> None:
    """Start Prefect's temporary server unless another is configured; the run finds it.

    Raises:
        StageError: It does not answer in time.
    """
    import httpx
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_ENABLED

    if PREFECT_API_URL.value() or not PREFECT_SERVER_EPHEMERAL_ENABLED.value():
        return
    from prefect.server.api.server import SubprocessASGIServer

    require_authentication()
    for _ in range(START_ATTEMPTS):
        server = SubprocessASGIServer()
        try:
            server.start()
        except (RuntimeError, httpx.HTTPError):
            exit_status = server.server_process.poll() if server.server_process else None
            server.stop()
            raise failed_start_error(exit_status) from None
        if answers_nobody_else(server.api_url):
            return
        server.stop()  # another program has taken the port meanwhile, and answered instead
    raise failed_start_error(None)


def require_authentication() -> None:
    """Make the temporary server answer this run, and the processes that it starts, alone.

    Anyone with an account on this machine could otherwise cancel the run.
    """
    from prefect import context

    auth = f"millrace:{secrets.token_urlsafe(AUTH_BYTES)}"
    os.environ.update(dict.fromkeys(AUTH_VARIABLES, auth))
    context.refresh_global_settings_context()


def answers_nobody_else(api_url: str) -> bool:
    """Return whether what answers at an address is the server that knows our password alone."""
    import httpx

    url = f"{api_url}/admin/version"
    user, _, password = os.environ[AUTH_VARIABLES[0]].partition(":")
    try:
        without = httpx.get(url, timeout=ANSWER_SECONDS)
        ours = httpx.get(url, auth=(user, password), timeout=ANSWER_SECONDS)
    except httpx.HTTPError:
        return False
    return without.status_code == httpx.codes.UNAUTHORIZED and ours.is_success


def failed_start_error(exit_status: int | None) -> StageError:
    """Return the error for a server that ended, or did not answer in time."""
    fault = "did not answer in time"
    if exit_status is not None:
        fault = f"ended with status {exit_status}"
    return StageError(
        f"Prefect's temporary server {fault} ({START_SECONDS_VARIABLE} is "
        f"{os.environ[START_SECONDS_VARIABLE]}): run again when this machine is less busy, set "
        "that variable to more seconds, or set PREFECT_API_URL to a server that runs."
    )
