"""Prefect flows. A flow defines which tasks run, and in which order."""
