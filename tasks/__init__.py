"""One step each: Prefect tasks that call kdmodels and record through `tracking`."""
