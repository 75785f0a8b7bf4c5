"""Tables that the command `kd` prints and that notebooks show."""
