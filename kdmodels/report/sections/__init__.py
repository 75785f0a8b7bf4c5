"""The sections of a report. Each module turns contents into components."""
