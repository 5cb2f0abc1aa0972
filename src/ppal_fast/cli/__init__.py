"""``ppal-fast``, the command line: exit status 0, or 2 with one line on standard error that says what to do."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

from ..errors import DataWarning, PPALError, PublicAssumptionWarning

INTERRUPTED = 130  # what shells report for a process ended by Ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the console script hands the result to ``sys.exit``."""
    try:
        import rich  # noqa: F401
        import typer
    except ModuleNotFoundError:
        return _refuse('the command line needs typer and rich: pip install "ppal_fast[cli]"')
    from .app import app

    click_error: Any = typer.BadParameter.__mro__[2]  # ClickException: newer typer brings a click of its own
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            status = app(args=arguments, prog_name="ppal-fast", standalone_mode=False) or 0
        except (KeyboardInterrupt, typer.Abort):
            status = INTERRUPTED
        except click_error as error:
            return _refuse(f"{error.format_message()} (ppal-fast --help lists the commands and options)")
        except (PPALError, OSError, MemoryError) as error:
            return _refuse(str(error) or type(error).__name__)
    if status == INTERRUPTED:  # newer typer returns it, older raises Abort
        print("ppal-fast: interrupted; a session keeps all that was asked and answered", file=sys.stderr)
    return status


def _refuse(sentence: str) -> int:
    print("ppal-fast: " + " ".join(sentence.split()), file=sys.stderr)
    return 2


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """Our own warnings are notes to the user, on standard output; others keep Python's form on standard error."""
    if issubclass(category, DataWarning | PublicAssumptionWarning):
        print(f"note: {message}")
    else:
        sys.stderr.write(warnings.formatwarning(message, category, *place[:2]))
