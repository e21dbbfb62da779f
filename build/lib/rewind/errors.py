"""The one exception that tells a user what to mend."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Input from outside that cannot be used: one line that says what is wrong, where, and what to do."""
