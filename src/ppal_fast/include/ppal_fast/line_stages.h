/* The stages of a decision, each a formula of ppal_fast.learners: cells, latent models, psi, classes. Part of line.h.
 *
 *     x -> cells z -> psi -> A = (psi - mean) P, clipped at a radius -> softmax(W phi)
 */

/* Scratch of one decision, cut from the caller's block. */
typedef struct {
    double *z, *term, *factors_0, *factors_1, *components_0, *components_1, *packed, *psi, *phi, *votes, *rows, *logs;
    float *features;
    int32_t *seen;
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
    room->seen = (int32_t *)(void *)work; work += (m->n_cells + 2) / 2;
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
 * What is observed is gathered without a branch, which missing cells would mislead. */
PPAL_LINE_INLINE int64_t ppal_line_cells(const ppal_line *m, const double *x, ppal_line_room *room) {
    double *const z = room->z, infinite = 0.0;
    int64_t j, k, n_observed = 0, n_seen = 0;
    for (j = 0; j < m->n_columns; j++) n_observed += x[j] == x[j];
    for (j = 0; j < m->n_columns; j++) infinite += x[j] == x[j] ? x[j] - x[j] : 0.0; /* infinity - infinity is NaN */
    if (infinite != infinite) return -1;
    for (j = 0; j < m->n_numeric; j++) z[j] = x[m->numeric[j]];
    if (m->n_knots)
        for (j = 0; j < m->n_numeric; j++)
            if (m->knot_start[j + 1] > m->knot_start[j]) z[j] = ppal_line_interpolated(m, j, z[j]);
    for (j = 0; j < m->n_numeric; j++) {
        const double value = (z[j] - m->mean[j]) / m->scale[j];
        const double above = value < -m->clip ? -m->clip : value;
        z[j] = above > m->clip ? m->clip : above;
    }
    for (j = 0; j < m->n_categories; j++) {
        const double value = x[m->category[j]];
        const int64_t first = m->level_start[j], last = m->level_start[j + 1];
        int known = 0;
        for (k = first; k < last; k++) known |= value == m->levels[k];
        for (k = first; k < last; k++)
            z[m->n_numeric + k] = known ? ((value == m->levels[k]) - m->frequency[k]) * m->category_scale[j] : NAN;
    }
    for (j = 0; j < m->n_cells; j++) {
        room->seen[n_seen] = (int32_t)j;
        n_seen += z[j] == z[j];
    }
    room->n_seen = n_seen;
    return n_observed;
}

/* Posterior mean f of q factors given the observed cells: (I + sum_j l_j l_j' / v_j) f = sum_j z_j l_j / v_j = b.
 * Returns b'f, of the squared distance what the factors explain; *log_determinant is that of the matrix.
 * Source: Little, Rubin, Statistical Analysis with Missing Data, section 11.3. */
PPAL_LINE_INLINE double ppal_line_factors(
    const ppal_line_room *room, const double *by_value, const double *by_presence, int64_t q, int with_determinant,
    double *precision, double *f, double *log_determinant
) {
    const int64_t packed = q * (q + 1) / 2;
    int64_t i, j, k, s;
    double determinant = 1.0, explained = 0.0;
    for (i = 0; i < packed; i++) precision[i] = 0.0;
    for (i = 0; i < q; i++) f[i] = 0.0;
    for (s = 0; s < room->n_seen; s++) {
        const double z = room->z[room->seen[s]];
        const double *const value = by_value + room->seen[s] * q, *const presence = by_presence + room->seen[s] * packed;
        for (i = 0; i < q; i++) f[i] += z * value[i];
        for (i = 0; i < packed; i++) precision[i] += presence[i];
    }
    for (i = 0; i < q; i++) { /* Cholesky in place, inverse diagonal; forward substitution on the way */
        double *const row = precision + i * (i + 1) / 2;
        double total, value = f[i];
        for (j = 0; j < i; j++) {
            const double *const column = precision + j * (j + 1) / 2;
            total = row[j];
            for (k = 0; k < j; k++) total -= row[k] * column[k];
            row[j] = total * column[j];
        }
        total = 1.0 + row[i];
        for (k = 0; k < i; k++) {
            total -= row[k] * row[k];
            value -= row[k] * f[k];
        }
        determinant *= total;
        row[i] = 1.0 / sqrt(total);
        f[i] = value * row[i];
        explained += f[i] * f[i];
    }
    for (i = q - 1; i >= 0; i--) {
        const double *const row = precision + i * (i + 1) / 2;
        f[i] *= row[i];
        for (k = 0; k < i; k++) f[k] -= row[k] * f[i];
    }
    if (with_determinant) *log_determinant = ppal_line_log(determinant);
    return explained;
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
        double *const part = shares + start[g];
        const int64_t width = start[g + 1] - start[g];
        if (!width) continue;
        top = ppal_line_exponentials(part, width, &total);
        for (i = 0; i < width; i++) part[i] /= total;
    }
    return top + ppal_line_log(total);
}

/* Every latent model that the file holds, and how unusual the cells are under the watched one. */
PPAL_LINE_INLINE void ppal_line_latent(const ppal_line *m, ppal_line_room *room) {
    const int32_t whole[2] = {0, (int32_t)m->n_components_1};
    const int density = m->n_labelled > 0;
    double explained = 0.0, log_determinant = 0.0, distance = 0.0, scale = 0.0, found, determinant = 0.0;
    int64_t s;
    if (m->n_factors_0) {
        found = ppal_line_factors(
            room, m->by_value_0, m->by_presence_0, m->n_factors_0, density, room->packed, room->factors_0, &determinant);
        if (m->watched == PPAL_LINE_FACTORS_0) explained = found, log_determinant = determinant;
    }
    if (m->n_factors_1) {
        found = ppal_line_factors(
            room, m->by_value_1, m->by_presence_1, m->n_factors_1, density, room->packed, room->factors_1, &determinant);
        if (m->watched == PPAL_LINE_FACTORS_1) explained = found, log_determinant = determinant;
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
    room->log_density = -0.5 * (room->unusual + log_determinant + scale);
}

/* A cell, or where it is missing its posterior mean. */
PPAL_LINE_INLINE double ppal_line_filled(const ppal_line *m, const ppal_line_room *room, int64_t model, int64_t cell) {
    const double *f = room->factors_0, *loading = m->loadings_0 + cell * m->n_factors_0;
    int64_t i, n = m->n_factors_0;
    double total = 0.0;
    if (room->z[cell] == room->z[cell]) return room->z[cell];
    if (model == PPAL_LINE_NO_MODEL) return 0.0;
    if (model == PPAL_LINE_FACTORS_1) f = room->factors_1, n = m->n_factors_1, loading = m->loadings_1 + cell * n;
    if (model == PPAL_LINE_MIXTURE_1) f = room->components_1, n = m->n_components_1, loading = m->mixture_mean_1 + cell * n;
    for (i = 0; i < n; i++) total += f[i] * loading[i];
    return total;
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

/* Components of the leaves that the filled cells fall into, summed over complete trees. */
PPAL_LINE_INLINE void ppal_line_leaves(const ppal_line *m, const ppal_line_room *room) {
    const int64_t n_nodes = ((int64_t)1 << m->leaf_depth) - 1;
    int64_t t, j, level;
    for (j = 0; j < m->n_cells; j++) room->term[j] = ppal_line_filled(m, room, m->fill, j);
    for (j = 0; j < m->n_psi; j++) room->psi[j] = 0.0;
    for (t = 0; t < m->n_leaf_trees; t++) {
        const int32_t *const column = m->leaf_column + t * n_nodes;
        const double *const threshold = m->leaf_threshold + t * n_nodes, *component;
        int64_t node = 0;
        for (level = 0; level < m->leaf_depth; level++)
            node = 2 * node + 1 + (room->term[column[node]] > threshold[node]);
        component = m->leaf_component + (t * (n_nodes + 1) + node - n_nodes) * m->n_psi;
        for (j = 0; j < m->n_psi; j++) room->psi[j] += component[j];
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
    const double *projection = m->projection;
    int64_t b, i, j, s;
    for (i = 0; i < m->n_coordinates; i++) room->phi[i] = -m->centre[i];
    for (i = 0; i < m->n_classes; i++) probabilities[i] = m->constant * m->weights[i];
    for (b = 0; b < m->n_blocks; b++) {
        const int64_t first = m->block_coordinate[b], r = m->block_coordinate[b + 1] - first;
        double *const A = room->phi + first;
        double squares = 0.0, shrink;
        if (m->encoder == PPAL_LINE_COLUMNS) /* most of psi is zero */
            for (s = 0; s < room->n_seen; s++)
                for (j = room->seen[s], i = 0; i < r; i++) A[i] += room->psi[j] * projection[j * r + i];
        else
            for (j = m->block_psi[b]; j < m->block_psi[b + 1]; j++, projection += r)
                for (i = 0; i < r; i++) A[i] += room->psi[j] * projection[i];
        for (i = 0; i < r; i++) squares += A[i] * A[i];
        shrink = sqrt(squares);
        shrink = m->block_scale[b] / (shrink > m->block_radius[b] ? shrink : m->block_radius[b]);
        for (j = 0; j < r; j++) {
            A[j] *= shrink;
            for (i = 0; i < m->n_classes; i++)
                probabilities[i] += A[j] * m->weights[(1 + first + j) * m->n_classes + i];
        }
    }
    ppal_line_softmax(probabilities, m->n_classes);
}
