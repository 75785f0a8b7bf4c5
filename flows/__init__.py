"""What runs, in which order: Prefect flows and the `kd` command."""
