"""The one exception that tells a user what to mend.

>>> raise InputError("n = 0 events: at least one is needed")
Traceback (most recent call last):
    ...
rewind.errors.InputError: n = 0 events: at least one is needed
"""

__all__ = ["InputError"]


class InputError(ValueError):
    """Input from outside that cannot be used: one line that says what is wrong, where, and what to do."""
