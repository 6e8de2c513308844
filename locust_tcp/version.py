"""The version of the kit. pyproject.toml reads it; workers report it to their master."""

VERSION = "0.12.0"
