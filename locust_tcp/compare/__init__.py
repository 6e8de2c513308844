"""Runs of Locust side by side, from their CSVs alone: `python -m locust_tcp.compare --help`."""
