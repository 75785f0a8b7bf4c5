"""The parts of Prefect's UI that kdflow fills: summaries in the log, artifacts, assets and links."""
