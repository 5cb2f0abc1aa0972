/* Trees: those that send a missing cell both ways, and forests on filled cells. Part of line.h. */

enum { PPAL_LINE_DEEPEST = 16, PPAL_LINE_TREES_AT_ONCE = 8 };

/* Class shares in the leaves of complete trees; a missing cell goes both ways. A node none of whose columns below is
 * observed has one value, worked out ahead: split_below has the columns' bits, several columns to a bit beyond 64. */
PPAL_LINE_INLINE void ppal_line_splits(const ppal_line *m, const ppal_line_room *room, double *probabilities) {
    const int64_t n_nodes = ((int64_t)1 << m->split_depth) - 1, n_values = 2 * n_nodes + 1, n_classes = m->n_classes;
    uint64_t observed = 0;
    int64_t t, i;
    for (i = 0; i < room->n_seen; i++) observed |= (uint64_t)1 << (room->seen[i] & 63);
    for (i = 0; i < n_classes; i++) probabilities[i] = 0.0;
    for (t = 0; t < m->n_split_trees; t++) {
        const int32_t *const column = m->split_column + t * n_nodes;
        const double *const threshold = m->split_threshold + t * n_nodes, *const right = m->split_right + t * n_nodes;
        const double *const value = m->split_value + t * n_values * n_classes;
        const uint64_t *const below = m->split_below + t * n_nodes;
        int64_t waiting[PPAL_LINE_DEEPEST + 1], n_waiting = 0, node = 0;
        double weight[PPAL_LINE_DEEPEST + 1], share = 1.0;
        for (;;) {
            if (node < n_nodes && (below[node] & observed)) {
                const double z = room->z[column[node]];
                node = 2 * node + 1;
                if (z == z) {
                    node += z > threshold[node / 2];
                } else {
                    const double rightward = right[node / 2];
                    waiting[n_waiting] = node + 1;
                    weight[n_waiting++] = share * rightward;
                    share *= 1.0 - rightward;
                }
                continue;
            }
            for (i = 0; i < n_classes; i++) probabilities[i] += share * value[node * n_classes + i];
            if (!n_waiting) break;
            node = waiting[--n_waiting];
            share = weight[n_waiting];
        }
    }
    for (i = 0; i < n_classes; i++) probabilities[i] /= (double)m->n_split_trees;
}

/* Mix the votes of a forest on filled cells and phi into the probabilities. Several trees are walked side by side, so
 * that one's memory is fetched while another compares. */
PPAL_LINE_INLINE void ppal_line_forest(const ppal_line *m, const ppal_line_room *room, double *probabilities) {
    const int64_t n_classes = m->n_classes, first = ppal_line_last_block(m);
    float *feature = room->features;
    double total = 0.0, kept = 0.0;
    int64_t t, i, k;
    for (i = 0; i < m->n_cells; i++) *feature++ = (float)ppal_line_filled(m, room, m->fill, i);
    for (i = first; i < m->n_coordinates; i++) *feature++ = (float)room->phi[i];
    if (!m->n_coordinates) *feature = (float)m->constant;
    for (i = 0; i < n_classes; i++) room->votes[i] = 0.0;
    for (t = 0; t < m->n_roots; t += PPAL_LINE_TREES_AT_ONCE) {
        const int64_t n = m->n_roots - t < PPAL_LINE_TREES_AT_ONCE ? m->n_roots - t : PPAL_LINE_TREES_AT_ONCE;
        int32_t node[PPAL_LINE_TREES_AT_ONCE], moved;
        for (k = 0; k < PPAL_LINE_TREES_AT_ONCE; k++) node[k] = m->roots[k < n ? t + k : t];
        do {
            moved = 0;
            for (k = 0; k < PPAL_LINE_TREES_AT_ONCE; k++) {
                const ppal_line_node *const at = m->nodes + node[k];
                const int32_t next = at->next + (room->features[at->column] > at->threshold);
                moved |= next ^ node[k];
                node[k] = next;
            }
        } while (moved);
        for (k = 0; k < n; k++) {
            const float *const share = m->shares + (int64_t)m->nodes[node[k]].share * n_classes;
            for (i = 0; i < n_classes; i++) room->votes[i] += share[i];
        }
    }
    for (i = 0; i < n_classes; i++) {
        room->votes[i] /= (double)m->n_roots;
        total += room->votes[i];
    }
    total = total > 1e-12 ? total : 1e-12;
    for (i = 0; i < n_classes; i++) {
        room->votes[i] /= total;
        kept += room->votes[i];
    }
    for (i = 0, total = 0.0; i < n_classes; i++) { /* no class is impossible; to a power, as probabilities */
        double share = (1.0 - m->uniform_share) * room->votes[i]
                     + (1.0 - (1.0 - m->uniform_share) * kept) / (double)n_classes;
        if (m->forest_power != 1.0) share = ppal_line_exp(m->forest_power * ppal_line_log(share));
        room->votes[i] = share;
        total += share;
    }
    for (i = 0; i < n_classes; i++)
        probabilities[i] = m->forest_share * (room->votes[i] / total) + (1.0 - m->forest_share) * probabilities[i];
}
