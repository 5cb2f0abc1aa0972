/* The stages of a decision, each a formula of ppal_fast.learners: cells, latent models, psi, classes. Part of line.h.
 *
 *     x -> cells z -> psi -> A = (psi - mean) P, clipped at a radius -> softmax(W phi)
 */

enum { PPAL_LINE_TREES_AT_ONCE = 10 }; /* walked side by side: one's memory is fetched while another compares */

/* Scratch of one decision, cut from the caller's block. */
typedef struct {
    double *z, *term, *factors_0, *factors_1, *components_0, *components_1, *packed, *psi, *phi, *votes, *rows, *logs, *go, *share;
    float *features;
    int32_t *seen, *observed;
    int64_t n_seen;
    double unusual, log_density; /* squared distance and log density of the cells under the watched model */
} ppal_line_room;

PPAL_LINE_INLINE void ppal_line_rooms(const ppal_line *m, double *work, ppal_line_room *room) {
    room->z = work; work += m->n_cells;
    room->term = work; work += m->n_cells;
    room->factors_0 = work; work += m->n_factors_0;
    room->factors_1 = work; work += m->n_factors_1;
    room->components_0 = work; work += m->n_components_0;
    room->components_1 = work; work += m->n_components_1;
    room->packed = work; work += ppal_line_most(m->n_packed_0, m->n_packed_1);
    room->psi = work; work += m->n_psi;
    room->phi = work; work += m->n_coordinates;
    room->votes = work; work += m->n_classes;
    room->rows = work; work += m->n_labelled;
    room->logs = work; work += ppal_line_most(m->n_labelled, m->n_cells);
    room->go = work; work += m->n_split_nodes;
    room->share = work; work += m->n_split_nodes + m->n_split_trees; /* a leaf each, and room for the nodes above */
    room->seen = (int32_t *)(void *)work; work += (m->n_cells + 2) / 2;
    room->observed = (int32_t *)(void *)work; work += (m->n_columns + 2) / 2;
    room->features = (float *)(void *)work;
}

/* Piecewise linear through the column's knots, flat outside them; the order of operations is numpy.interp's. */
PPAL_LINE_INLINE double ppal_line_interpolated(const ppal_line *m, int64_t j, double value) {
    int64_t low = m->knot_start[j], high = m->knot_start[j + 1] - 1;
    if (value != value) return value;
    if (value <= m->knots[low]) return m->knot_scores[low];
    if (value >= m->knots[high]) return m->knot_scores[high];
    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        if (value < m->knots[middle]) high = middle;
        else low = middle;
    }
    return (m->knot_scores[high] - m->knot_scores[low]) / (m->knots[high] - m->knots[low]) * (value - m->knots[low])
         + m->knot_scores[low];
}

/* Standardised cells, NaN where missing. Returns the number of observed columns, -1 on an infinity.
 * What is observed is gathered without a branch, which missing cells would mislead; few columns are left to work on. */
PPAL_LINE_INLINE int64_t ppal_line_cells(const ppal_line *m, const double *x, ppal_line_room *room) {
    double *const z = room->z, infinite = 0.0;
    int32_t *const observed = room->observed;
    int64_t i, j, k, n_observed = 0, n_seen = 0;
    for (j = 0; j < m->n_columns; j++) {
        observed[n_observed] = (int32_t)j;
        n_observed += x[j] == x[j];
    }
    for (j = 0; j < m->n_cells; j++) z[j] = NAN;
    for (i = 0; i < n_observed; i++) {
        const double value = x[observed[i]];
        const int64_t cell = m->cell_of[observed[i]];
        infinite += value - value; /* NaN for an infinity */
        if (cell >= 0) { /* numeric */
            const double score = m->knot_start[cell + 1] > m->knot_start[cell]
                ? ppal_line_interpolated(m, cell, value) : value;
            const double standard = (score - m->mean[cell]) / m->scale[cell];
            const double above = standard < -m->clip ? -m->clip : standard;
            z[cell] = above > m->clip ? m->clip : above;
            room->seen[n_seen++] = (int32_t)cell;
        } else if (cell < -1) { /* category -2 - cell; -1 is no cell */
            const int64_t first = m->level_start[-2 - cell], last = m->level_start[-1 - cell];
            int known = 0;
            for (k = first; k < last; k++) known |= value == m->levels[k];
            for (k = first; known && k < last; k++) {
                z[m->n_numeric + k] = ((value == m->levels[k]) - m->frequency[k]) * m->category_scale[-2 - cell];
                room->seen[n_seen++] = (int32_t)(m->n_numeric + k);
            }
        }
    }
    room->n_seen = n_seen;
    return infinite == 0.0 ? n_observed : -1;
}

/* Posterior mean f of q factors given the observed cells: (I + sum_j l_j l_j' / v_j) f = sum_j z_j l_j / v_j = b.
 * Returns b'f, of the squared distance what the factors explain; *determinant is that of the matrix, which is kept as
 * the lower triangle column by column and factored as L D L'.
 * Source: Little, Rubin, Statistical Analysis with Missing Data, section 11.3. */
PPAL_LINE_INLINE double ppal_line_factored(
    const ppal_line_room *room, const double *by_value, const double *by_presence, int64_t q, double *matrix, double *f,
    double *determinant
) {
    const int64_t packed = q * (q + 1) / 2;
    double *column, explained = 0.0;
    int64_t i, j, k, s;
    *determinant = 1.0;
    for (i = 0; i < packed; i++) matrix[i] = 0.0;
    for (i = 0; i < q; i++) f[i] = 0.0;
    for (s = 0; s < room->n_seen; s++) {
        const double z = room->z[room->seen[s]];
        const double *const value = by_value + room->seen[s] * q, *const presence = by_presence + room->seen[s] * packed;
        for (i = 0; i < q; i++) f[i] += z * value[i];
        for (i = 0; i < packed; i++) matrix[i] += presence[i];
    }
    for (k = 0, column = matrix; k < q; column += q - k, k++) { /* column[i - k] is entry (i, k) */
        const double pivot = 1.0 + column[0], inverse = 1.0 / pivot;
        double *next = column + (q - k);
        *determinant *= pivot;
        explained += f[k] * f[k] * inverse;
        for (j = k + 1; j < q; next += q - j, j++) {
            const double factor = column[j - k] * inverse;
            for (i = j; i < q; i++) next[i - j] -= column[i - k] * factor;
            f[j] -= f[k] * factor;
        }
        column[0] = inverse;
    }
    for (k = q - 1; k >= 0; k--) {
        double total = f[k];
        column -= q - k;
        for (i = k + 1; i < q; i++) total -= column[i - k] * f[i];
        f[k] = total * column[0];
    }
    return explained;
}

/* The usual numbers of factors are compiled apart, so that the loops above are of known length. */
PPAL_LINE_INLINE double ppal_line_factors(
    const ppal_line_room *room, const double *by_value, const double *by_presence, int64_t q, double *matrix, double *f,
    double *determinant
) {
    if (q == 8) return ppal_line_factored(room, by_value, by_presence, 8, matrix, f, determinant);
    if (q == 4) return ppal_line_factored(room, by_value, by_presence, 4, matrix, f, determinant);
    return ppal_line_factored(room, by_value, by_presence, q, matrix, f, determinant);
}

/* Shares of each mixture's components given the observed cells; returns the last one's log normaliser. */
PPAL_LINE_INLINE double ppal_line_mixtures(
    const ppal_line_room *room, const double *by_value, const double *by_presence, const double *base, int64_t n,
    const int32_t *start, int64_t n_mixtures, double *shares
) {
    int64_t i, s, g;
    double top = 0.0, total = 1.0;
    for (i = 0; i < n; i++) shares[i] = base[i];
    for (s = 0; s < room->n_seen; s++) {
        const double z = room->z[room->seen[s]];
        const double *const value = by_value + room->seen[s] * n, *const presence = by_presence + room->seen[s] * n;
        for (i = 0; i < n; i++) shares[i] += z * value[i] + presence[i];
    }
    for (g = 0; g < n_mixtures; g++) {
        if (start[g] == start[g + 1]) continue;
        top = ppal_line_largest(shares + start[g], start[g + 1] - start[g]);
        for (i = start[g]; i < start[g + 1]; i++) shares[i] -= top;
    }
    for (i = 0; i < n; i++) shares[i] = ppal_line_exp(shares[i]);
    for (g = 0; g < n_mixtures; g++) {
        if (start[g] == start[g + 1]) continue;
        total = ppal_line_sum(shares + start[g], start[g + 1] - start[g]);
        for (i = start[g]; i < start[g + 1]; i++) shares[i] /= total;
    }
    return top + ppal_line_log(total);
}

/* Every latent model that the file holds, and how unusual the cells are under the watched one. */
PPAL_LINE_INLINE void ppal_line_latent(const ppal_line *m, ppal_line_room *room) {
    const int32_t whole[2] = {0, (int32_t)m->n_components_1};
    double explained = 0.0, volume = 1.0, distance = 0.0, scale = 0.0, found, determinant = 1.0;
    int64_t s;
    if (m->n_factors_0) {
        found = ppal_line_factors(
            room, m->by_value_0, m->by_presence_0, m->n_factors_0, room->packed, room->factors_0, &determinant);
        if (m->watched == PPAL_LINE_FACTORS_0) explained = found, volume = determinant;
    }
    if (m->n_factors_1) {
        found = ppal_line_factors(
            room, m->by_value_1, m->by_presence_1, m->n_factors_1, room->packed, room->factors_1, &determinant);
        if (m->watched == PPAL_LINE_FACTORS_1) explained = found, volume = determinant;
    }
    if (m->n_components_0) {
        found = ppal_line_mixtures(
            room, m->mixture_by_value_0, m->mixture_by_presence_0, m->mixture_base_0, m->n_components_0,
            m->mixture_start_0, m->n_mixtures_0, room->components_0);
        if (m->watched == PPAL_LINE_MIXTURE_0) explained = 2.0 * found;
    }
    if (m->n_components_1) {
        found = ppal_line_mixtures(
            room, m->mixture_by_value_1, m->mixture_by_presence_1, m->mixture_base_1, m->n_components_1, whole, 1,
            room->components_1);
        if (m->watched == PPAL_LINE_MIXTURE_1) explained = 2.0 * found;
    }
    for (s = 0; s < room->n_seen; s++) {
        const double z = room->z[room->seen[s]];
        distance += z * z * m->cell_precision[room->seen[s]];
        scale += m->cell_log_scale[room->seen[s]];
    }
    room->unusual = distance - explained;
    room->log_density = !m->n_labelled ? 0.0 : -0.5 * (room->unusual + ppal_line_log(volume) + scale);
}

/* A cell, or where it is missing its posterior mean. */
PPAL_LINE_INLINE double ppal_line_filled(const ppal_line *m, const ppal_line_room *room, int64_t model, int64_t cell) {
    const double *f = room->factors_0, *loading = m->loadings_0 + cell * m->n_factors_0;
    int64_t n = m->n_factors_0;
    if (room->z[cell] == room->z[cell]) return room->z[cell];
    if (model == PPAL_LINE_NO_MODEL) return 0.0;
    if (model == PPAL_LINE_FACTORS_1) f = room->factors_1, n = m->n_factors_1, loading = m->loadings_1 + cell * n;
    if (model == PPAL_LINE_MIXTURE_1) f = room->components_1, n = m->n_components_1, loading = m->mixture_mean_1 + cell * n;
    return ppal_line_dot(f, loading, n);
}

/* Category shares (x) (1, numbers); a gap is filled by the factors, or by zero where there are none. */
PPAL_LINE_INLINE void ppal_line_products(const ppal_line *m, const ppal_line_room *room) {
    const int64_t width = 1 + m->n_numbers, model = m->n_factors_0 ? PPAL_LINE_FACTORS_0 : PPAL_LINE_NO_MODEL;
    double *block = room->psi;
    int64_t c, i, k;
    for (c = 0; c < m->n_product_categories; c++) {
        const int64_t category = m->product_category[c], first = m->level_start[category];
        const int64_t n_levels = m->level_start[category + 1] - first;
        double total = 0.0, value;
        for (k = 0; k < n_levels; k++) {
            const int64_t cell = m->n_numeric + first + k;
            value = ppal_line_filled(m, room, model, cell) / m->category_scale[category] + m->frequency[first + k];
            value = value < 0.0 ? 0.0 : value;
            value = value > 1.0 ? 1.0 : value;
            if (!m->n_factors_0 && room->z[cell] != room->z[cell]) value = 0.0;
            block[k * width] = value;
            total += value;
        }
        total = m->n_factors_0 ? (total > 1e-6 ? total : 1e-6) : 1.0;
        for (k = 0; k < n_levels; k++) block[k * width] /= total;
        for (i = 0; i < m->n_numbers; i++) {
            value = ppal_line_filled(m, room, model, m->numbers[i]);
            value = value < -m->number_clip ? -m->number_clip : value;
            value = value > m->number_clip ? m->number_clip : value;
            for (k = 0; k < n_levels; k++) block[k * width + 1 + i] = block[k * width] * value;
        }
        block += n_levels * width;
    }
}

/* Components of the leaves that the filled cells fall into, summed over complete trees; psi is
 * written once for all trees that are walked side by side. */
PPAL_LINE_INLINE void ppal_line_leaves(const ppal_line *m, const ppal_line_room *room) {
    const int64_t n_nodes = ((int64_t)1 << m->leaf_depth) - 1;
    int64_t t, j, k, level;
    for (j = 0; j < m->n_cells; j++) room->term[j] = ppal_line_filled(m, room, m->fill, j);
    for (j = 0; j < m->n_psi; j++) room->psi[j] = 0.0;
    for (t = 0; t < m->n_leaf_trees; t += PPAL_LINE_TREES_AT_ONCE) {
        const int64_t left = m->n_leaf_trees - t, most = PPAL_LINE_TREES_AT_ONCE, n = left < most ? left : most;
        const double *component[PPAL_LINE_TREES_AT_ONCE];
        int64_t node[PPAL_LINE_TREES_AT_ONCE] = {0};
        for (level = 0; level < m->leaf_depth; level++)
            for (k = 0; k < PPAL_LINE_TREES_AT_ONCE; k++) {
                const int64_t at = (k < n ? t + k : t) * n_nodes + node[k];
                node[k] = 2 * node[k] + 1 + (room->term[m->leaf_column[at]] > m->leaf_threshold[at]);
            }
        for (k = 0; k < n; k++)
            component[k] = m->leaf_component + ((t + k) * (n_nodes + 1) + node[k] - n_nodes) * m->n_psi;
        if (n == PPAL_LINE_TREES_AT_ONCE)
            for (j = 0; j < m->n_psi; j++) {
                double sum = room->psi[j];
                for (k = 0; k < PPAL_LINE_TREES_AT_ONCE; k++) sum += component[k][j];
                room->psi[j] = sum;
            }
        else for (k = 0; k < n; k++) for (j = 0; j < m->n_psi; j++) room->psi[j] += component[k][j];
    }
}

PPAL_LINE_INLINE void ppal_line_encode(const ppal_line *m, const ppal_line_room *room) {
    double *psi = room->psi;
    int64_t j;
    switch (m->encoder) {
    case PPAL_LINE_COLUMNS:
        for (j = 0; j < m->n_cells; j++) psi[j] = room->z[j] == room->z[j] ? room->z[j] : 0.0;
        break;
    case PPAL_LINE_MIXTURES: case PPAL_LINE_BOTH: case PPAL_LINE_FACTORS:
        if (m->encoder != PPAL_LINE_FACTORS)
            for (j = 0; j < m->n_components_0; j++) *psi++ = room->components_0[j];
        if (m->encoder != PPAL_LINE_MIXTURES)
            for (j = 0; j < m->n_factors_0; j++) *psi++ = room->factors_0[j];
        break;
    case PPAL_LINE_PRODUCTS: ppal_line_products(m, room); break;
    case PPAL_LINE_LEAVES: ppal_line_leaves(m, room); break;
    default: break;
    }
}

/* softmax(W phi); phi is the constant and, block by block, A = (psi - mean) P clipped at the block's radius. */
PPAL_LINE_INLINE void ppal_line_linear(const ppal_line *m, const ppal_line_room *room, double *probabilities) {
    const double *projection = m->projection, *const psi = room->psi;
    int64_t b, i, j, s;
    for (i = 0; i < m->n_coordinates; i++) room->phi[i] = -m->centre[i];
    for (b = 0; b < m->n_blocks; b++) {
        const int64_t first = m->block_coordinate[b], r = m->block_coordinate[b + 1] - first, last = m->block_psi[b + 1];
        double *const A = room->phi + first, shrink;
        if (m->encoder == PPAL_LINE_COLUMNS) { /* most of psi is zero */
            for (s = 0; s < room->n_seen; s++)
                for (j = room->seen[s], i = 0; i < r; i++) A[i] += psi[j] * projection[j * r + i];
        } else {
            for (j = m->block_psi[b]; j + 4 <= last; j += 4, projection += 4 * r)
                for (i = 0; i < r; i++)
                    A[i] += (psi[j] * projection[i] + psi[j + 1] * projection[r + i])
                          + (psi[j + 2] * projection[2 * r + i] + psi[j + 3] * projection[3 * r + i]);
            for (; j < last; j++, projection += r)
                for (i = 0; i < r; i++) A[i] += psi[j] * projection[i];
        }
        shrink = sqrt(ppal_line_dot(A, A, r));
        shrink = m->block_scale[b] / (shrink > m->block_radius[b] ? shrink : m->block_radius[b]);
        for (j = 0; j < r; j++) A[j] *= shrink;
    }
    for (i = 0; i < m->n_classes; i++) {
        const double *const weight = m->weights + i * (1 + m->n_coordinates);
        probabilities[i] = m->constant * weight[0] + ppal_line_dot(weight + 1, room->phi, m->n_coordinates);
    }
    ppal_line_softmax(probabilities, m->n_classes);
}
