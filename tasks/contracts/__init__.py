"""The files between stages: one frozen model each, with a version, a reader and a writer."""
