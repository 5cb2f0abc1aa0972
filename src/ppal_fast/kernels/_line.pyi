from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

class Scorer:
    threshold: float
    def __init__(
        self, parts: dict[str, Any], threshold: float, labels: tuple[Any, ...], decision: Callable[..., Any]
    ) -> None: ...
    def decide(self, x: Any) -> Any: ...
    def decide_many(
        self,
        X: NDArray[np.float64],
        probabilities: NDArray[np.float64],
        label: NDArray[np.intp],
        probability: NDArray[np.float64],
        uncertainty: NDArray[np.float64],
        query: NDArray[np.uint8],
    ) -> int: ...
