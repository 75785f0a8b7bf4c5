"""Functions that call undocumented APIs of Prefect. Only this package and `worker.py` do this.

Contract tests fail if a new version of Prefect changes these APIs.
"""
