"""The sections of a report. Each module converts `Contents` to one `Section`, e.g. the learning curves."""
