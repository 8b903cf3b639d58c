"""The ``llumdeck`` command line: a thin client of the admin API. Imports nothing of the server."""
