"""Planning of a comparison: which runs are reused, which networks are trained, and why."""
