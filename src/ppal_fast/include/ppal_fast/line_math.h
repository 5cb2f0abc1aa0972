/* Exponential, logarithm and sums whose bits do not depend on compiler, mathematics library or vector width.
 *
 * Sums run in LANES interleaved chains: a fixed order that processors can do side by side. Part of line.h. */

enum { PPAL_LINE_LANES = 8 };

/* e^x for x up to 700, to 1.5 units in the last place; e^-700 below. Range reduction, then the Taylor sum to the 12th
 * power. */
PPAL_LINE_INLINE double ppal_line_exp(double x) {
    const double shift = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to a whole number in the low bits */
    const double inside = x < -700.0 ? -700.0 : x;
    const double whole = inside * 1.4426950408889634 + shift;
    const double n = whole - shift;
    const double r = (inside - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    const double r2 = r * r, r4 = r2 * r2;
    const double low = (1.0 + r) + r2 * (0.5 + r * (1.0 / 6));
    const double middle = (1.0 / 24 + r * (1.0 / 120)) + r2 * (1.0 / 720 + r * (1.0 / 5040));
    const double high = (1.0 / 40320 + r * (1.0 / 362880)) + r2 * (1.0 / 3628800 + r * (1.0 / 39916800));
    double value = low + r4 * (middle + r4 * (high + r4 * (1.0 / 479001600)));
    uint64_t bits, power;
    memcpy(&bits, &value, 8);
    memcpy(&power, &whole, 8);
    bits += power << 52;
    memcpy(&value, &bits, 8);
    return value;
}

/* log x for a positive, normal x; -infinity for 0. x = 2^n m with m around 1, then 2 artanh((m - 1)/(m + 1)). */
PPAL_LINE_INLINE double ppal_line_log(double x) {
    uint64_t bits;
    double m;
    memcpy(&bits, &x, 8);
    const int64_t n = (int64_t)((bits - 0x3FE6A09E667F3BCDull) >> 52) - (bits < 0x3FE6A09E667F3BCDull ? 4096 : 0);
    bits -= (uint64_t)n << 52;
    memcpy(&m, &bits, 8);
    const double s = (m - 1.0) / (m + 1.0), s2 = s * s, s4 = s2 * s2;
    const double odd = 1.0 / 3 + s4 * (1.0 / 7 + s4 * (1.0 / 11 + s4 * (1.0 / 15 + s4 * (1.0 / 19))));
    const double even = 1.0 / 5 + s4 * (1.0 / 9 + s4 * (1.0 / 13 + s4 * (1.0 / 17 + s4 * (1.0 / 21))));
    const double series = 2.0 * s + 2.0 * s * (s2 * odd + s4 * even);
    const double value = (double)n * 0.693147180369123816490 + (series + (double)n * 1.90821492927058770002e-10);
    return x > 0.0 ? value : -INFINITY;
}

PPAL_LINE_INLINE double ppal_line_largest(const double *values, int64_t n) {
    double lane[PPAL_LINE_LANES], top;
    int64_t i, k;
    for (k = 0; k < PPAL_LINE_LANES; k++) lane[k] = values[0];
    for (i = 0; i + PPAL_LINE_LANES <= n; i += PPAL_LINE_LANES)
        for (k = 0; k < PPAL_LINE_LANES; k++) lane[k] = values[i + k] > lane[k] ? values[i + k] : lane[k];
    top = lane[0];
    for (k = 1; k < PPAL_LINE_LANES; k++) top = lane[k] > top ? lane[k] : top;
    for (; i < n; i++) top = values[i] > top ? values[i] : top;
    return top;
}

PPAL_LINE_INLINE double ppal_line_lanes(const double *lane) {
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

PPAL_LINE_INLINE double ppal_line_sum(const double *values, int64_t n) {
    double lane[PPAL_LINE_LANES] = {0.0};
    int64_t i, k;
    for (i = 0; i + PPAL_LINE_LANES <= n; i += PPAL_LINE_LANES)
        for (k = 0; k < PPAL_LINE_LANES; k++) lane[k] += values[i + k];
    for (k = 0; i < n; i++, k++) lane[k] += values[i];
    return ppal_line_lanes(lane);
}

PPAL_LINE_INLINE double ppal_line_dot(const double *a, const double *b, int64_t n) {
    double lane[PPAL_LINE_LANES] = {0.0};
    int64_t i, k;
    for (i = 0; i + PPAL_LINE_LANES <= n; i += PPAL_LINE_LANES)
        for (k = 0; k < PPAL_LINE_LANES; k++) lane[k] += a[i + k] * b[i + k];
    for (k = 0; i < n; i++, k++) lane[k] += a[i] * b[i];
    return ppal_line_lanes(lane);
}

/* log sum e^values. */
PPAL_LINE_INLINE double ppal_line_log_sum(const double *values, int64_t n) {
    const double top = ppal_line_largest(values, n);
    double lane[PPAL_LINE_LANES] = {0.0};
    int64_t i, k;
    for (i = 0; i + PPAL_LINE_LANES <= n; i += PPAL_LINE_LANES)
        for (k = 0; k < PPAL_LINE_LANES; k++) lane[k] += ppal_line_exp(values[i + k] - top);
    for (k = 0; i < n; i++, k++) lane[k] += ppal_line_exp(values[i] - top);
    return top + ppal_line_log(ppal_line_lanes(lane));
}

PPAL_LINE_INLINE void ppal_line_softmax(double *logits, int64_t n) {
    const double top = ppal_line_largest(logits, n);
    double total;
    int64_t i;
    for (i = 0; i < n; i++) logits[i] = ppal_line_exp(logits[i] - top);
    total = ppal_line_sum(logits, n);
    for (i = 0; i < n; i++) logits[i] /= total;
}
