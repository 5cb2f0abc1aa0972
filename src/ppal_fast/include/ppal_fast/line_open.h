/* Opening a model: the header, the digest, the extents, and every number that later steps use as an index.
 * Part of line.h. */

#define PPAL_LINE_READ_INTEGER(name) \
    memcpy(&line->name, at, 8); at += 8; \
    if (line->name < 0 || line->name > PPAL_LINE_MOST) return PPAL_LINE_DAMAGED;
#define PPAL_LINE_READ_REAL(name) memcpy(&line->name, at, 8); at += 8;
#define PPAL_LINE_POINT(type, name, length) { \
    const int64_t wanted = PPAL_LINE_PADDED(type, length); \
    if (wanted > end - at) return PPAL_LINE_DAMAGED; \
    line->name = (const type *)(const void *)at; at += wanted; }
#define PPAL_LINE_MOST (((int64_t)1) << 28) /* of any integer: a product of two cannot overflow */
#define PPAL_LINE_PADDED(type, length) (((int64_t)(length) * (int64_t)sizeof(type) + 7) / 8 * 8)

PPAL_LINE_INLINE ppal_line_status ppal_line_point(ppal_line *line, const unsigned char *at, const unsigned char *end) {
    PPAL_LINE_INTEGERS(PPAL_LINE_READ_INTEGER)
    PPAL_LINE_REALS(PPAL_LINE_READ_REAL)
    {
        const int64_t n_columns = line->n_columns, n_numeric = line->n_numeric, n_categories = line->n_categories, n_levels = line->n_levels,
            n_knots = line->n_knots, n_factors_0 = line->n_factors_0, n_packed_0 = line->n_packed_0,
            n_factors_1 = line->n_factors_1, n_packed_1 = line->n_packed_1, n_components_0 = line->n_components_0,
            n_mixtures_0 = line->n_mixtures_0, n_components_1 = line->n_components_1, n_numbers = line->n_numbers,
            n_product_categories = line->n_product_categories, n_blocks = line->n_blocks,
            n_coordinates = line->n_coordinates, n_projection = line->n_projection, n_classes = line->n_classes,
            n_leaf_nodes = line->n_leaf_nodes, n_leaf_rows = line->n_leaf_rows, n_psi = line->n_psi,
            n_split_nodes = line->n_split_nodes, n_split_observed = line->n_split_observed, n_split_trees = line->n_split_trees,
            n_split_leaves = line->n_split_leaves, n_roots = line->n_roots,
            n_nodes = line->n_nodes, n_shares = line->n_shares, n_labelled = line->n_labelled,
            n_labelled_cells = line->n_labelled_cells, n_bins = line->n_bins, n_steps = line->n_steps,
            n_text = line->n_text;
        PPAL_LINE_ARRAYS(PPAL_LINE_POINT)
    }
    return at == end ? PPAL_LINE_OK : PPAL_LINE_DAMAGED;
}

/* Coordinates of phi that a forest sees beside the filled cells: the last block that has any, else the constant. */
PPAL_LINE_INLINE int64_t ppal_line_last_block(const ppal_line *m) {
    int64_t b = m->n_blocks - 1;
    while (b > 0 && m->block_coordinate[b + 1] == m->block_coordinate[b]) b--;
    return m->n_coordinates ? m->block_coordinate[b] : 0;
}

/* Children lie behind their parents, so that every walk ends. */
PPAL_LINE_INLINE int ppal_line_sound_forest(const ppal_line *m) {
    const int64_t n_features = m->n_cells + (m->n_coordinates ? m->n_coordinates - ppal_line_last_block(m) : 1);
    int64_t i;
    int good = ppal_line_within(m->roots, m->n_roots, 0, m->n_nodes);
    for (i = 0; i < m->n_nodes; i++) {
        const ppal_line_node *const node = m->nodes + i;
        good &= node->column >= 0 && node->column < n_features
             && (node->next == i ? node->threshold == INFINITY && node->share >= 0 && node->share < m->n_shares
                                 : node->next > i && node->next < m->n_nodes - 1);
    }
    return good;
}

PPAL_LINE_INLINE int ppal_line_sound_trees(int64_t trees, int64_t depth, int64_t nodes, int64_t leaves) {
    return depth <= 16 && nodes == trees * ((1 << depth) - 1) && leaves == trees << depth;
}

PPAL_LINE_INLINE int ppal_line_sound_latent(const ppal_line *m, int64_t latent) {
    switch (latent) {
    case PPAL_LINE_NO_MODEL: case PPAL_LINE_INDEPENDENT: return 1;
    case PPAL_LINE_FACTORS_0: return m->n_factors_0 > 0;
    case PPAL_LINE_FACTORS_1: return m->n_factors_1 > 0;
    case PPAL_LINE_MIXTURE_0: return m->n_mixtures_0 > 0;
    case PPAL_LINE_MIXTURE_1: return m->n_components_1 > 0;
    default: return 0;
    }
}

/* psi has the width that the encoder gives it. */
PPAL_LINE_INLINE int ppal_line_sound_encoder(const ppal_line *m) {
    int64_t width = 0, c;
    switch (m->encoder) {
    case PPAL_LINE_CONSTANT: break;
    case PPAL_LINE_COLUMNS: width = m->n_cells; break;
    case PPAL_LINE_FACTORS: width = m->n_factors_0; break;
    case PPAL_LINE_MIXTURES: width = m->n_components_0; break;
    case PPAL_LINE_BOTH: width = m->n_components_0 + m->n_factors_0; break;
    case PPAL_LINE_LEAVES: width = m->n_psi; break;
    case PPAL_LINE_PRODUCTS:
        for (c = 0; c < m->n_product_categories; c++) {
            const int64_t k = m->product_category[c];
            width += (m->level_start[k + 1] - m->level_start[k]) * (1 + m->n_numbers);
        }
        break;
    default: return 0;
    }
    return width == m->n_psi;
}

PPAL_LINE_INLINE int ppal_line_sound(const ppal_line *m) {
    int64_t b, projected = 0;
    int good = m->n_columns > 0 && m->n_classes > 0 && m->head <= PPAL_LINE_SPLITS
        && m->n_packed_0 == m->n_factors_0 * (m->n_factors_0 + 1) / 2
        && m->n_packed_1 == m->n_factors_1 * (m->n_factors_1 + 1) / 2
        && ppal_line_within(m->cell_of, m->n_columns, -1 - m->n_categories, m->n_numeric)
        && ppal_line_starts(m->knot_start, m->n_numeric, m->n_knots)
        && ppal_line_starts(m->level_start, m->n_categories, m->n_levels)
        && ppal_line_starts(m->mixture_start_0, m->n_mixtures_0, m->n_components_0)
        && ppal_line_within(m->numbers, m->n_numbers, 0, m->n_cells)
        && ppal_line_within(m->product_category, m->n_product_categories, 0, m->n_categories)
        && ppal_line_starts(m->block_psi, m->n_blocks, m->n_blocks ? m->n_psi : 0)
        && ppal_line_starts(m->block_coordinate, m->n_blocks, m->n_coordinates)
        && ppal_line_sound_trees(m->n_leaf_trees, m->leaf_depth, m->n_leaf_nodes, m->n_leaf_rows)
        && ppal_line_within(m->leaf_column, m->n_leaf_nodes, 0, m->n_cells)
        && ppal_line_sound_trees(m->n_split_trees, m->split_depth, m->n_split_nodes, m->n_split_leaves)
        && ppal_line_within(m->split_node, m->n_split_observed, 0, m->n_split_nodes)
        && (!m->n_split_trees || ppal_line_starts(m->split_start, m->n_cells, m->n_split_observed))
        && ppal_line_sound_latent(m, m->fill) && ppal_line_sound_latent(m, m->watched);
    if (!good || !ppal_line_sound_encoder(m)) return 0;
    for (b = 0; b < m->n_blocks; b++)
        projected += (int64_t)(m->block_psi[b + 1] - m->block_psi[b])
                   * (m->block_coordinate[b + 1] - m->block_coordinate[b]);
    good = projected == m->n_projection && (m->n_blocks > 0 || m->n_coordinates == 0)
        && (m->head != PPAL_LINE_POSTERIOR || m->n_psi == m->n_classes)
        && (m->head != PPAL_LINE_SPLITS || m->n_split_trees > 0)
        && ppal_line_sound_forest(m);
    if (m->n_labelled)
        good = good && ppal_line_starts(m->labelled_start, m->n_cells, m->n_labelled_cells)
            && ppal_line_within(m->labelled_row, m->n_labelled_cells, 0, m->n_labelled);
    return good;
}

/* Doubles of scratch: see ppal_line_room. */
PPAL_LINE_INLINE int64_t ppal_line_work(const ppal_line *m) {
    const int64_t latent = m->n_factors_0 + m->n_components_0 + m->n_factors_1 + m->n_components_1;
    const int64_t packed = ppal_line_most(m->n_packed_0, m->n_packed_1);
    return 2 * m->n_cells + (m->n_cells + 2) / 2 + (m->n_columns + 2) / 2 + latent + packed + m->n_psi + m->n_coordinates + m->n_classes
         + (m->n_cells + m->n_coordinates + 1) / 2 + 1 + m->n_labelled + ppal_line_most(m->n_labelled, m->n_cells)
         + 2 * m->n_split_nodes + m->n_split_trees + m->n_classes;
}

/* Check ``size`` bytes and set up ``line`` to read them where they are (at an address that 8 divides, as malloc, mmap
 * and numpy give). PPAL_LINE_OK, or why not; nothing is allocated, and ``line`` is not to be used after a refusal. */
PPAL_LINE_ENTRY ppal_line_status ppal_line_open(ppal_line *line, const void *bytes, int64_t size) {
    static const char hexadecimal[] = "0123456789abcdef";
    const unsigned char *const start = (const unsigned char *)bytes;
    unsigned char digest[32];
    uint32_t version, order;
    int64_t length, i;
    ppal_line_status status;
    if (size < 64) return size >= 8 && memcmp(start, "PPALLINE", 8) ? PPAL_LINE_NOT_A_MODEL : PPAL_LINE_SHORT;
    if (memcmp(start, "PPALLINE", 8)) return PPAL_LINE_NOT_A_MODEL;
    memcpy(&version, start + 8, 4);
    memcpy(&order, start + 12, 4);
    memcpy(&length, start + 16, 8);
    if (order == 0x04030201u) return PPAL_LINE_OTHER_BYTE_ORDER;
    if (order != PPAL_LINE_BYTE_ORDER) return PPAL_LINE_DAMAGED;
    if (version != PPAL_LINE_VERSION) return PPAL_LINE_OTHER_VERSION;
    if (size < length) return PPAL_LINE_SHORT;
    if (size > length || (uintptr_t)bytes % 8) return PPAL_LINE_DAMAGED;
    ppal_line_digest(start, size, digest);
    if (memcmp(digest, start + 32, 32)) return PPAL_LINE_DAMAGED;
    memset(line, 0, sizeof *line);
    status = ppal_line_point(line, start + 64, start + size);
    if (status != PPAL_LINE_OK) return status;
    line->n_cells = line->n_numeric + line->n_levels;
    if (!ppal_line_sound(line)) return PPAL_LINE_DAMAGED;
    line->n_work = ppal_line_work(line);
    for (i = 0; i < 32; i++) {
        line->id[2 * i] = hexadecimal[digest[i] >> 4];
        line->id[2 * i + 1] = hexadecimal[digest[i] & 15];
    }
    return PPAL_LINE_OK;
}
