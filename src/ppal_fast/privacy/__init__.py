"""Everything private: the ledger and its one door, the accounting, and the audit that attacks them.

Importing this package needs numpy alone; the compiled kernels load when the first noise is drawn.
"""

from __future__ import annotations

from . import accounting
from .accounting import epsilon_of, epsilon_of_mu, gaussian_sigma, mu_of_epsilon
from .ledger import Ledger, Release
from .units import PublicMask

__all__ = [
    "Ledger", "PublicMask", "Release", "accounting", "epsilon_of", "epsilon_of_mu", "gaussian_sigma", "mu_of_epsilon",
]
