"""Tables for people: what the command prints and a notebook shows."""
