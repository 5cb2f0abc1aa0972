from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

class Scorer:
    id: str
    text: bytes
    n_work: int
    threshold: float
    has_density: bool
    queries_per_hour: float
    address: int
    def __init__(
        self, image: bytes, labels: tuple[Any, ...], decision: type, clock: Callable[[], float] | None, coins: int
    ) -> None: ...
    def decide(self, x: Any) -> Any: ...
    def decide_many(
        self, X: NDArray[np.float64], verdicts: NDArray[np.void], probabilities: NDArray[np.float64] | None,
        watched: bool,
    ) -> int: ...
    def take_pace(self, other: Scorer) -> None: ...
    def drift(self) -> tuple[int, int, float, int]: ...
    def reset_drift(self) -> None: ...

def check(image: bytes) -> str | None: ...
def decide_address() -> int: ...
