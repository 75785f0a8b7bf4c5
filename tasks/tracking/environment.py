"""Default settings of MLflow. They reduce output, disable telemetry and pickle, and limit retries to about 1 minute.

Environment variables that the user has set take precedence. `tasks.tracking` imports this module before any module that
imports mlflow.
"""

import os

for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout is for the output of the command
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "6",  # after 0, 2, 4, 8, 16 and 32 s; MLflow's default retries for 4 minutes
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}.items():
    os.environ.setdefault(_name, _value)
