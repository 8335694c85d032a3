"""The registry: versions of models in object storage, and which of them is in production."""
