"""Everything private: the ledger and its one door, the accounting, and the audit that attacks them.

Importing this package needs numpy alone; the compiled kernels load when the first noise is drawn.
"""

from __future__ import annotations

from . import accounting, audit, counts
from .accounting import epsilon_of, epsilon_of_mu, gaussian_sigma, mu_of_epsilon
from .budgets import GroupLedger, PersonLedger, allocate
from .label_response import debiased_counts, randomise_labels
from .ledger import Ledger
from .partitions import select_partitions
from .requests import Release
from .simulation import masked_clip_noise, sparse_clip_noise
from .streams import Stream
from .subsampling import SubsampledSums
from .units import PublicMask

__all__ = [
    "GroupLedger", "Ledger", "PersonLedger", "PublicMask", "Release", "Stream", "SubsampledSums", "accounting",
    "allocate", "audit", "counts", "debiased_counts", "epsilon_of", "epsilon_of_mu", "gaussian_sigma",
    "masked_clip_noise", "mu_of_epsilon", "randomise_labels", "select_partitions", "sparse_clip_noise",
]
