"""Where work is carried out: in this process, or on a Ray cluster. What comes out is the same."""

import contextlib
import os
from collections.abc import Iterator

from tasks.core.errors import ConfigError


def select_runner(kind: str, address: str | None) -> None:
    """Set Daft's runner as the recipe says. To be called before a step's first plan."""
    import daft

    daft.set_execution_config(
        default_morsel_size=8192
    )  # the default gives a part of ordinary size to a single core
    if kind == "local":  # Daft's own default
        return
    with explain_connection_errors(address):
        daft.set_runner_ray(address, noop_if_initialized=True)
        daft.from_pydict({"row": [0]}).select(
            daft.col("row") + 1
        ).collect()  # Daft's first plan starts its actor; of two at once, one would end the other's


@contextlib.contextmanager
def explain_connection_errors(address: str | None) -> Iterator[None]:
    """Around the first call of a Ray cluster. Raises Mistake where there is no Ray here, or none answers at the recipe's address."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        yield
    except ImportError:
        raise ConfigError(
            "engine.kind: ray needs Ray, which is not installed: pip install -c constraints.txt 'millrace[ray]'."
        ) from None
    except ConnectionError as error:
        raise ConfigError(
            f"engine.address: no Ray cluster answers at {address}: {error}."
        ) from None
