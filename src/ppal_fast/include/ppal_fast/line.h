/* The decision about one item in a sorting line: a released model, read from its file, in plain C.
 *
 * C99 and C++; needs <math.h> for sqrt alone. No globals, no allocation, no waiting: an open model is read only and may
 * serve any number of threads, each with scratch of its own. The same file, item and header give the same bits under
 * every compiler that follows IEEE 754, whatever its optimisation.
 *
 *     ppal_line model;                                     // bytes: the file, read or mapped, at an address 8 divides
 *     ppal_line_status status = ppal_line_open(&model, bytes, size);       // checks everything; ppal_line_message
 *     double *work = malloc(model.n_work * sizeof(double));                // once for each thread
 *     ppal_line_verdict verdict;                           // x: model.n_columns doubles, NaN where a cell is missing
 *     status = ppal_line_decide(&model, x, work, NULL, &verdict);          // PPAL_LINE_OK or PPAL_LINE_INFINITE
 *
 * What is released with the model, and to whom it may go, is in its text (model.text, JSON): this header does not check
 * a ledger. docs/line.md describes the file and the formulas.
 */
#ifndef PPAL_FAST_LINE_H
#define PPAL_FAST_LINE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "NaN marks a missing cell and sums have one order: build ppal_fast/line.h without -ffast-math"
#endif

/* A fused multiply-add rounds once where two operations round twice. It is off here, whatever the flags; the functions
 * that a program calls are not inlined, because code takes on the flags of what it is inlined into. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=off")
#elif defined(_MSC_VER)
#pragma fp_contract(off)
#endif
#if defined(__GNUC__)
#define PPAL_LINE_UNUSED __attribute__((unused))
#define PPAL_LINE_INLINE static inline __attribute__((always_inline, unused))
#define PPAL_LINE_ENTRY static __attribute__((noinline, unused))
#else
#define PPAL_LINE_UNUSED
#define PPAL_LINE_INLINE static inline
#define PPAL_LINE_ENTRY static
#endif
/* Wider vectors give the same bits sooner: where the program's loader can choose, it takes the widest of the machine.
 * Defined as nothing, it saves two thirds of the compiler's time. */
#ifdef PPAL_LINE_WIDE
#elif defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__) \
    && !defined(__AVX512F__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define PPAL_LINE_WIDE __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define PPAL_LINE_WIDE
#endif

#include "line_math.h"
#include "line_file.h"
#include "line_open.h"
#include "line_stages.h"
#include "line_trees.h"
#include "line_stream.h"

/* What is decided about an item.
 *
 * label              position of the most probable class
 * probability        of that class
 * uncertainty        entropy over its largest value, times the share of observed cells: 0 to 1
 * log_density_ratio  log density of the cells under the model less that among the labelled rows; NaN without these
 * unusual            squared distance of the cells under the model over what is expected, in deviations; NaN if unknown
 * query              uncertainty >= the file's threshold */
typedef struct {
    int64_t label;
    double probability;
    double uncertainty;
    double log_density_ratio;
    double unusual;
    int64_t query;
} ppal_line_verdict;

/* Log density of the cells among the labelled rows: product Gaussian kernels, a missing cell of a row replaced by the
 * column's own density (docs/density.md); a column that no labelled row has counts as standard normal. */
PPAL_LINE_INLINE double ppal_line_labelled(const ppal_line *m, const ppal_line_room *room) {
    const double half_log_two_pi = 0.91893853320467274178;
    double log_density = 0.0;
    int64_t s, i;
    for (i = 0; i < m->n_labelled; i++) room->rows[i] = 0.0;
    for (s = 0; s < room->n_seen; s++) {
        const int64_t j = room->seen[s], first = m->labelled_start[j], n = m->labelled_start[j + 1] - first;
        const int32_t *const row = m->labelled_row + first;
        const double *const value = m->labelled_value + first;
        const double z = room->z[j] * m->inverse_bandwidth[j];
        double column;
        if (!n) {
            log_density -= 0.5 * room->z[j] * room->z[j] + half_log_two_pi;
            continue;
        }
        for (i = 0; i < n; i++) room->logs[i] = -0.5 * (z - value[i]) * (z - value[i]);
        column = ppal_line_log_sum(room->logs, n) - m->labelled_log[j];
        for (i = 0; i < n; i++) room->rows[row[i]] += room->logs[i] - column;
        log_density += column + m->bandwidth_log[j];
    }
    return log_density + ppal_line_log_sum(room->rows, m->n_labelled) - m->log_labelled;
}

PPAL_LINE_INLINE ppal_line_status ppal_line_decided(
    const ppal_line *m, const double *x, double *work, double *probabilities, ppal_line_verdict *verdict
) {
    ppal_line_room room;
    int64_t n_observed, best = 0, i;
    double entropy = 0.0;
    ppal_line_rooms(m, work, &room);
    if (!probabilities) probabilities = work + m->n_work - m->n_classes;
    n_observed = ppal_line_cells(m, x, &room);
    if (n_observed < 0) return PPAL_LINE_INFINITE;
    ppal_line_latent(m, &room);
    ppal_line_encode(m, &room);
    if (m->head == PPAL_LINE_LINEAR) ppal_line_linear(m, &room, probabilities);
    else if (m->head == PPAL_LINE_SPLITS) ppal_line_splits(m, &room, probabilities);
    else for (i = 0; i < m->n_classes; i++) probabilities[i] = room.psi[i];
    if (m->n_roots) ppal_line_forest(m, &room, probabilities);
    for (i = 0; i < m->n_classes; i++) {
        if (probabilities[i] > probabilities[best]) best = i;
        if (probabilities[i] > 1e-300) entropy -= probabilities[i] * ppal_line_log(probabilities[i]);
    }
    entropy /= m->log_classes;
    entropy = entropy < 0.0 ? 0.0 : entropy;
    verdict->label = best;
    verdict->probability = probabilities[best];
    verdict->uncertainty = (entropy > 1.0 ? 1.0 : entropy) * ((double)n_observed / (double)m->n_columns);
    verdict->query = verdict->uncertainty >= m->threshold;
    verdict->unusual = m->watched && room.n_seen
        ? (room.unusual - (double)room.n_seen) / sqrt(2.0 * (double)room.n_seen) : NAN;
    verdict->log_density_ratio = m->n_labelled ? room.log_density - ppal_line_labelled(m, &room) : NAN;
    return PPAL_LINE_OK;
}

/* Decide n items, (n, n_columns) row by row; probabilities (n, n_classes) or NULL. Returns how many were decided: n, or
 * the position of the first with an infinite value. */
PPAL_LINE_WIDE PPAL_LINE_ENTRY int64_t ppal_line_decide_many(
    const ppal_line *model, const double *items, int64_t n, double *work, double *probabilities,
    ppal_line_verdict *verdicts
) {
    int64_t i;
    for (i = 0; i < n; i++) {
        double *const own = probabilities ? probabilities + i * model->n_classes : NULL;
        if (ppal_line_decided(model, items + i * model->n_columns, work, own, verdicts + i)) break;
    }
    return i;
}

/* Decide one item. work: model->n_work doubles; probabilities: model->n_classes doubles, or NULL. */
PPAL_LINE_ENTRY ppal_line_status ppal_line_decide(
    const ppal_line *model, const double *x, double *work, double *probabilities, ppal_line_verdict *verdict
) {
    return ppal_line_decide_many(model, x, 1, work, probabilities, verdict) ? PPAL_LINE_OK : PPAL_LINE_INFINITE;
}

#if defined(__clang__)
#pragma STDC FP_CONTRACT DEFAULT
#elif defined(__GNUC__)
#pragma GCC pop_options
#elif defined(_MSC_VER)
#pragma fp_contract(on)
#endif
#endif
