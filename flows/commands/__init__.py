"""What each command of `kd` parses, calls and prints; flows/cli.py is the table of them."""
