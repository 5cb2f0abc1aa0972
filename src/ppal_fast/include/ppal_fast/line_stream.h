/* What a line remembers from item to item: the pace of its queries, and whether the stream has left what was learned.
 * Both are plain structures of the caller's, one for each line; no call waits or allocates. Part of line.h. */

/* A generator for coins (splitmix64); not for privacy noise. Uniform in (0, 1). */
PPAL_LINE_INLINE double ppal_line_uniform(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return ((double)((z ^ (z >> 31)) >> 12) + 0.5) * (1.0 / 4503599627370496.0);
}

/* Queries at queries_per_hour: an allowance that grows with the clock up to ``burst`` and is spent on items.
 *
 * An arriving item may be asked with probability ``rate`` = allowance / burst: it is, if its uncertainty reaches the
 * threshold that a share of at least ``rate`` of the reference reaches, and a coin falls. Without feedback the
 * expectation is charged, which depends on the times of arrival alone; with feedback, what was asked. */
typedef struct {
    double allowance, last; /* queries; seconds */
    int64_t started;
    uint64_t coins;
} ppal_line_pace;

/* The rule for the next n items, arriving at ``now`` seconds: asked are those of at least *threshold, each with
 * probability *share. A clock that is set back stands still; one set forward brings no more than the burst. */
PPAL_LINE_ENTRY void ppal_line_paced(
    const ppal_line *m, ppal_line_pace *pace, double now, int64_t n, double *threshold, double *share
) {
    const double burst = m->queries_per_hour > 4.0 ? m->queries_per_hour / 4.0 : 1.0; /* a quarter of an hour's */
    const double least = 0.01; /* of the reference: the tail beyond is too thin to be known */
    double rate, wanted, left = 1.0, base;
    int64_t k;
    if (now - now == 0.0) { /* a clock that says NaN or infinity says nothing */
        if (!pace->started) pace->last = now, pace->started = 1;
        if (now > pace->last) pace->allowance += (now - pace->last) / 3600.0 * m->queries_per_hour;
        pace->last = now;
    }
    pace->allowance = pace->allowance < burst ? pace->allowance : burst;
    rate = pace->allowance / burst;
    if (n > 1) { /* n items at once share what one after the other would have spent: 1 - (1 - 1/burst)^n */
        for (base = 1.0 - 1.0 / burst, k = n; k; k >>= 1, base *= base)
            if (k & 1) left *= base;
        rate = pace->allowance * (1.0 - left) / (double)n;
    }
    rate = rate < 0.0 ? 0.0 : rate > 1.0 ? 1.0 : rate;
    wanted = rate > least ? rate : least;
    for (k = 0; k + 1 < m->n_steps && m->step_share[k] < wanted; k++) {}
    *threshold = m->step_threshold[k];
    *share = rate / m->step_share[k];
    *share = *share < 1.0 ? *share : 1.0;
    if (!m->feedback) pace->allowance -= rate * (double)n;
}

/* Whether an item of this uncertainty is asked under the rule. Every item has a coin, so that none takes another's. */
PPAL_LINE_INLINE int ppal_line_asked(
    const ppal_line *m, ppal_line_pace *pace, double uncertainty, double threshold, double share
) {
    const int asked = (ppal_line_uniform(&pace->coins) < share) & (uncertainty >= threshold);
    if (asked && m->feedback) pace->allowance -= 1.0;
    return asked;
}

/* The drift watch: a conformal test that items are exchangeable with those before them and with the reference.
 *
 * An item's score is how unusual its cells are under the released model; p is its rank among all scores so far, ties
 * broken by a coin, which under exchangeability is uniform and independent of the past. ``bets`` is a density on p
 * that follows the last thousand items; its product, restarted at 1, is a CUSUM of e-values: it reaches
 * PPAL_LINE_ALARM after at least PPAL_LINE_ALARM items on average while nothing changes.
 * Sources: Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, chapter 8; Shin, Ramdas, Rinaldo,
 * E-detectors (arXiv:2203.03532), theorem 2.4. */
enum { PPAL_LINE_BETS = 10, PPAL_LINE_BINS = 100 };
#define PPAL_LINE_ALARM 1e8
#define PPAL_LINE_PRIOR 100.0      /* items that say that nothing changes */
#define PPAL_LINE_MEMORY 0.999     /* weight of an item in the bets, from one item to the next */

typedef struct {
    int64_t n_items, n_unusual, alarm_at; /* items watched; beyond 99 % of the reference; first alarm's item or 0 */
    double evidence;
    int64_t count[PPAL_LINE_BINS];
    double bet[PPAL_LINE_BETS];
    uint64_t coins;
} ppal_line_drift;

PPAL_LINE_WIDE PPAL_LINE_ENTRY void ppal_line_watch(const ppal_line *m, ppal_line_drift *drift, double unusual) {
    double p, total = PPAL_LINE_PRIOR;
    int64_t low = 0, high = m->n_bins - 1, i, below = 0, all = 0;
    if (m->n_bins < 2 || unusual != unusual) return;
    if (!drift->n_items) {
        for (i = 0; i < m->n_bins; i++) drift->count[i] = m->bin_count[i];
        drift->evidence = 1.0;
    }
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (unusual > m->bin_edge[middle]) low = middle + 1;
        else high = middle;
    }
    for (i = 0; i < low; i++) below += drift->count[i];
    for (all = below; i < m->n_bins; i++) all += drift->count[i];
    drift->count[low]++;
    drift->n_items++;
    drift->n_unusual += low == m->n_bins - 1;
    p = ((double)below + ppal_line_uniform(&drift->coins) * (double)drift->count[low]) / (double)(all + 1);
    for (i = 0; i < PPAL_LINE_BETS; i++) {
        drift->bet[i] *= PPAL_LINE_MEMORY;
        total += drift->bet[i];
    }
    i = (int64_t)(p * PPAL_LINE_BETS);
    i = i < PPAL_LINE_BETS ? i : PPAL_LINE_BETS - 1;
    drift->evidence = drift->evidence > 1.0 ? drift->evidence : 1.0;
    drift->evidence *= (drift->bet[i] * PPAL_LINE_BETS + PPAL_LINE_PRIOR) / total;
    drift->evidence = drift->evidence < 1e300 ? drift->evidence : 1e300;
    drift->bet[i] += 1.0;
    if (!drift->alarm_at && drift->evidence >= PPAL_LINE_ALARM) drift->alarm_at = drift->n_items;
}
