/* The model file: what is in it, in which order, and the check of all of it. Part of line.h; docs/line.md has the bytes.
 *
 * header (64 bytes), the integers (int64), the real numbers (double), then the arrays, each padded to 8 bytes. The length
 * of an array follows from the integers, so a file has one layout and one size. */

#define PPAL_LINE_VERSION 1u
#define PPAL_LINE_BYTE_ORDER 0x01020304u

enum { /* psi: what the class scores are linear in, or the class probabilities themselves */
    PPAL_LINE_CONSTANT, PPAL_LINE_COLUMNS, PPAL_LINE_FACTORS, PPAL_LINE_MIXTURES, PPAL_LINE_PRODUCTS, PPAL_LINE_BOTH,
    PPAL_LINE_LEAVES
};
enum { PPAL_LINE_LINEAR, PPAL_LINE_POSTERIOR, PPAL_LINE_SPLITS }; /* head */
enum { /* latent: a model of the cells, to fill missing ones or to say how unusual an item is */
    PPAL_LINE_NO_MODEL, PPAL_LINE_INDEPENDENT, PPAL_LINE_FACTORS_0, PPAL_LINE_FACTORS_1, PPAL_LINE_MIXTURE_0,
    PPAL_LINE_MIXTURE_1
};

#define PPAL_LINE_INTEGERS(X) \
    X(n_columns) X(n_classes) X(n_numeric) X(n_categories) X(n_levels) X(n_knots) \
    X(encoder) X(head) X(fill) X(watched) X(n_psi) \
    X(n_factors_0) X(n_packed_0) X(n_factors_1) X(n_packed_1) \
    X(n_components_0) X(n_mixtures_0) X(n_components_1) \
    X(n_numbers) X(n_product_categories) \
    X(n_blocks) X(n_coordinates) X(n_projection) \
    X(n_leaf_trees) X(leaf_depth) X(n_leaf_nodes) X(n_leaf_rows) \
    X(n_split_trees) X(split_depth) X(n_split_nodes) X(n_split_observed) X(n_split_leaves) \
    X(n_roots) X(n_nodes) X(n_shares) \
    X(n_labelled) X(n_labelled_cells) \
    X(n_bins) X(n_steps) X(feedback) X(n_text)

#define PPAL_LINE_REALS(X) \
    X(clip) X(number_clip) X(constant) X(forest_share) X(forest_power) X(uniform_share) X(threshold) \
    X(queries_per_hour) X(log_classes) X(log_labelled)

#define PPAL_LINE_ARRAYS(X) \
    X(int32_t, cell_of, n_columns) X(double, mean, n_numeric) X(double, scale, n_numeric) \
    X(int32_t, knot_start, n_numeric + 1) X(double, knots, n_knots) X(double, knot_scores, n_knots) \
    X(int32_t, level_start, n_categories + 1) X(double, levels, n_levels) \
    X(double, frequency, n_levels) X(double, category_scale, n_categories) \
    X(double, by_value_0, (n_numeric + n_levels) * n_factors_0) \
    X(double, by_presence_0, (n_numeric + n_levels) * n_packed_0) \
    X(double, loadings_0, (n_numeric + n_levels) * n_factors_0) \
    X(double, by_value_1, (n_numeric + n_levels) * n_factors_1) \
    X(double, by_presence_1, (n_numeric + n_levels) * n_packed_1) \
    X(double, loadings_1, (n_numeric + n_levels) * n_factors_1) \
    X(double, mixture_by_value_0, (n_numeric + n_levels) * n_components_0) \
    X(double, mixture_by_presence_0, (n_numeric + n_levels) * n_components_0) \
    X(double, mixture_base_0, n_components_0) X(int32_t, mixture_start_0, n_mixtures_0 + 1) \
    X(double, mixture_by_value_1, (n_numeric + n_levels) * n_components_1) \
    X(double, mixture_by_presence_1, (n_numeric + n_levels) * n_components_1) \
    X(double, mixture_base_1, n_components_1) X(double, mixture_mean_1, (n_numeric + n_levels) * n_components_1) \
    X(int32_t, numbers, n_numbers) X(int32_t, product_category, n_product_categories) \
    X(int32_t, block_psi, n_blocks + 1) X(int32_t, block_coordinate, n_blocks + 1) \
    X(double, block_radius, n_blocks) X(double, block_scale, n_blocks) \
    X(double, centre, n_coordinates) X(double, projection, n_projection) \
    X(double, weights, n_classes * (1 + n_coordinates)) \
    X(int32_t, leaf_column, n_leaf_nodes) X(double, leaf_threshold, n_leaf_nodes) \
    X(double, leaf_component, n_leaf_rows * n_psi) \
    X(double, split_right, n_split_nodes) X(int32_t, split_start, n_split_trees ? n_numeric + n_levels + 1 : 0) \
    X(int32_t, split_node, n_split_observed) X(double, split_threshold, n_split_observed) \
    X(double, split_share, n_classes * n_split_leaves) \
    X(int32_t, roots, n_roots) X(ppal_line_node, nodes, n_nodes) X(float, shares, n_shares * n_classes) \
    X(double, cell_precision, n_numeric + n_levels) X(double, cell_log_scale, n_numeric + n_levels) \
    X(double, inverse_bandwidth, n_labelled ? n_numeric + n_levels : 0) \
    X(double, bandwidth_log, n_labelled ? n_numeric + n_levels : 0) \
    X(double, labelled_log, n_labelled ? n_numeric + n_levels : 0) \
    X(int32_t, labelled_start, n_labelled ? n_numeric + n_levels + 1 : 0) \
    X(int32_t, labelled_row, n_labelled_cells) X(double, labelled_value, n_labelled_cells) \
    X(double, bin_edge, n_bins ? n_bins - 1 : 0) X(int64_t, bin_count, n_bins) \
    X(double, step_threshold, n_steps) X(double, step_share, n_steps) \
    X(char, text, n_text)

/* A node of a forest: left child, whose sibling follows it; a leaf is its own child, behind a threshold of infinity. */
typedef struct {
    int32_t column;
    float threshold;
    int32_t next;
    int32_t share; /* of a leaf: its row in shares */
} ppal_line_node;

#define PPAL_LINE_FIELD(name) int64_t name;
#define PPAL_LINE_REAL_FIELD(name) double name;
#define PPAL_LINE_POINTER(type, name, length) const type *name;

/* An open model: numbers, and pointers into the caller's bytes, which must stay where they are. Read only. */
typedef struct {
    PPAL_LINE_INTEGERS(PPAL_LINE_FIELD)
    PPAL_LINE_REALS(PPAL_LINE_REAL_FIELD)
    PPAL_LINE_ARRAYS(PPAL_LINE_POINTER)
    int64_t n_cells;
    int64_t n_work; /* doubles of scratch that a decision needs */
    char id[65];    /* hexadecimal SHA-256 of the file's contents */
} ppal_line;

typedef enum {
    PPAL_LINE_OK, PPAL_LINE_INFINITE, PPAL_LINE_SHORT, PPAL_LINE_NOT_A_MODEL, PPAL_LINE_OTHER_BYTE_ORDER,
    PPAL_LINE_OTHER_VERSION, PPAL_LINE_DAMAGED
} ppal_line_status;

PPAL_LINE_INLINE const char *ppal_line_message(int status) {
    static const char *const messages[] = {
        "ok", "an item has an infinite value", "the file is cut short", "the file is not a line model",
        "the file was written on a machine of other byte order", "the file is of another version",
        "the file is damaged",
    };
    return status >= 0 && status <= PPAL_LINE_DAMAGED ? messages[status] : "unknown status";
}

/* SHA-256 (FIPS 180-4). */
PPAL_LINE_INLINE uint32_t ppal_line_rotated(uint32_t x, int n) { return (x >> n) | (x << (32 - n)); }

static PPAL_LINE_UNUSED void ppal_line_sha256_block(uint32_t state[8], const unsigned char *block) {
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
    };
    uint32_t w[64], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6],
        h = state[7];
    int i;
    for (i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8
             | block[4 * i + 3];
    for (; i < 64; i++) {
        const uint32_t u = w[i - 15], v = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (ppal_line_rotated(u, 7) ^ ppal_line_rotated(u, 18) ^ (u >> 3))
             + (ppal_line_rotated(v, 17) ^ ppal_line_rotated(v, 19) ^ (v >> 10));
    }
    for (i = 0; i < 64; i++) {
        const uint32_t one = h + (ppal_line_rotated(e, 6) ^ ppal_line_rotated(e, 11) ^ ppal_line_rotated(e, 25))
                           + ((e & f) ^ (~e & g)) + k[i] + w[i];
        const uint32_t two = (ppal_line_rotated(a, 2) ^ ppal_line_rotated(a, 13) ^ ppal_line_rotated(a, 22))
                           + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

/* The digest of the first 32 bytes of the header and of all after the header. */
static PPAL_LINE_UNUSED void ppal_line_digest(const unsigned char *bytes, int64_t size, unsigned char digest[32]) {
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    unsigned char block[64];
    const int64_t length = size - 32; /* message byte i is file byte i, or i + 32 behind the digest */
    int64_t at, i;
    for (at = 0; at < length + 9; at += 64) {
        if (at > 0 && at + 64 <= length) {
            ppal_line_sha256_block(state, bytes + at + 32);
            continue;
        }
        for (i = at; i < at + 64; i++)
            block[i - at] = i < length ? bytes[i < 32 ? i : i + 32] : (unsigned char)(i == length ? 0x80 : 0);
        if (at + 64 >= length + 9)
            for (i = 0; i < 8; i++) block[56 + i] = (unsigned char)((uint64_t)length * 8 >> (56 - 8 * i));
        ppal_line_sha256_block(state, block);
    }
    for (i = 0; i < 32; i++) digest[i] = (unsigned char)(state[i / 4] >> (24 - 8 * (i % 4)));
}

/* Every entry in [low, high). */
PPAL_LINE_INLINE int ppal_line_within(const int32_t *values, int64_t n, int64_t low, int64_t high) {
    int64_t i;
    int good = 1;
    for (i = 0; i < n; i++) good &= values[i] >= low && values[i] < high;
    return good;
}

/* Starts of n parts of a whole of ``total``: 0, increasing, total. */
PPAL_LINE_INLINE int ppal_line_starts(const int32_t *start, int64_t n, int64_t total) {
    int64_t i;
    int good = start[0] == 0 && start[n] == total;
    for (i = 0; i < n; i++) good &= start[i] <= start[i + 1];
    return good;
}

PPAL_LINE_INLINE int64_t ppal_line_most(int64_t a, int64_t b) { return a > b ? a : b; }
