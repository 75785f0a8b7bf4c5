"""Execution of training on this machine: threads, worker processes, locks, and interruption."""
