"""Warnings: what people should know of a stage's work, at the terminal as in its report."""

from collections.abc import Iterable


def print_warnings(warnings: Iterable[str]) -> None:
    """Print each warning on a line of its own, which a run's log marks as one."""
    for warning in warnings:
        print(f"warning: {warning}", flush=True)
