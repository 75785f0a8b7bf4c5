"""Atomic writes of files, temporary folders, and the folders that kdflow uses on this machine."""
