"""The one kind of error a user can cause and mend."""


class UserError(Exception):
    """A mistake the user can mend: one line that says what, where (file, line, key) and what to do.

    Entry points print it as ``error: …`` without a traceback and exit with status 2.
    """


class DiskFull(UserError):
    """No room in a folder. Nothing there is half-written: with room the same command works, or goes on."""
