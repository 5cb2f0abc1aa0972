/* Trees: those that send a missing cell both ways, and forests on filled cells. Part of line.h. */

/* Class shares in the leaves of complete trees; a missing cell goes both ways. Nodes are kept level by level, all trees
 * of a level together: go (share of what reaches a node that goes right) is the missing cell's everywhere, and then
 * put right for the nodes of the few observed cells. */
PPAL_LINE_INLINE void ppal_line_splits(const ppal_line *m, const ppal_line_room *room, double *probabilities) {
    const double *go = room->go;
    double *const share = room->share;
    int64_t i, k, s, n;
    memcpy(room->go, m->split_right, (size_t)m->n_split_nodes * sizeof *room->go);
    for (s = 0; s < room->n_seen; s++) {
        const double z = room->z[room->seen[s]];
        for (i = m->split_start[room->seen[s]]; i < m->split_start[room->seen[s] + 1]; i++)
            room->go[m->split_node[i]] = z > m->split_threshold[i] ? 1.0 : 0.0;
    }
    for (i = 0; i < m->n_split_trees; i++) share[i] = 1.0;
    for (k = 0, n = m->n_split_trees; k < m->split_depth; k++, go += n, n *= 2)
        for (i = 0; i < n; i++) { /* right children lie behind all left ones */
            const double right = share[i] * go[i];
            share[n + i] = right;
            share[i] -= right;
        }
    for (i = 0; i < m->n_classes; i++)
        probabilities[i] = ppal_line_dot(share, m->split_share + i * n, n) / (double)m->n_split_trees;
}

/* Mix the votes of a forest on filled cells and phi into the probabilities. */
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
        const int64_t left = m->n_roots - t, most = PPAL_LINE_TREES_AT_ONCE, n = left < most ? left : most;
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
