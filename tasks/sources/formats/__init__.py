"""Formats: how the bytes of a file become rows, wherever the file lies."""
