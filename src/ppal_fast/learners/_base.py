"""What all learners share: reading tables and labels, one-class data, and the sentence on what is private."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from .. import _validate
from ..errors import DataWarning, InputError, PrivacyError, PublicAssumptionWarning
from ..table import Schema, Table
from .purse import Purse
from .representation import PoolMap

if TYPE_CHECKING:
    from ..privacy import Ledger

Float = NDArray[np.float64]
Codes = NDArray[np.intp]

NOT_PRIVATE = "not private: fitted without a ledger"


@dataclass(frozen=True)
class Labelled:
    """Labelled rows, their classes as codes, and the pool: a table, a map learned from one, or None."""

    table: Table
    codes: Codes
    classes: NDArray[Any]
    pool: Table | PoolMap | None
    purse: Purse | None  # None: not private
    owners: Any  # of the rows
    pool_owners: Any  # of the pool's rows

    def pool_rows(self) -> Table:
        """The pool's rows, or the labelled ones where no pool was given; for learners that have no use for a map."""
        if isinstance(self.pool, PoolMap):
            raise InputError("X_pool was a map learned by another classifier; this one takes the rows themselves")
        return self.table if self.pool is None else self.pool

    @property
    def features_public(self) -> bool:
        """Without a ledger, or under unit label: whatever sees no label is free."""
        return self.purse is None or self.purse.ledger.unit == "label"


class Learner(ClassifierMixin, BaseEstimator):
    """Base of the classifiers of this package.

    Tables are numpy arrays, pandas or polars frames, pyarrow tables or ``Table``; NaN is a missing cell.

    Parameters
    ----------
    categorical_features : columns (numbers or names) that hold category codes. None: those of a frame or Table, and
        where features are public also undeclared columns of 3 to 12 distinct whole numbers.
    bounds : public ranges (d, 2), or (low, high) for all columns; used where features are private. Default: those
        of the schema, else values are taken as already scaled and are clipped to [-4, 4].
    classes : all class labels, public. None: read from y, which under a ledger is an assumption that is warned of.
    random_state : seeds everything but privacy noise.

    Attributes
    ----------
    classes_, n_features_in_, feature_names_in_, schema_ : as usual; schema_ is how rows are read.
    privacy_ : one sentence that states what holds.
    """

    def __init__(
        self,
        *,
        categorical_features: Sequence[int | str] | None = None,
        bounds: ArrayLike | None = None,
        classes: Sequence[Any] | None = None,
        random_state: Any = None,
    ) -> None:
        self.categorical_features = categorical_features
        self.bounds = bounds
        self.classes = classes
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        X_pool: Any = None,
        ledger: Ledger | None = None,
        epsilon: float | None = None,
        owners: Any = None,
        release_name: str | None = None,
    ) -> Self:
        """Learn from labelled rows X (n, d) and their labels y (n,).

        X_pool        unlabelled rows, or what ``map_pool`` made of them
        ledger        makes the fit private: every number that depends on what the ledger's unit protects goes
                      through ``ledger.release_sum``, under the names ``release_name`` + "/..."
        epsilon       what this fit may spend at the ledger's delta; None: all that remains
        owners        unit owner: the owner of each row of X, or the pair (of X, of X_pool)

        Raises InputError for bad tables or labels, PrivacyError for a pool map that the unit does not allow,
        BudgetExceeded before anything is computed.
        """
        labelled = self._read(X, y, X_pool, ledger, epsilon, owners, release_name)
        if len(self.classes_) == 1:
            only = self.classes_.tolist()[0]
            warnings.warn(f"only the class {only!r} is known; every row will be given it", DataWarning, stacklevel=2)
            self.privacy_ = NOT_PRIVATE if ledger is None else "nothing was released: one public class"
        else:
            self._fit(labelled)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class of each row, (n,)."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def predict_proba(self, X: Any) -> Float:
        """Class probabilities (n, K), columns in the order of classes_."""
        check_is_fitted(self)
        table = Table.of(self._numbers(X, fitting=False), schema=self.schema_)
        if len(self.classes_) == 1:
            return np.ones((len(table), 1))
        return self._probabilities(table)

    def map_pool(self, X_pool: Any) -> Any:
        """The label-free part of fit, to be given to ``fit`` as X_pool any number of times (public features only)."""
        return Table.of(X_pool, categorical=self.categorical_features, name="X_pool")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _fit(self, labelled: Labelled) -> None:
        raise NotImplementedError

    def _probabilities(self, table: Table) -> Float:
        raise NotImplementedError

    def _numbers(self, X: Any, *, fitting: bool) -> Any:
        """X as it came if it is a frame or Table, else float64 (n, d); the names and number of columns are checked."""
        if isinstance(X, Table):
            validate_data(self, X.values, reset=fitting, skip_check_array=True)
            return X
        try:
            if _validate.columns_of(X) is not None:
                validate_data(self, X, reset=fitting, skip_check_array=True)
                return X
            return validate_data(
                self, X, reset=fitting, dtype=np.float64, order="C", ensure_all_finite="allow-nan"
            )
        except ValueError as error:
            raise error if isinstance(error, InputError) else InputError(str(error)) from None

    def _read(
        self, X: Any, y: Any, X_pool: Any, ledger: Ledger | None, epsilon: float | None, owners: Any, name: str | None
    ) -> Labelled:
        given = self._numbers(X, fitting=True)
        unit = "none" if ledger is None else ledger.unit
        private = unit not in ("none", "label")
        pool = X_pool
        if isinstance(pool, PoolMap):
            if private:
                raise PrivacyError(
                    f"X_pool was a map learned from raw rows, which unit {unit!r} protects; give the rows themselves"
                )
        elif pool is not None:
            pool = Table.of(pool, categorical=self.categorical_features, name="X_pool")
        if pool is None:
            table = Table.of(given, categorical=self.categorical_features)
        else:
            table = Table.of(given, schema=pool.schema)
        if self.bounds is not None:
            table = Table(table.values, table.schema.with_bounds(self.bounds))
        if not len(table) and not private:
            raise InputError("X has 0 rows; at least one is expected")  # where it is private, their number says nothing
        if private and len(table.schema.categorical) and not (isinstance(X, Table) or isinstance(X_pool, Table)):
            warnings.warn(
                "the categories were read from the rows and are taken as public; give a Table with a schema",
                PublicAssumptionWarning, stacklevel=3,
            )
        self.schema_: Schema = table.schema
        codes = self._read_labels(y, len(table), ledger)
        purse = None
        if ledger is not None:
            purse = Purse(ledger, epsilon, name or f"{type(self).__name__}-{len(ledger.history()) + 1}")
        elif epsilon is not None:
            raise InputError(f"epsilon was {epsilon!r} without a ledger; give the ledger that it is spent from")
        of_rows, of_pool = owners if isinstance(owners, tuple) else (owners, None)
        if ledger is not None and ledger.unit == "owner":
            _check_owners(of_rows, table, "X")
            if pool is not None:
                _check_owners(of_pool, pool, "X_pool")
        return Labelled(table, codes, self.classes_, pool, purse, of_rows, of_pool)

    def _read_labels(self, y: Any, n_rows: int, ledger: Ledger | None) -> Codes:
        if y is None:
            raise InputError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        labels = column_or_1d(y, warn=True)
        if len(labels) != n_rows:
            raise InputError(f"y has {len(labels)} labels for {n_rows} rows of X; one label a row is expected")
        if labels.dtype.kind in "Of" and any(_validate.is_missing(label) for label in labels):
            raise InputError("y has missing labels; give the labelled rows only, and the others as X_pool")
        try:
            if len(labels):
                check_classification_targets(labels)
            found, codes = np.unique(labels, return_inverse=True)
        except TypeError:
            raise InputError("y mixes labels that cannot be ordered, such as texts and numbers") from None
        if self.classes is None:
            if not len(labels):
                raise InputError("y has no labels and classes was None; give the public list of classes")
            self.classes_ = found
            if ledger is not None:
                warnings.warn(
                    f"the classes {self.classes_.tolist()} were read from y and are taken as public; give classes=",
                    PublicAssumptionWarning, stacklevel=4,
                )
            return codes.astype(np.intp)
        self.classes_ = np.unique(np.asarray(self.classes))
        position = {label: k for k, label in enumerate(self.classes_.tolist())}
        unknown = [label for label in labels.tolist() if label not in position]
        if unknown:
            near = _validate.nearest(unknown[0], [str(c) for c in position])
            raise InputError(f"y has the label {unknown[0]!r}, which is not among classes={list(position)}{near}")
        return np.array([position[label] for label in labels.tolist()], dtype=np.intp)


def _check_owners(owners: Any, table: Any, name: str) -> None:
    """Before anything is spent: every row of the table has an owner."""
    if owners is None or len(owners) != len(table):
        given = "missing" if owners is None else f"{len(owners)} long"
        raise InputError(
            f"the owners of {name} were {given}; unit 'owner' expects one for each of its {len(table)} rows "
            "(owners=(of X, of X_pool))"
        )
