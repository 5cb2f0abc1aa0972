// How GaussianKde packs its references, picks a kernel for each row, and decides which rows to redo carefully.
// Included by density.hpp alone.
#pragma once

namespace ppal_fast {
inline namespace PPAL_FAST_SIMD {

constexpr double log2_e = 1.4426950408889634, ln_2 = 0.6931471805599453, root_two_pi = 2.5066282746310002;
constexpr double minus_infinity = -std::numeric_limits<double>::infinity();
constexpr long rows_at_once = 1020;  // a multiple of every register block; bounds the memory of one call whatever the number of queries
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

// Three rows a column: observed, observed y', -observed y'^2 / 2.
template <class T>
typename GaussianKde<T>::Packed GaussianKde<T>::pack_masked() const {
  const long width = set().width, tiles = (n_ + width - 1) / width;
  Packed packed{3 * d_, AlignedArray<T>(tiles * 3 * d_ * width), AlignedArray<T>(tiles * width), 0};
  for (long i = 0; i < tiles * width; i++) {
    const long tile = i / width, lane = i % width;
    double norm = 0;
    for (long k = 0; k < d_ && i < n_; k++) {
      const double value = references_[i * d_ + k];
      if (std::isnan(value)) continue;
      const T y = static_cast<T>((value - centre_[k]) * scale_[k]);
      T* cell = packed.Y.get() + (tile * 3 * d_ + 3 * k) * width + lane;
      cell[0] = 1;
      cell[width] = y;
      cell[2 * width] = static_cast<T>(-0.5 * static_cast<double>(y) * y);
      norm += static_cast<double>(y) * y;
    }
    packed.largest_norm = std::max(packed.largest_norm, norm);
    packed.b[i] = static_cast<T>(i >= n_ ? absent : weights_.empty() ? 0 : std::max(absent, std::log2(weights_[i])));
  }
  return packed;
}

template <class T>
const typename GaussianKde<T>::Packed& GaussianKde<T>::masked() const {
  std::call_once(masked_once_, [this] { masked_ = pack_masked(); });
  return masked_;
}

// A cell of the only column, in bandwidths from its centre.
template <class T>
double GaussianKde<T>::in_bandwidths(double cell) const {
  return (cell - centre_[0]) * scale_[0] / std::sqrt(log2_e);
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
  for (long first = 0; first < m; first += rows_at_once) {
    const long count = std::min(rows_at_once, m - first);
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
void GaussianKde<T>::sum_lists(const Packed& packed, const std::vector<std::vector<T>>& coefficients,
                               const std::vector<std::vector<int>>& columns, const std::vector<T>& a,
                               const long* left_out, double* sums) const {
  const long width = set().width, depth = packed.depth, tiles = (n_ + width - 1) / width;
  const long step = std::max<long>(1, (32L << 10) / static_cast<long>(depth * width * sizeof(T)));
  AlignedArray<T> patched(width);
  for (long begin = 0; begin < tiles; begin += step) {
    const long end = std::min(tiles, begin + step);
    for (std::size_t q = 0; q < a.size(); q++) {
      const auto run = [&](long from, long to, const T* b) {
        set().listed(coefficients[q].data(), columns[q].data(), static_cast<long>(columns[q].size()), a[q],
                     packed.Y.get() + from * depth * width, b, depth, to - from, sums + q);
      };
      const long tile = left_out[q] < 0 ? -1 : left_out[q] / width;
      if (tile < begin || tile >= end) {
        run(begin, end, packed.b.get() + begin * width);
        continue;
      }
      patched_tile(packed, left_out[q], patched.get());
      run(begin, tile, packed.b.get() + begin * width);
      run(tile, tile + 1, patched.get());
      run(tile + 1, end, packed.b.get() + (tile + 1) * width);
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

// Moments sum_i w_i exp(-v_i^2 / 2) v_i^k / k! of the cells of each box of one bandwidth, v_i = u_i - centre in
// bandwidths: with them sum_i w_i exp(-(u - u_i)^2 / 2) is exp(-v^2 / 2) sum_k v^k moment_k (Greengard and Strain 1991,
// doi:10.1137/0912004). Boxes that hold few cells each would cost more than the cells.
template <class T>
void GaussianKde<T>::fill_boxes(Column& column, const std::vector<double>& cells) const {
  const GaussianKde<double>& density = *column.density;
  std::vector<std::pair<double, double>> sorted;  // u, w
  for (std::size_t i = 0; i < cells.size(); i++)
    sorted.emplace_back(density.in_bandwidths(cells[i]), density.weights_.empty() ? 1 : density.weights_[i]);
  std::sort(sorted.begin(), sorted.end());
  const std::size_t most_boxes = 64 + cells.size() / 16;
  for (const auto& [u, w] : sorted) {
    const double centre = std::floor(u) + 0.5;
    if (column.centres.empty() || column.centres.back() != centre) {
      column.centres.push_back(centre);
      column.moments.resize(column.centres.size() * series_terms, 0.0);
    }
    if (column.centres.size() > most_boxes) {
      column.centres.clear(), column.moments.clear();
      return;
    }
    const double v = u - centre;
    double term = w * std::exp(-0.5 * v * v);
    double* moment = column.moments.data() + column.moments.size() - series_terms;
    for (int k = 0; k < series_terms; k++) {
      moment[k] += term;
      term *= v / (k + 1);
    }
  }
}

// Log densities of the cells of one column. A sum of boxes is right to 3e-12 where it is at least 1e-9 of the weight,
// and not the small remainder of the reference left out, and u is small enough to be known to 1e-12; otherwise
// reference by reference.
template <class T>
void GaussianKde<T>::score_cells(const Column& column, const std::vector<double>& cells,
                                 const std::vector<long>& left_out, std::vector<double>& out) const {
  const GaussianKde<double>& density = *column.density;
  const long count = static_cast<long>(cells.size()), padded = (count + series_lanes - 1) / series_lanes * series_lanes;
  out.resize(cells.size());
  AlignedArray<double> u(padded), sums(padded);
  for (long i = 0; i < count; i++) u[i] = density.in_bandwidths(cells[i]);
  kernels_.series(u.get(), padded, column.centres.data(), column.moments.data(),
                  static_cast<long>(column.centres.size()), sums.get());
  const double total = density.weight_without(-1);
  std::vector<double> again;
  std::vector<long> rows, kept;
  for (long i = 0; i < count; i++) {
    const long own = left_out[i];
    double sum = sums[i];
    if (own >= 0) {
      const double v = u[i] - density.in_bandwidths(density.references_[own]);
      sum -= (density.weights_.empty() ? 1 : density.weights_[own]) * std::exp(-0.5 * v * v);
    }
    if (std::abs(u[i]) <= 1e4 && sum >= 1e-9 * total && sum >= 1e-3 * sums[i]) {
      out[i] = std::log(sum / density.weight_without(own)) + density.log2_peak_[0] * ln_2;
      continue;
    }
    again.push_back(cells[i]);
    kept.push_back(own);
    rows.push_back(i);
  }
  if (rows.empty()) return;
  std::vector<double> scores(rows.size());
  density.log_density(again.data(), static_cast<long>(again.size()), scores.data(), kept.data());
  for (std::size_t i = 0; i < rows.size(); i++) out[rows[i]] = scores[i];
}

// (m, d) log2 p_j(x_j); NaN where the cell is missing or no reference (but the one left out) has the column. A column
// that every reference has needs no p_j: the peak of its kernel stands in, which makes the gain zero.
template <class T>
std::vector<double> GaussianKde<T>::log2_marginals(const double* queries, long m, const long* left_out) const {
  std::vector<double> log2_marginal(m * d_, std::numeric_limits<double>::quiet_NaN());
  std::vector<double> cells, scores;
  std::vector<long> rows, kept;
  for (long k = 0; k < d_; k++) {
    if (unusable_[k]) continue;
    const Column& column = columns_[k];
    cells.clear(), rows.clear(), kept.clear();
    for (long i = 0; i < m; i++) {
      if (std::isnan(queries[i * d_ + k])) continue;
      if (!column.density) {
        log2_marginal[i * d_ + k] = log2_peak_[k];
        continue;
      }
      const auto found = std::lower_bound(column.rows.begin(), column.rows.end(), left_out[i]);
      const bool in_column = found != column.rows.end() && *found == left_out[i];
      const long own = in_column ? static_cast<long>(found - column.rows.begin()) : -1;
      if (!(column.density->weight_without(own) > 0)) continue;
      cells.push_back(queries[i * d_ + k]);
      rows.push_back(i);
      kept.push_back(own);
    }
    if (cells.empty()) continue;
    score_cells(column, cells, kept, scores);
    for (std::size_t i = 0; i < rows.size(); i++) log2_marginal[rows[i] * d_ + k] = scores[i] * log2_e;
  }
  return log2_marginal;
}

template <class T>
void GaussianKde<T>::score_masked(const double* queries, long m, const long* left_out, double* out) const {
  const Packed& packed = masked();
  const std::vector<double> log2_marginal = log2_marginals(queries, m, left_out);
  const long block_rows = set().rows;
  std::vector<Query> query(m);
  std::vector<double> sums(m, 0.0);
  std::vector<T> a(m);
  std::vector<long> by_list, by_block, again;
  std::vector<std::vector<T>> coefficients(m);
  std::vector<std::vector<int>> columns(m);
  for (long i = 0; i < m; i++) {
    double base = 0;
    for (long k = 0; k < d_; k++) {
      const double marginal = log2_marginal[i * d_ + k];
      if (std::isnan(marginal)) continue;
      const double gain = log2_peak_[k] - marginal;
      const T x = static_cast<T>((queries[i * d_ + k] - centre_[k]) * scale_[k]);
      const double square = static_cast<double>(x) * x;
      coefficients[i].insert(coefficients[i].end(), {static_cast<T>(gain - 0.5 * square), x, T(1)});
      columns[i].push_back(static_cast<int>(k));
      query[i].norm += square;
      query[i].gain += std::max(0.0, gain);
      query[i].slack += std::abs(gain);
      base += marginal;
    }
    const long observed = static_cast<long>(columns[i].size());
    query[i].terms = 3 * observed;
    a[i] = static_cast<T>(query[i].gain - Precision<T>::shift(observed));
    query[i].shift = static_cast<double>(a[i]);
    out[i] = base;
    if (observed == 0)
      out[i] = 0;
    else if (!(weight_without(left_out[i]) > 0) || base == minus_infinity)
      out[i] = minus_infinity;
    else
      // one query at a time touches its own columns only, but six at a time read each reference once (measured)
      (observed * 5 <= d_ * 2 ? by_list : by_block).push_back(i);
  }

  const auto finish = [&](long i, double sum) {
    if (trusted(sum, query[i], packed))
      out[i] = (std::log2(sum) + query[i].shift + out[i] - std::log2(weight_without(left_out[i]))) * ln_2;
    else
      again.push_back(i);
  };

  if (!by_list.empty()) {
    std::vector<std::vector<T>> list_coefficients;
    std::vector<std::vector<int>> list_columns;
    std::vector<T> list_a;
    std::vector<long> kept;
    for (const long i : by_list) {
      list_coefficients.push_back(std::move(coefficients[i]));
      list_columns.push_back(std::move(columns[i]));
      list_a.push_back(a[i]);
      kept.push_back(left_out[i]);
    }
    std::vector<double> list_sums(by_list.size(), 0.0);
    sum_lists(packed, list_coefficients, list_columns, list_a, kept.data(), list_sums.data());
    for (std::size_t q = 0; q < by_list.size(); q++) finish(by_list[q], list_sums[q]);
  }

  if (!by_block.empty()) {
    const long count = static_cast<long>(by_block.size());
    const long padded = (count + block_rows - 1) / block_rows * block_rows;
    AlignedArray<T> X(padded * 3 * d_), block_a(padded);
    std::vector<long> kept;
    std::vector<double> block_sums(padded, 0.0);
    for (long q = 0; q < count; q++) {
      const long i = by_block[q];
      T* x = X.get() + q / block_rows * block_rows * 3 * d_ + q % block_rows;
      for (std::size_t c = 0; c < columns[i].size(); c++)
        for (long z = 0; z < 3; z++) x[(3 * columns[i][c] + z) * block_rows] = coefficients[i][3 * c + z];
      block_a[q] = a[i];
      kept.push_back(left_out[i]);
    }
    sum_blocks(packed, X.get(), block_a.get(), kept.data(), count, block_sums.data());
    for (long q = 0; q < count; q++) finish(by_block[q], block_sums[q]);
  }

  if (again.empty()) return;
  std::vector<double> rows, marginals, scores(again.size());
  std::vector<long> kept;
  for (const long i : again) {
    rows.insert(rows.end(), queries + i * d_, queries + (i + 1) * d_);
    marginals.insert(marginals.end(), log2_marginal.begin() + i * d_, log2_marginal.begin() + (i + 1) * d_);
    kept.push_back(left_out[i]);
  }
  score_carefully(rows.data(), marginals.data(), static_cast<long>(again.size()), kept.data(), scores.data());
  for (std::size_t q = 0; q < again.size(); q++) out[again[q]] = scores[q];
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
    const double log2_sum = maximum[q] + std::log2(sum[q]) + base[q] - std::log2(weight_without(left_out ? left_out[q] : -1));
    out[q] = maximum[q] <= 0.1 * impossible ? minus_infinity : log2_sum * ln_2;
  }
}

}  // namespace PPAL_FAST_SIMD
}  // namespace ppal_fast
