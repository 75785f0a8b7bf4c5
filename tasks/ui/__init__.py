"""What people see of a flow run in Prefect's UI: summaries in the log, artifacts, assets and links."""
