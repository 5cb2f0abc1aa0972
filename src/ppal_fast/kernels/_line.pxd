"""The decision for one item, for other Cython code:

    from ppal_fast.kernels._line cimport Model, Scorer, Verdict, decide

A ``Scorer`` owns the arrays that its ``model`` points into: keep it alive while you call ``decide``. ``work`` is scratch
of ``model.n_work`` doubles, one per thread; ``probabilities`` takes ``model.n_classes`` doubles. No call allocates,
waits or touches Python.
"""

cdef enum Encoder:
    COLUMNS = 0
    FACTORS = 1
    MIXTURES = 2
    PRODUCTS = 3

cdef enum Status:
    DECIDED = 0
    INFINITE = 1

cdef struct Model:
    Py_ssize_t n_columns      # of an item
    Py_ssize_t n_numeric      # cells: first the numeric columns, then one block per category
    Py_ssize_t n_categories
    Py_ssize_t n_cells
    const Py_ssize_t *numeric         # (n_numeric,) columns
    const double *mean                # (n_numeric,)
    const double *scale
    const Py_ssize_t *knot_start      # (n_numeric + 1,) into knots: columns that are interpolated before scaling
    const double *knots
    const double *knot_scores
    double clip
    const Py_ssize_t *category        # (n_categories,) columns
    const Py_ssize_t *level_start     # (n_categories + 1,) into levels
    const double *levels
    const double *frequency
    const double *category_scale      # (n_categories,)

    Encoder encoder
    Py_ssize_t n_latent               # q factors, or components of all mixtures together
    const double *by_value            # (n_cells, n_latent) times the cell
    const double *by_presence         # (n_cells, q(q+1)/2) precision, packed rows of the lower triangle; or components
    const double *base                # (n_latent,) log weights of the components
    Py_ssize_t n_mixtures
    const Py_ssize_t *mixture_start   # (n_mixtures + 1,) into the components
    const double *loadings            # (n_cells, n_latent) that fill the cells of products
    Py_ssize_t n_numbers              # of the products
    const Py_ssize_t *numbers         # (n_numbers,) cells
    double number_clip
    Py_ssize_t n_product_categories
    const Py_ssize_t *product_category
    Py_ssize_t n_psi

    Py_ssize_t n_coordinates          # 0: psi are the class probabilities
    const double *centre              # (n_coordinates,) projected mean
    const double *projection          # (n_psi, n_coordinates)
    double radius
    double constant
    Py_ssize_t n_classes
    const double *weights             # (1 + n_coordinates, n_classes), first row for the constant
    Py_ssize_t n_work

cdef struct Verdict:
    Py_ssize_t label
    double probability
    double uncertainty
    bint query

cdef Status decide(
    const Model *model, double threshold, const double *x, double *work, double *probabilities, Verdict *verdict
) noexcept nogil

cdef class Scorer:
    cdef Model model
    cdef readonly double threshold
    cdef object _parts
    cdef object _labels
    cdef object _decision
    cdef double *_work
