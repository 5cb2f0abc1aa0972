"""The decision for one item, for other Cython code: the C core of ppal_fast/line.h, and the object that owns a model.

    from ppal_fast.kernels._line cimport Scorer, ppal_line_decide, ppal_line_verdict

Build with ``include_dirs=[ppal_fast.get_include()]``. A ``Scorer`` owns the bytes that its ``model`` points into: keep it
alive while you call. No function of the core allocates, waits or touches Python; ``work`` is scratch of
``model.n_work`` doubles, one block for each thread.
"""

from libc.stdint cimport int64_t, uint64_t

cdef extern from "ppal_fast/line.h" nogil:
    enum: PPAL_LINE_OK
    enum: PPAL_LINE_INFINITE

    ctypedef struct ppal_line:
        int64_t n_columns
        int64_t n_classes
        int64_t n_work
        int64_t n_text
        int64_t n_labelled
        int64_t feedback
        double threshold
        double queries_per_hour
        const char *text
        char id[65]

    ctypedef struct ppal_line_verdict:
        int64_t label
        double probability
        double uncertainty
        double log_density_ratio
        double unusual
        int64_t query

    ctypedef struct ppal_line_pace:
        double allowance
        uint64_t coins

    ctypedef struct ppal_line_drift:
        int64_t n_items
        int64_t n_unusual
        int64_t alarm_at
        double evidence
        uint64_t coins

    const char *ppal_line_message(int status)
    int ppal_line_open(ppal_line *line, const void *bytes, int64_t size)
    int ppal_line_decide(
        const ppal_line *model, const double *x, double *work, double *probabilities, ppal_line_verdict *verdict
    )
    int64_t ppal_line_decide_many(
        const ppal_line *model, const double *items, int64_t n, double *work, double *probabilities,
        ppal_line_verdict *verdicts
    )
    void ppal_line_paced(
        const ppal_line *m, ppal_line_pace *pace, double now, int64_t n, double *threshold, double *share
    )
    int ppal_line_asked(
        const ppal_line *m, ppal_line_pace *pace, double uncertainty, double threshold, double share
    )
    void ppal_line_watch(const ppal_line *m, ppal_line_drift *drift, double unusual)

cdef class Scorer:
    cdef ppal_line model
    cdef ppal_line_pace pace
    cdef ppal_line_drift watch
    cdef double *_work
    cdef bytes _image  # keeps what model points into
    cdef tuple _labels
    cdef object _decision
    cdef object _clock
