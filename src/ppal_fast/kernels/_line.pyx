# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The decision for one item: standardise, encode, score, and say how uncertain it is.

    x -> cells z -> psi (columns, factors, mixtures or products) -> A = (psi - mean) P, clipped at a radius -> W phi
      -> softmax -> label, probability, uncertainty = entropy / log K * share of observed cells

Cost: observed cells times latent width, and one q x q Cholesky where there are factors.
"""

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport INFINITY, NAN, exp, fabs, log, sqrt
from libc.stdlib cimport free, malloc


cdef inline double _interpolated(const Model *model, Py_ssize_t j, double value) noexcept nogil:
    """Piecewise linear through the column's knots, flat outside them; as numpy.interp."""
    cdef Py_ssize_t low = model.knot_start[j], high = model.knot_start[j + 1] - 1, middle
    if value <= model.knots[low]:
        return model.knot_scores[low]
    if value >= model.knots[high]:
        return model.knot_scores[high]
    while high - low > 1:
        middle = (low + high) // 2
        if value < model.knots[middle]:
            high = middle
        else:
            low = middle
    return model.knot_scores[low] + (model.knot_scores[high] - model.knot_scores[low]) * (
        (value - model.knots[low]) / (model.knots[high] - model.knots[low])
    )


cdef Py_ssize_t _read_cells(const Model *model, const double *x, double *z, Py_ssize_t *seen) noexcept nogil:
    """Standardised cells of an item, NaN where missing. Returns the number of observed columns, -1 on an infinity.

    seen: how many cells are observed, then which; gathered without a branch, which missing cells would mislead.
    """
    cdef Py_ssize_t j, k, first, n_observed = 0
    cdef double value
    cdef bint known, infinite = False
    for j in range(model.n_columns):
        infinite = infinite | (fabs(x[j]) == INFINITY)
        n_observed += x[j] == x[j]
    if infinite:
        return -1
    for j in range(model.n_numeric):
        value = x[model.numeric[j]]
        if value == value:
            if model.knot_start[j + 1] > model.knot_start[j]:
                value = _interpolated(model, j, value)
            value = (value - model.mean[j]) / model.scale[j]
            value = min(max(value, -model.clip), model.clip)
        z[j] = value
    for j in range(model.n_categories):
        value = x[model.category[j]]
        known = False
        first = model.level_start[j]
        for k in range(first, model.level_start[j + 1]):
            known = known or value == model.levels[k]
        for k in range(first, model.level_start[j + 1]):
            z[model.n_numeric + k] = (
                ((value == model.levels[k]) - model.frequency[k]) * model.category_scale[j] if known else NAN
            )
    seen[0] = 0
    for j in range(model.n_cells):
        seen[1 + seen[0]] = j
        seen[0] += z[j] == z[j]
    return n_observed


cdef void _factors(
    const Model *model, const double *z, const Py_ssize_t *seen, double *precision, double *f
) noexcept nogil:
    """Posterior mean of q factors given the observed cells: (I + sum_j l_j l_j'/psi_j) f = sum_j z_j l_j/psi_j.

    precision: scratch of q(q+1)/2. Source: Little, Rubin, Statistical Analysis with Missing Data, section 11.3.
    """
    cdef Py_ssize_t q = model.n_latent, packed = q * (q + 1) // 2, i, j, k, s, row, column
    cdef double total
    cdef const double *value
    cdef const double *presence
    for i in range(packed):
        precision[i] = 0.0
    for i in range(q):
        f[i] = 0.0
        precision[i * (i + 1) // 2 + i] = 1.0
    for s in range(1, 1 + seen[0]):
        j = seen[s]
        value = model.by_value + j * q
        presence = model.by_presence + j * packed
        for i in range(q):
            f[i] += z[j] * value[i]
        for i in range(packed):
            precision[i] += presence[i]
    for i in range(q):  # Cholesky in place, then two triangular solves
        row = i * (i + 1) // 2
        for j in range(i + 1):
            column = j * (j + 1) // 2
            total = precision[row + j]
            for k in range(j):
                total -= precision[row + k] * precision[column + k]
            precision[row + j] = sqrt(total) if i == j else total / precision[column + j]
        total = f[i]
        for k in range(i):
            total -= precision[row + k] * f[k]
        f[i] = total / precision[row + i]
    for i in range(q - 1, -1, -1):
        total = f[i]
        for k in range(i + 1, q):
            total -= precision[k * (k + 1) // 2 + i] * f[k]
        f[i] = total / precision[i * (i + 1) // 2 + i]


cdef void _mixtures(const Model *model, const double *z, const Py_ssize_t *seen, double *psi) noexcept nogil:
    """Responsibilities of each mixture's components given the observed cells."""
    cdef Py_ssize_t m = model.n_latent, g, i, j, s
    cdef const double *value
    cdef const double *presence
    for i in range(m):
        psi[i] = model.base[i]
    for s in range(1, 1 + seen[0]):
        j = seen[s]
        value = model.by_value + j * m
        presence = model.by_presence + j * m
        for i in range(m):
            psi[i] += z[j] * value[i] + presence[i]
    for g in range(model.n_mixtures):
        _softmax(psi + model.mixture_start[g], model.mixture_start[g + 1] - model.mixture_start[g])


cdef inline double _filled(const Model *model, const double *z, const double *f, Py_ssize_t cell) noexcept nogil:
    cdef double total = 0.0
    cdef Py_ssize_t i
    if z[cell] == z[cell]:
        return z[cell]
    for i in range(model.n_latent):
        total += f[i] * model.loadings[cell * model.n_latent + i]
    return total


cdef void _products(const Model *model, const double *z, const double *f, double *psi) noexcept nogil:
    """Category shares (x) (1, numbers); a gap is filled by the factors, or by zero where there are none."""
    cdef Py_ssize_t width = 1 + model.n_numbers, c, i, k, category, first, n_levels, cell
    cdef double share, total
    cdef double *block = psi
    for c in range(model.n_product_categories):
        category = model.product_category[c]
        first = model.level_start[category]
        n_levels = model.level_start[category + 1] - first
        total = 0.0
        for k in range(n_levels):
            cell = model.n_numeric + first + k
            if model.n_latent == 0 and z[cell] != z[cell]:
                share = 0.0
            else:
                share = _filled(model, z, f, cell) / model.category_scale[category] + model.frequency[first + k]
                share = min(max(share, 0.0), 1.0)
            block[k * width] = share
            total += share
        total = max(total, 1e-6) if model.n_latent > 0 else 1.0
        for k in range(n_levels):
            block[k * width] /= total
        for i in range(model.n_numbers):
            share = min(max(_filled(model, z, f, model.numbers[i]), -model.number_clip), model.number_clip)
            for k in range(n_levels):
                block[k * width + 1 + i] = block[k * width] * share
        block += n_levels * width


cdef void _softmax(double *logits, Py_ssize_t n) noexcept nogil:
    cdef double top = logits[0], total = 0.0
    cdef Py_ssize_t i
    for i in range(1, n):
        top = max(top, logits[i])
    for i in range(n):
        logits[i] = exp(logits[i] - top)
        total += logits[i]
    for i in range(n):
        logits[i] /= total


cdef void _classes(
    const Model *model, const double *psi, const Py_ssize_t *nonzero, double *A, double *probabilities
) noexcept nogil:
    """softmax(W phi), phi = (constant, A clipped at the radius). nonzero: as ``seen``, or NULL for all of psi."""
    cdef Py_ssize_t r = model.n_coordinates, K = model.n_classes, i, j, s
    cdef double squares = 0.0, length
    cdef const double *row
    for i in range(r):
        A[i] = -model.centre[i]
    for s in range(model.n_psi if nonzero == NULL else nonzero[0]):
        j = s if nonzero == NULL else nonzero[1 + s]
        row = model.projection + j * r
        for i in range(r):
            A[i] += psi[j] * row[i]
    for i in range(r):
        squares += A[i] * A[i]
    length = sqrt(1.0 + model.constant * model.constant)
    for i in range(K):
        probabilities[i] = model.constant / length * model.weights[i]
    length *= max(model.radius, sqrt(squares))
    for j in range(r):
        row = model.weights + (1 + j) * K
        for i in range(K):
            probabilities[i] += A[j] / length * row[i]
    _softmax(probabilities, K)


cdef Status decide(
    const Model *model, double threshold, const double *x, double *work, double *probabilities, Verdict *verdict
) noexcept nogil:
    cdef double *z = work
    cdef double *latent = z + model.n_cells
    cdef double *psi = latent + model.n_latent
    cdef double *scratch = psi + model.n_psi
    cdef Py_ssize_t *seen = <Py_ssize_t *> (work + model.n_work) - (model.n_cells + 2)
    cdef const Py_ssize_t *nonzero = NULL
    cdef Py_ssize_t n_observed = _read_cells(model, x, z, seen), i, best = 0
    cdef double entropy = 0.0
    if n_observed < 0:
        return INFINITE
    if model.encoder == COLUMNS:
        psi, nonzero = z, seen
    elif model.encoder == FACTORS:
        _factors(model, z, seen, scratch, psi)
    elif model.encoder == MIXTURES:
        _mixtures(model, z, seen, psi)
    else:
        if model.n_latent > 0:
            _factors(model, z, seen, scratch, latent)
        _products(model, z, latent, psi)
    if model.n_coordinates > 0:
        _classes(model, psi, nonzero, scratch, probabilities)
    else:
        for i in range(model.n_classes):
            probabilities[i] = psi[i]
    for i in range(model.n_classes):
        if probabilities[i] > probabilities[best]:
            best = i
        if probabilities[i] > 0.0:
            entropy -= probabilities[i] * log(probabilities[i])
    verdict.label = best
    verdict.probability = probabilities[best]
    verdict.uncertainty = min(max(entropy / log(model.n_classes), 0.0), 1.0) * n_observed / model.n_columns
    verdict.query = verdict.uncertainty >= threshold
    return DECIDED


cdef class Scorer:
    """Owns a model's arrays, and hands it items from Python. ``parts`` are described in ppal_fast.line."""

    def __cinit__(self, dict parts, double threshold, tuple labels, object decision):
        self._parts, self._labels, self._decision, self.threshold = parts, labels, decision, threshold
        cdef Model *m = &self.model
        m.n_columns, m.n_classes = parts["n_columns"], len(labels)
        m.n_numeric, m.n_categories = len(parts["numeric"]), len(parts["category"])
        m.n_cells = m.n_numeric + len(parts["levels"])
        m.numeric, m.category, m.level_start = _whole(parts["numeric"]), _whole(parts["category"]), _whole(parts["level_start"])
        m.mean, m.scale, m.clip = _real(parts["mean"]), _real(parts["scale"]), parts["clip"]
        m.knot_start, m.knots, m.knot_scores = _whole(parts["knot_start"]), _real(parts["knots"]), _real(parts["knot_scores"])
        m.levels, m.frequency = _real(parts["levels"]), _real(parts["frequency"])
        m.category_scale = _real(parts["category_scale"])
        m.encoder, m.n_latent, m.n_psi = parts["encoder"], parts["n_latent"], parts["n_psi"]
        m.by_value, m.by_presence, m.base = _real(parts["by_value"]), _real(parts["by_presence"]), _real(parts["base"])
        m.mixture_start, m.n_mixtures = _whole(parts["mixture_start"]), len(parts["mixture_start"]) - 1
        m.loadings, m.number_clip = _real(parts["loadings"]), parts["number_clip"]
        m.numbers, m.n_numbers = _whole(parts["numbers"]), len(parts["numbers"])
        m.product_category, m.n_product_categories = _whole(parts["product_category"]), len(parts["product_category"])
        m.n_coordinates, m.centre, m.projection = len(parts["centre"]), _real(parts["centre"]), _real(parts["projection"])
        m.radius, m.constant, m.weights = parts["radius"], parts["constant"], _real(parts["weights"])
        m.n_work = m.n_cells + m.n_latent + m.n_psi + max(m.n_latent * (m.n_latent + 1) // 2, m.n_coordinates)
        m.n_work += m.n_cells + 2  # the list of observed cells
        self._work = <double *> malloc((m.n_work + m.n_classes) * sizeof(double))
        if self._work == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._work)

    def decide(self, x):
        """The decision on a float64 vector; None when x is anything else, so that the caller reads or refuses it."""
        cdef Py_buffer view
        cdef Verdict verdict
        cdef Status status
        try:
            PyObject_GetBuffer(x, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        except (TypeError, ValueError, BufferError):
            return None
        if view.ndim != 1 or view.shape[0] != self.model.n_columns or view.format[0] != b"d" or view.format[1]:
            PyBuffer_Release(&view)
            return None
        # the scorer's own scratch is safe here: the interpreter lock is held from the first write to the last read
        status = decide(
            &self.model, self.threshold, <const double *> view.buf, self._work, self._work + self.model.n_work, &verdict
        )
        PyBuffer_Release(&view)
        if status != DECIDED:
            return None
        return self._decision(
            self._labels[verdict.label], verdict.probability, verdict.uncertainty, bool(verdict.query)
        )

    def decide_many(
        self, const double[:, ::1] X, double[:, ::1] probabilities, Py_ssize_t[::1] label, double[::1] probability,
        double[::1] uncertainty, unsigned char[::1] query
    ):
        """Fills the arrays of a batch, without the interpreter lock. Returns the first row with an infinity, or -1."""
        cdef Py_ssize_t i, n = X.shape[0], bad = -1
        cdef Verdict verdict
        cdef double *work = <double *> malloc(max(self.model.n_work, 1) * sizeof(double))
        if work == NULL:
            raise MemoryError
        with nogil:
            for i in range(n):
                if decide(&self.model, self.threshold, &X[i, 0], work, &probabilities[i, 0], &verdict) != DECIDED:
                    bad = i
                    break
                label[i], probability[i] = verdict.label, verdict.probability
                uncertainty[i], query[i] = verdict.uncertainty, verdict.query
        free(work)
        return bad


cdef const double *_real(const double[::1] values):
    return &values[0] if values.shape[0] else NULL


cdef const Py_ssize_t *_whole(const Py_ssize_t[::1] values):
    return &values[0] if values.shape[0] else NULL
