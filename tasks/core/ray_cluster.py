"""The engine that carries out data plans: this process, or a Ray cluster. The results are equal."""

import contextlib
import os
from collections.abc import Iterator

from tasks.core.errors import ConfigError

ROWS_PER_MORSEL = 8192  # by Daft's default a partition of ordinary size keeps a single core busy


def select_runner(kind: str, address: str | None) -> None:
    """Set Daft's runner. Call it before the stage's first plan.

    Args:
        kind: `local` or `ray`, from the recipe's `engine.kind`.
        address: The cluster's address, such as ray://head:10001.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at the address.
    """
    import daft

    daft.set_execution_config(default_morsel_size=ROWS_PER_MORSEL)
    if kind == "local":  # Daft's own default
        return
    with explain_connection_errors(address):
        daft.set_runner_ray(address, noop_if_initialized=True)
        start_daft_actor()


def start_daft_actor() -> None:
    """Carry out a first plan, which starts Daft's actor.

    If two plans started it at the same time, one would end the other's.
    """
    import daft

    daft.from_pydict({"row": [0]}).select(daft.col("row") + 1).collect()


@contextlib.contextmanager
def explain_connection_errors(address: str | None) -> Iterator[None]:
    """Turn the errors of the first call to a Ray cluster into sentences.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        yield
    except ImportError:
        raise ConfigError(
            "engine.kind: ray needs Ray, which is not installed: "
            "pip install -c constraints.txt 'millrace[ray]'."
        ) from None
    except ConnectionError as error:
        raise ConfigError(
            f"engine.address: no Ray cluster answers at {address}: {error}."
        ) from None
