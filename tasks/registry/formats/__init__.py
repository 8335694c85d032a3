"""What may be in a version: files of formats that cannot run code when they are read.

These are safetensors, ONNX, JSON, JSON lines, Parquet, CSV, Markdown and other text. A file's
format is told by its content and never by its name. It is checked before a version is published,
and again when it is fetched, before anything loads it.
"""
