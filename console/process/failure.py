"""The one error that ends a run."""


class StackError(Exception):
    """``str(self)`` is one sentence that says what is wrong and what to do."""
