"""Malformed inputs: what lies in the folder, and what ingest makes of it."""
