"""The one exception for mistakes a user can mend; apart from `types`, so that the command line starts without torch."""

__all__ = ["UserError"]


class UserError(Exception):
    """A mistake the user can mend: one line naming the file, what is wrong and the remedy.

    The command line prints it without a traceback and ends with exit code 2.
    """
