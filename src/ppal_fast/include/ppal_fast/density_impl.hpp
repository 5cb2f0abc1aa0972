// How GaussianKde packs its references, picks a kernel for each row, and decides which rows to redo carefully.
// Included by density.hpp alone.
#pragma once

namespace ppal_fast {
inline namespace PPAL_FAST_SIMD {

constexpr double log2_e = 1.4426950408889634, ln_2 = 0.6931471805599453, root_two_pi = 2.5066282746310002;
constexpr double minus_infinity = -std::numeric_limits<double>::infinity();
// Queries taken at a time: whole register blocks, few enough to bound the memory of a call whatever their number.
inline long rows_at_once(long columns) {
  return std::clamp((1L << 18) / std::max(1L, 3 * columns) / 12 * 12, 12L, 1020L);
}
constexpr long tiles_a_group = 4;      // of references that are passed over together, see density_pruning.hpp
inline std::vector<long> spatial_order(const double* rows, long n, long d, const double* scale, long leaf);
constexpr double absent = -1e30;     // log2 weight of padding in the fast kernels
// Up to so many queries the references are split, into parts of at least so many pairs (some 20 us).
constexpr long few_queries = 96, pairs_a_part = 1L << 15, most_parts = 16;

// Whether additions run beside multiply-adds on ports of their own, as on AMD's Zen; Intel's cores share the ports.
inline bool additions_have_ports() {
#if defined(__x86_64__) && defined(__GNUC__)
  return __builtin_cpu_is("amd");
#else
  return false;
#endif
}

inline bool any_missing(const double* cells, long count) {
  return std::any_of(cells, cells + count, [](double cell) { return std::isnan(cell); });
}

// What one precision promises. Exponents are shifted up by shift(columns) so that the sum uses the whole range of T.
template <class T>
struct Precision;

template <>
struct Precision<double> {
  static double shift(long) { return 900; }
  static constexpr double unit = 0x1p-53;
  static constexpr double lost = 0x1p-981;   // per reference: below lost * n the terms under 2^-1021 would show
  static constexpr double allowed = 7e-10;   // worst-case rounding of an exponent, in log2 units (4.9e-10 natural)
  static constexpr double relevant = 80;     // terms 2^-relevant below the sum do not count
};

template <>
struct Precision<float> {
  // about where the largest term of a typical row lies: rounding is least for exponents near zero (measured)
  static double shift(long columns) { return std::min(100.0, 20 + std::floor(1.5 * static_cast<double>(columns))); }
  static constexpr double unit = 0x1p-24;
  static constexpr double lost = 0x1p-103;
  static constexpr double allowed = 1e-2;    // a worst case: typical errors are hundreds of times smaller
  static constexpr double relevant = 50;
};

// A value from the middle of the column that no outlier can move: exact cancellation near it is what counts.
inline double column_centre(const double* references, long n, long d, long column) {
  std::vector<double> sample;
  for (long i = 0; i < n; i += n / 1024 + 1)
    if (!std::isnan(references[i * d + column])) sample.push_back(references[i * d + column]);
  if (sample.empty()) return 0;
  std::nth_element(sample.begin(), sample.begin() + sample.size() / 2, sample.end());
  return sample[sample.size() / 2];
}

template <class T>
const KernelSet<T>& GaussianKde<T>::set() const {
  if constexpr (sizeof(T) == sizeof(double))
    return kernels_.f64;
  else
    return kernels_.f32;
}

template <class T>
GaussianKde<T>::GaussianKde(const double* references, long n, long d, const double* bandwidth, const double* weights,
                            const Kernels& kernels, const GaussianKde* like, bool prunable)
    : kernels_(kernels), n_(n), d_(d), references_(references, references + n * d), columns_(d), unusable_(d, false) {
  if (weights) {
    const double largest = *std::max_element(weights, weights + n);
    for (long i = 0; i < n; i++) weights_.push_back(weights[i] / largest);
    before_.assign(n, 0);
    after_.assign(n, 0);
    for (long i = 1; i < n; i++) before_[i] = before_[i - 1] + weights_[i - 1];
    for (long i = n - 1; i > 0; i--) after_[i - 1] = after_[i] + weights_[i];
  }
  for (long k = 0; k < d; k++) {
    centre_.push_back(like ? like->centre_[k] : column_centre(references, n, d, k));
    scale_.push_back(std::sqrt(log2_e) / bandwidth[k]);
    log2_peak_.push_back(-std::log2(bandwidth[k]) - std::log2(root_two_pi));
    std::vector<double> values, value_weights;
    double total = 0;
    std::vector<long> rows;
    for (long i = 0; i < n; i++) {
      if (std::isnan(references[i * d + k])) continue;
      rows.push_back(i);
      values.push_back(references[i * d + k]);
      value_weights.push_back(weights ? weights_[i] : 1);
      total += value_weights.back();
    }
    if (static_cast<long>(rows.size()) == n) continue;
    complete_ = false;
    unusable_[k] = !(total > 0);
    if (unusable_[k]) continue;
    columns_[k].density = std::make_unique<GaussianKde<double>>(values.data(), static_cast<long>(rows.size()), 1,
                                                                bandwidth + k, weights ? value_weights.data() : nullptr,
                                                                kernels);
    columns_[k].rows = std::move(rows);
    fill_boxes(columns_[k], values);
  }
  if (complete_) packed_ = pack_complete(prunable);
}

template <class T>
typename GaussianKde<T>::Packed GaussianKde<T>::pack_complete(bool prunable) const {
  const long width = set().width, tiles = (n_ + width - 1) / width;
  Packed packed{d_, 0, AlignedArray<T>(tiles * d_ * width), AlignedArray<T>(tiles * width), 0, {}, {}, {}};
  std::vector<long> order;
  if (prunable && d_ > 0) order = spatial_order(references_.data(), n_, d_, scale_.data(), tiles_a_group * width);
  packed.position.resize(order.size());
  for (std::size_t i = 0; i < order.size(); i++) packed.position[order[i]] = static_cast<long>(i);
  std::vector<double> norm(n_, 0.0), products(n_, 0.0);
  for (long i = 0; i < n_; i++) {
    const long row = order.empty() ? i : order[i];
    T* y = packed.Y.get() + i / width * d_ * width + i % width;
    for (long k = 0; k < d_; k++, y += width) {
      *y = static_cast<T>((references_[row * d_ + k] - centre_[k]) * scale_[k]);
      norm[i] += static_cast<double>(*y) * *y;
      if (k % 3 == 1 && k + 1 < d_) products[i] += static_cast<double>(*(y - width)) * *y;
    }
    packed.largest_norm = std::max(packed.largest_norm, norm[i]);
  }
  if (set().pairs && additions_have_ports() && pairs_hold(norm)) packed.triples = d_ / 3;
  for (long i = 0; i < tiles * width; i++) {
    const long row = i < n_ && !order.empty() ? order[i] : i;
    const double log2_weight = i >= n_ ? absent : weights_.empty() ? 0 : std::max(absent, std::log2(weights_[row]));
    const double constant = i >= n_ ? 0 : 0.5 * norm[i] + (packed.triples > 0 ? products[i] : 0);
    packed.b[i] = static_cast<T>(log2_weight - constant);
  }
  if (!order.empty()) find_boxes(packed);
  return packed;
}

// Winograd's product cancels more: whether nine rows in ten, as queries, would be trusted with room to spare. See trusted.
template <class T>
bool GaussianKde<T>::pairs_hold(std::vector<double> norm) const {
  const auto ninth = norm.begin() + n_ * 9 / 10;
  std::nth_element(norm.begin(), ninth, norm.end());
  return rounding(d_) * 4 * *ninth <= 0.5 * Precision<T>::allowed;
}

// Sum of the relative weights of all references but one.
template <class T>
double GaussianKde<T>::weight_without(long left_out) const {
  if (weights_.empty()) return static_cast<double>(left_out < 0 ? n_ : n_ - 1);
  return left_out < 0 ? before_.back() + weights_.back() : before_[left_out] + after_[left_out];
}

// Of a chain of multiply-adds, relative to the moduli of all that it adds up.
template <class T>
double GaussianKde<T>::rounding(long terms) {
  return static_cast<double>(terms + 6) * Precision<T>::unit;
}

// Whether the rounding of the fast form stays within what the precision allows. Terms that count have
// t >= log2(sum) - relevant, so their reference lies within r of the query and |y'| <= |x'| + r; the moduli of all that
// is added up are then at most (|x'| + |y'|)^2 / 2 + slack, with triples |x'|^2 + |y'|^2 more: half of it X_0 X_1 and
// Y_0 Y_1, half of it in Winograd's products. The other terms may be wrong by one, no more.
template <class T>
bool GaussianKde<T>::trusted(double sum, const Query& query, const Packed& packed) const {
  using P = Precision<T>;
  if (!(sum > P::lost * static_cast<double>(n_)) || !std::isfinite(sum)) return false;
  const double log2_sum = std::log2(sum) + query.shift;
  const double x = std::sqrt(query.norm);
  const double r = std::sqrt(2 * std::max(0.0, query.gain - log2_sum + P::relevant));
  const auto moduli = [&](double y) {
    return 0.5 * (x + y) * (x + y) + query.slack + (packed.triples > 0 ? x * x + y * y : 0);
  };
  return rounding(query.terms) * moduli(x + r) <= P::allowed &&
         rounding(query.terms) * moduli(std::sqrt(packed.largest_norm)) <= 1;
}

template <class T>
void GaussianKde<T>::log_density(const double* queries, long m, double* out, const long* left_out,
                                 const Threads& threads, double rtol) const {
  const FlushToZero flush;
  const long step = rows_at_once(d_);
  for (long first = 0; first < m; first += step)
    score_block(queries + first * d_, std::min(step, m - first), left_out ? left_out + first : nullptr, threads, rtol,
                out + first);
}

template <class T>
void GaussianKde<T>::log_ratio(const GaussianKde& denominator, const double* queries, long m, double* out,
                               const long* left_out, const Threads& threads) const {
  const FlushToZero flush;
  const bool alike =
      complete_ && denominator.complete_ && centre_ == denominator.centre_ && scale_ == denominator.scale_ &&
      packed_.triples == denominator.packed_.triples;
  const long step = rows_at_once(d_);
  std::vector<double> below(std::min(step, m));
  for (long first = 0; first < m; first += step) {
    const long count = std::min(step, m - first);
    const double* block = queries + first * d_;
    const long* own = left_out ? left_out + first : nullptr;
    if (alike && !any_missing(block, count * d_)) {
      const Prepared prepared = prepare(block, count);
      score_prepared(prepared, block, count, own, threads, 0, out + first);
      denominator.score_prepared(prepared, block, count, nullptr, threads, 0, below.data());
    } else {
      score_block(block, count, own, threads, 0, out + first);
      denominator.score_block(block, count, nullptr, threads, 0, below.data());
    }
    for (long i = 0; i < count; i++) out[first + i] -= below[i];
  }
}

template <class T>
void GaussianKde<T>::score_block(const double* queries, long m, const long* left_out, const Threads& threads,
                                 double rtol, double* out) const {
  if (complete_ && !any_missing(queries, m * d_)) {
    score_prepared(prepare(queries, m), queries, m, left_out, threads, rtol, out);
    return;
  }
  std::vector<double> gathered, scores;
  std::vector<long> kept, rows;
  // rows that are complete against complete references, then the others
  for (const bool with_missing : {false, true}) {
    gathered.clear(), kept.clear(), rows.clear();
    for (long i = 0; i < m; i++) {
      const double* row = queries + i * d_;
      if ((!complete_ || any_missing(row, d_)) != with_missing) continue;
      gathered.insert(gathered.end(), row, row + d_);
      kept.push_back(left_out ? left_out[i] : -1);
      rows.push_back(i);
    }
    if (rows.empty()) continue;
    const long count = static_cast<long>(rows.size());
    scores.resize(rows.size());
    if (with_missing)
      score_masked(gathered.data(), count, kept.data(), threads, scores.data());
    else
      score_prepared(prepare(gathered.data(), count), gathered.data(), count, kept.data(), threads, rtol,
                     scores.data());
    for (std::size_t i = 0; i < rows.size(); i++) out[rows[i]] = scores[i];
  }
}

// b of the tile that holds left_out, with that reference absent.
template <class T>
void GaussianKde<T>::patched_tile(const Packed& packed, long left_out, T* b) const {
  const long width = set().width;
  std::copy_n(packed.b.get() + left_out / width * width, width, b);
  b[left_out % width] = static_cast<T>(absent);
}

// Tiles of references stay in the cache while all blocks of queries pass over them; a single block takes them all.
template <class T>
void GaussianKde<T>::sum_blocks(const Packed& packed, const T* X, const T* a, const long* left_out, long count,
                                long first_tile, long last_tile, double* sums) const {
  const long width = set().width, block_rows = set().rows, depth = packed.depth;
  const long tile_bytes = std::max<long>(1, depth) * width * static_cast<long>(sizeof(T));
  const long step = count <= block_rows ? last_tile - first_tile : std::max(1L, (256L << 10) / tile_bytes);
  for (long begin = first_tile; begin < last_tile; begin += step)
    for (long first = 0; first < count; first += block_rows)
      sum_one_block(packed, X + first * depth, a + first, left_out ? left_out + first : nullptr,
                    std::min(block_rows, count - first), begin, std::min(last_tile, begin + step), sums + first);
}

// One block of `valid` queries over the tiles from begin to end; left_out says where in `packed`.
template <class T>
void GaussianKde<T>::sum_one_block(const Packed& packed, const T* X, const T* a, const long* left_out, long valid,
                                   long begin, long end, double* sums) const {
  const long width = set().width, block_rows = set().rows, depth = packed.depth;
  const auto run = [&](long from, long to) {
    if (from < to)
      set().block(X, a, packed.Y.get() + from * depth * width, packed.b.get() + from * width, depth, packed.triples,
                  to - from, sums);
  };
  long low = end, high = end;  // tiles that hold a left-out reference of this block
  for (long r = 0; left_out && r < valid; r++) {
    const long tile = left_out[r] < 0 ? -1 : left_out[r] / width;
    if (tile < begin || tile >= end) continue;
    high = low == end ? tile + 1 : std::max(high, tile + 1);
    low = std::min(low, tile);
  }
  if (valid > 1 && low == end) {
    run(begin, end);
    return;
  }
  AlignedArray<T> one(depth), patched(width);
  const auto run_one = [&](long r, long from, long to, const T* b) {
    for (long k = 0; k < depth; k++) one[k] = X[k * block_rows + r];
    set().single(one.get(), a + r, packed.Y.get() + from * depth * width, b, depth, packed.triples, to - from,
                 sums + r);
  };
  if (low == end) {
    run_one(0, begin, end, packed.b.get() + begin * width);
    return;
  }
  run(begin, low);
  for (long tile = low; tile < high; tile++)
    for (long r = 0; r < valid; r++) {
      const bool mine = left_out[r] >= 0 && left_out[r] / width == tile;
      if (mine) patched_tile(packed, left_out[r], patched.get());
      run_one(r, tile, tile + 1, mine ? patched.get() : packed.b.get() + tile * width);
    }
  run(high, end);
}

// sums[i] += the sums of `count` queries over all tiles, by sum_tiles(first_tile, last_tile, sums), which may write up to
// the end of the last block. Few queries: the references are split, into parts that depend on the sizes alone, and the
// sums of the parts are added in their order. So the result is the same whoever runs the parts.
template <class T>
template <class SumTiles>
void GaussianKde<T>::sum_in_parts(long count, const Threads& threads, double* sums, const SumTiles& sum_tiles) const {
  const long tiles = (n_ + set().width - 1) / set().width;
  const long parts = count > few_queries ? 1 : std::clamp(count * n_ / pairs_a_part, 1L, most_parts);
  if (parts == 1) {
    sum_tiles(0, tiles, sums);
    return;
  }
  const long padded = count + set().rows;
  std::vector<double> of_part(parts * padded, 0.0);
  const std::function<void(long)> part = [&](long p) {
    const FlushToZero flush;  // it belongs to a thread
    sum_tiles(p * tiles / parts, (p + 1) * tiles / parts, of_part.data() + p * padded);
  };
  if (threads)
    threads(parts, part);
  else
    for (long p = 0; p < parts; p++) part(p);
  for (long p = 0; p < parts; p++)
    for (long i = 0; i < count; i++) sums[i] += of_part[p * padded + i];
}

template <class T>
typename GaussianKde<T>::Prepared GaussianKde<T>::prepare(const double* queries, long m) const {
  const long block_rows = set().rows, padded = (m + block_rows - 1) / block_rows * block_rows;
  Prepared prepared{AlignedArray<T>(padded * d_), AlignedArray<T>(padded), std::vector<double>(padded),
                    std::vector<double>(padded)};
  set().pack(queries, m, d_, packed_.triples, centre_.data(), scale_.data(), prepared.X.get(), prepared.norm.data(),
             prepared.constant.data());
  for (long i = 0; i < padded; i++) {
    prepared.constant[i] += 0.5 * prepared.norm[i];
    prepared.a[i] = static_cast<T>(prepared.constant[i] - Precision<T>::shift(d_));
  }
  return prepared;
}

// log2 of what a sum of kernels was multiplied with, negated.
template <class T>
double GaussianKde<T>::shift_of(const Prepared& prepared, long i) const {
  return static_cast<double>(prepared.a[i]) - prepared.constant[i];
}

template <class T>
void GaussianKde<T>::score_prepared(const Prepared& prepared, const double* queries, long m, const long* left_out,
                                    const Threads& threads, double rtol, double* out) const {
  double log2_peak = 0;
  for (const double peak : log2_peak_) log2_peak += peak;
  std::vector<double> sums(prepared.norm.size(), 0.0);
  std::vector<long> places;  // of the references left out
  if (left_out && !packed_.position.empty())
    for (long i = 0; i < m; i++) places.push_back(left_out[i] < 0 ? -1 : packed_.position[left_out[i]]);
  const long* place = places.empty() ? left_out : places.data();
  if (rtol > 0 && !packed_.low.empty()) {
    std::vector<double> squared;
    for (long first = 0; first < m; first += set().rows)
      sum_near(prepared, place, first, std::min<long>(set().rows, m - first), rtol, sums.data(), squared);
  } else {
    sum_in_parts(m, threads, sums.data(), [&](long first_tile, long last_tile, double* of_part) {
      sum_blocks(packed_, prepared.X.get(), prepared.a.get(), place, m, first_tile, last_tile, of_part);
    });
  }

  std::vector<double> again;
  std::vector<long> rows, kept;
  for (long i = 0; i < m; i++) {
    const long own = left_out ? left_out[i] : -1;
    const double weight = weight_without(own);
    Query query;
    query.norm = prepared.norm[i];
    query.shift = shift_of(prepared, i);
    query.terms = d_;
    if (!(weight > 0)) {
      out[i] = d_ ? minus_infinity : 0;
    } else if (d_ == 0) {
      out[i] = 0;
    } else if (trusted(sums[i], query, packed_)) {
      out[i] = (std::log2(sums[i]) + query.shift + log2_peak - std::log2(weight)) * ln_2;
    } else {
      again.insert(again.end(), queries + i * d_, queries + (i + 1) * d_);
      kept.push_back(own);
      rows.push_back(i);
    }
  }
  if (rows.empty()) return;
  std::vector<double> scores(rows.size());
  score_carefully(again.data(), nullptr, static_cast<long>(rows.size()), kept.data(), scores.data());
  for (std::size_t i = 0; i < rows.size(); i++) out[rows[i]] = scores[i];
}

// Differences of raw values, a running maximum, float64: right wherever float64 is. log2_marginal is null for rows and
// references without missing cells.
template <class T>
void GaussianKde<T>::score_carefully(const double* queries, const double* log2_marginal, long m, const long* left_out,
                                     double* out) const {
  const long width = kernels_.f64.width;
  AlignedArray<double> y(d_ * width), observed(d_ * width), b(width), patched(width);
  std::vector<double> maximum(m, std::numeric_limits<double>::lowest()), sum(m, 0.0), base(m, 0.0);
  std::vector<double> gain(log2_marginal ? m * d_ : 0);
  std::vector<std::vector<int>> columns(m);
  for (long i = 0; i < m; i++)
    for (long k = 0; k < d_; k++) {
      const double marginal = log2_marginal ? log2_marginal[i * d_ + k] : log2_peak_[k];
      if (std::isnan(marginal)) continue;
      columns[i].push_back(static_cast<int>(k));
      base[i] += marginal;
      if (log2_marginal) gain[i * d_ + k] = log2_peak_[k] - marginal;
    }
  for (long first = 0; first < n_; first += width) {
    for (long j = 0; j < width; j++) {
      const long i = first + j;
      for (long k = 0; k < d_; k++) {
        const double value = i < n_ ? references_[i * d_ + k] : 0;
        observed[k * width + j] = std::isnan(value) ? 0 : 1;
        y[k * width + j] = std::isnan(value) ? 0 : value;
      }
      b[j] = i >= n_ ? impossible : weights_.empty() ? 0 : std::max(impossible, std::log2(weights_[i]));
    }
    for (long q = 0; q < m; q++) {
      const double* weights = b.get();
      if (left_out && left_out[q] >= first && left_out[q] < first + width) {
        std::copy_n(b.get(), width, patched.get());
        patched[left_out[q] - first] = impossible;
        weights = patched.get();
      }
      kernels_.careful(queries + q * d_, scale_.data(), log2_marginal ? gain.data() + q * d_ : nullptr,
                       columns[q].data(), static_cast<long>(columns[q].size()), y.get(),
                       complete_ ? nullptr : observed.get(), weights, &maximum[q], &sum[q]);
    }
  }
  for (long q = 0; q < m; q++) {
    const double log2_weight = std::log2(weight_without(left_out ? left_out[q] : -1));
    const double log2_density = maximum[q] + std::log2(sum[q]) + base[q] - log2_weight;
    out[q] = maximum[q] <= 0.1 * impossible ? minus_infinity : log2_density * ln_2;
  }
}

}  // namespace PPAL_FAST_SIMD
}  // namespace ppal_fast
