"""The version of the kit: the package has it, and a worker sends it to its master."""

VERSION = "0.12.0"
