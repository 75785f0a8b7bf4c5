"""Functions that call undocumented APIs of Prefect. Only this package and `worker.py` call such APIs.

Contract tests fail if a new version of Prefect changes these APIs.
"""
