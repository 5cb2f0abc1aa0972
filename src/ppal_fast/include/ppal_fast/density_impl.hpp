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
constexpr double absent = -1e30;     // log2 weight of padding in the fast kernels

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
                            const Kernels& kernels)
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
    centre_.push_back(column_centre(references, n, d, k));
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
  if (complete_) packed_ = pack_complete();
}

template <class T>
typename GaussianKde<T>::Packed GaussianKde<T>::pack_complete() const {
  const long width = set().width, tiles = (n_ + width - 1) / width;
  Packed packed{d_, AlignedArray<T>(tiles * d_ * width), AlignedArray<T>(tiles * width), 0};
  for (long i = 0; i < tiles * width; i++) {
    const long tile = i / width, lane = i % width;
    double norm = 0;
    for (long k = 0; k < d_ && i < n_; k++) {
      const T y = static_cast<T>((references_[i * d_ + k] - centre_[k]) * scale_[k]);
      packed.Y[(tile * d_ + k) * width + lane] = y;
      norm += static_cast<double>(y) * y;
    }
    packed.largest_norm = std::max(packed.largest_norm, norm);
    const double log2_weight = i >= n_ ? absent : weights_.empty() ? 0 : std::max(absent, std::log2(weights_[i]));
    packed.b[i] = static_cast<T>(log2_weight - 0.5 * norm);
  }
  return packed;
}

// Sum of the relative weights of all references but one.
template <class T>
double GaussianKde<T>::weight_without(long left_out) const {
  if (weights_.empty()) return static_cast<double>(left_out < 0 ? n_ : n_ - 1);
  return left_out < 0 ? before_.back() + weights_.back() : before_[left_out] + after_[left_out];
}

// Whether the rounding of the fast form stays within what the precision allows. Terms that count have
// t >= log2(sum) - relevant, so their reference lies within r of the query and |y'| <= |x'| + r; the partial sums of
// the chain are then at most (|x'| + |y'|)^2 / 2 + slack. The other terms may be wrong by one, no more.
template <class T>
bool GaussianKde<T>::trusted(double sum, const Query& query, const Packed& packed) const {
  using P = Precision<T>;
  if (!(sum > P::lost * static_cast<double>(n_)) || !std::isfinite(sum)) return false;
  const double log2_sum = std::log2(sum) + query.shift;
  const double x = std::sqrt(query.norm);
  const double r = std::sqrt(2 * std::max(0.0, query.gain - log2_sum + P::relevant));
  const double rounding = static_cast<double>(query.terms + 6) * P::unit;
  const double relevant = 0.5 * (2 * x + r) * (2 * x + r) + query.slack;
  const double y = std::sqrt(packed.largest_norm);
  return rounding * relevant <= P::allowed && rounding * (0.5 * (x + y) * (x + y) + query.slack) <= 1;
}

template <class T>
void GaussianKde<T>::log_density(const double* queries, long m, double* out, const long* left_out) const {
  const FlushToZero flush;
  std::vector<double> gathered, scores;
  std::vector<long> kept, rows;
  const long step = rows_at_once(d_);
  for (long first = 0; first < m; first += step) {
    const long count = std::min(step, m - first);
    const double* block = queries + first * d_;
    const long* own = left_out ? left_out + first : nullptr;
    bool any_missing = false;
    for (long c = 0; c < count * d_ && !any_missing; c++) any_missing = std::isnan(block[c]);
    if (complete_ && !any_missing) {
      score_complete(block, count, own, out + first);
      continue;
    }
    // rows that are complete against complete references, then the others
    for (const bool with_missing : {false, true}) {
      gathered.clear(), kept.clear(), rows.clear();
      for (long i = 0; i < count; i++) {
        const double* row = block + i * d_;
        const bool missing = !complete_ || std::any_of(row, row + d_, [](double v) { return std::isnan(v); });
        if (missing != with_missing) continue;
        gathered.insert(gathered.end(), row, row + d_);
        kept.push_back(own ? own[i] : -1);
        rows.push_back(first + i);
      }
      if (rows.empty()) continue;
      scores.resize(rows.size());
      if (with_missing)
        score_masked(gathered.data(), static_cast<long>(rows.size()), kept.data(), scores.data());
      else
        score_complete(gathered.data(), static_cast<long>(rows.size()), kept.data(), scores.data());
      for (std::size_t i = 0; i < rows.size(); i++) out[rows[i]] = scores[i];
    }
  }
}

// b of the tile that holds left_out, with that reference absent.
template <class T>
void GaussianKde<T>::patched_tile(const Packed& packed, long left_out, T* b) const {
  const long width = set().width;
  std::copy_n(packed.b.get() + left_out / width * width, width, b);
  b[left_out % width] = static_cast<T>(absent);
}

// Tiles of references stay in the cache while all blocks of queries pass over them.
template <class T>
void GaussianKde<T>::sum_blocks(const Packed& packed, const T* X, const T* a, const long* left_out, long count,
                                double* sums) const {
  const long width = set().width, block_rows = set().rows, depth = packed.depth, tiles = (n_ + width - 1) / width;
  const long step = std::max<long>(1, (128L << 10) / static_cast<long>(std::max<long>(1, depth) * width * sizeof(T)));
  AlignedArray<T> one(depth), patched(width);
  for (long begin = 0; begin < tiles; begin += step) {
    const long end = std::min(tiles, begin + step);
    for (long first = 0; first < count; first += block_rows) {
      const long valid = std::min(block_rows, count - first);
      const T* x = X + first * depth;
      const auto run = [&](long from, long to) {
        if (from < to)
          set().block(x, a + first, packed.Y.get() + from * depth * width, packed.b.get() + from * width, depth,
                      to - from, sums + first);
      };
      const auto run_one = [&](long r, long from, long to, const T* b) {
        for (long k = 0; k < depth; k++) one[k] = x[k * block_rows + r];
        set().single(one.get(), a + first + r, packed.Y.get() + from * depth * width, b, depth, to - from,
                     sums + first + r);
      };
      long low = end, high = end;  // tiles that hold a left-out reference of this block
      for (long r = 0; left_out && r < valid; r++) {
        const long tile = left_out[first + r] < 0 ? -1 : left_out[first + r] / width;
        if (tile < begin || tile >= end) continue;
        high = low == end ? tile + 1 : std::max(high, tile + 1);
        low = std::min(low, tile);
      }
      if (valid == 1 && low == end) {
        run_one(0, begin, end, packed.b.get() + begin * width);
        continue;
      }
      run(begin, low);
      for (long tile = low; tile < high; tile++)
        for (long r = 0; r < valid; r++) {
          const bool mine = left_out[first + r] >= 0 && left_out[first + r] / width == tile;
          if (mine) patched_tile(packed, left_out[first + r], patched.get());
          run_one(r, tile, tile + 1, mine ? patched.get() : packed.b.get() + tile * width);
        }
      run(high, end);
    }
  }
}

template <class T>
void GaussianKde<T>::score_complete(const double* queries, long m, const long* left_out, double* out) const {
  const long block_rows = set().rows, padded = (m + block_rows - 1) / block_rows * block_rows;
  double log2_peak = 0;
  for (const double peak : log2_peak_) log2_peak += peak;
  AlignedArray<T> X(padded * d_), a(padded);
  std::vector<double> norm(padded), sums(padded, 0.0);
  set().pack(queries, m, d_, centre_.data(), scale_.data(), X.get(), norm.data());
  for (long i = 0; i < padded; i++) a[i] = static_cast<T>(0.5 * norm[i] - Precision<T>::shift(d_));
  sum_blocks(packed_, X.get(), a.get(), left_out, m, sums.data());

  std::vector<double> again;
  std::vector<long> rows, kept;
  for (long i = 0; i < m; i++) {
    const long own = left_out ? left_out[i] : -1;
    const double weight = weight_without(own);
    Query query;
    query.norm = norm[i];
    query.shift = static_cast<double>(a[i]) - 0.5 * norm[i];
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
