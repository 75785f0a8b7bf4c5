"""The Prefect tasks of comparisons and generations. They call kdmodels and record the results in MLflow."""
