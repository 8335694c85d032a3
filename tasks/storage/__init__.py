"""Bytes: files written whole, hashes, locks, object storage, and where each stage's files lie."""
