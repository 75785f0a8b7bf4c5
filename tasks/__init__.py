"""The Prefect tasks of a comparison. They call kdmodels and record the results through `tasks.tracking`."""
