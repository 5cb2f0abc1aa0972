# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Python's way into the C core of ppal_fast/line.h: owns a model's bytes, reads items, makes Decisions."""

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport NAN
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        object (*tp_new)(PyTypeObject *, object, void *)
    PyTypeObject PyTuple_Type


cdef class Scorer:
    """An open model. ``image`` is the file's bytes; a damaged one raises ValueError with one clause that says why.

    decision  a named tuple of (label, probability, uncertainty, query, log_density_ratio)
    clock     seconds, called for each item or batch where queries are paced; None: the fixed threshold
    coins     seeds the coins of queries and drift watch
    """

    def __cinit__(self, bytes image, tuple labels, type decision, object clock, unsigned long long coins):
        cdef int status = ppal_line_open(&self.model, <const char *> image, len(image))
        if status != PPAL_LINE_OK:
            raise ValueError(ppal_line_message(status).decode())
        self._image, self._decision, self._clock = image, decision, clock
        self._labels = labels
        self.pace.coins, self.watch.coins = coins, ~coins
        self._work = <double *> malloc(max(self.model.n_work, 1) * sizeof(double))
        if self._work == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._work)

    @property
    def id(self):
        return self.model.id.decode()

    @property
    def n_work(self):
        return self.model.n_work

    @property
    def threshold(self):
        return self.model.threshold

    @property
    def has_density(self):
        return self.model.n_labelled > 0

    @property
    def address(self):
        """Of the open model, for ``decide_address``."""
        return <uintptr_t> &self.model

    def decide(self, x):
        """The decision on a float64 vector; None when x is anything else, so that the caller reads or refuses it."""
        cdef Py_buffer view
        cdef ppal_line_verdict verdict
        cdef double threshold = 0.0, share = 1.0, now = 0.0
        cdef int status
        cdef bint query
        if self._clock is not None:
            now = self._clock()
        try:
            PyObject_GetBuffer(x, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        except (TypeError, ValueError, BufferError):
            return None
        if view.ndim != 1 or view.shape[0] != self.model.n_columns or view.format[0] != b"d" or view.format[1]:
            PyBuffer_Release(&view)
            return None
        # the scorer's own scratch is safe here: the interpreter lock is held from the first write to the last read
        status = ppal_line_decide(&self.model, <const double *> view.buf, self._work, NULL, &verdict)
        PyBuffer_Release(&view)
        if status != PPAL_LINE_OK:  # refused, but it did arrive: the pace of the others must not tell
            verdict.uncertainty, verdict.query = -1.0, 0
        query = verdict.query
        if self._clock is not None:
            ppal_line_paced(&self.model, &self.pace, now, 1, &threshold, &share)
            query = ppal_line_asked(&self.model, &self.pace, verdict.uncertainty, threshold, share)
        if status != PPAL_LINE_OK:
            return None
        ppal_line_watch(&self.model, &self.watch, verdict.unusual)
        ratio = verdict.log_density_ratio if self.model.n_labelled else None
        fields = (self._labels[verdict.label], verdict.probability, verdict.uncertainty, query, ratio)
        return PyTuple_Type.tp_new(<PyTypeObject *> self._decision, (fields,), NULL)

    def decide_many(self, const double[:, ::1] X, ppal_line_verdict[::1] verdicts, probabilities, bint watched):
        """Fills verdicts (n,) and probabilities (n, K) or None, without the interpreter lock.

        Returns the first row with an infinity, or -1. watched=False leaves pace and drift as they are.
        """
        cdef Py_ssize_t n = X.shape[0], i, decided = 0
        cdef double[:, ::1] P
        cdef double *filled = NULL
        cdef double threshold = 0.0, share = 1.0, now = 0.0
        cdef double *work
        if not n:
            return -1
        if probabilities is not None:
            P = probabilities
            filled = &P[0, 0]
        work = <double *> malloc(max(self.model.n_work, 1) * sizeof(double))
        if work == NULL:
            raise MemoryError
        with nogil:
            decided = ppal_line_decide_many(&self.model, &X[0, 0], n, work, filled, &verdicts[0])
        free(work)
        if decided < n:
            return decided
        if watched:
            if self._clock is not None:
                now = self._clock()
                ppal_line_paced(&self.model, &self.pace, now, n, &threshold, &share)
                for i in range(n):
                    verdicts[i].query = ppal_line_asked(
                        &self.model, &self.pace, verdicts[i].uncertainty, threshold, share
                    )
            for i in range(n):
                ppal_line_watch(&self.model, &self.watch, verdicts[i].unusual)
        return -1

    def take_pace(self, Scorer other):
        """Go on with the allowance of another scorer; its own coins stay."""
        cdef uint64_t coins = self.pace.coins
        if self.model.feedback or not other.model.feedback:  # what was asked may not pace a private model
            self.pace = other.pace
            self.pace.coins = coins

    def drift(self):
        """(items watched, unusual ones, evidence, item of the alarm or 0)."""
        return self.watch.n_items, self.watch.n_unusual, self.watch.evidence, self.watch.alarm_at

    def reset_drift(self):
        cdef uint64_t coins = self.watch.coins
        memset(&self.watch, 0, sizeof(self.watch))
        self.watch.coins = coins


def check(bytes image):
    """None, or one clause that says why these bytes are not a model's."""
    cdef ppal_line model
    cdef int status = ppal_line_open(&model, <const char *> image, len(image))
    return None if status == PPAL_LINE_OK else ppal_line_message(status).decode()


def decide_address():
    """Address of ``int decide(model, x, work, probabilities, verdict)``, five pointers, for ctypes and Numba."""
    return <uintptr_t> <void *> &ppal_line_decide
