"""Every exception and warning that a user can meet. Each carries one sentence that says what to do."""

from __future__ import annotations


class PPALError(Exception):
    """Base of all errors raised on purpose by ppal_fast."""


class InputError(PPALError, ValueError):
    """An argument, a table or a file is not what it should be; nothing was changed."""


class PrivacyError(PPALError):
    """A request would break a privacy contract; nothing was computed and nothing was spent."""


class BudgetExceeded(PrivacyError):
    """The ledger cannot pay for the release; raised before anything is computed, the ledger unchanged."""


class LedgerError(PrivacyError):
    """The ledger's file is unusable (damaged, locked, read-only, older than its witness) or a name was reused."""


class SessionError(PPALError):
    """The session on disk cannot do this now (already open, not a session, rows never asked)."""


class DataWarning(UserWarning):
    """Something in the table limits what can be learned from it (constant or empty columns, one class)."""


class PublicAssumptionWarning(UserWarning):
    """Something was read from the rows and is thereby treated as public; the sentence names it."""


class InterruptedReleaseWarning(UserWarning):
    """A release was paid for and its process died before the value was written; it cannot be made again."""
