"""Services that kdflow runs on this machine: the Prefect and MLflow servers, the Prefect worker, and schedules."""
