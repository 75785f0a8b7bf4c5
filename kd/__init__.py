"""The `kd` command line. Each command parses its arguments, runs a flow or reads recorded runs, and prints a result."""
