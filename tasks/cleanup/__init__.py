"""Functions that delete old runs, old caches, and files that dead processes left behind."""
