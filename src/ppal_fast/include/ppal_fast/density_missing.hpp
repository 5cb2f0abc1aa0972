// The part of GaussianKde that missing cells need: the depth-3d packing, lists of observed columns, and the densities
// p_j of single columns. Included by density.hpp alone.
#pragma once

namespace ppal_fast {
inline namespace PPAL_FAST_SIMD {

// Three rows a column: observed, observed y', -observed y'^2 / 2.
template <class T>
typename GaussianKde<T>::Packed GaussianKde<T>::pack_masked() const {
  const long width = set().width, tiles = (n_ + width - 1) / width;
  Packed packed{3 * d_, 0, AlignedArray<T>(tiles * 3 * d_ * width), AlignedArray<T>(tiles * width), 0, {}, {}, {}};
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

template <class T>
void GaussianKde<T>::sum_lists(const Packed& packed, const std::vector<std::vector<T>>& coefficients,
                               const std::vector<std::vector<int>>& columns, const std::vector<T>& a,
                               const long* left_out, long first_tile, long last_tile, double* sums) const {
  const long width = set().width, depth = packed.depth;
  const long step = std::max<long>(1, (32L << 10) / static_cast<long>(depth * width * sizeof(T)));
  AlignedArray<T> patched(width);
  for (long begin = first_tile; begin < last_tile; begin += step) {
    const long end = std::min(last_tile, begin + step);
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

// A cell of the only column, in bandwidths from its centre.
template <class T>
double GaussianKde<T>::in_bandwidths(double cell) const {
  return (cell - centre_[0]) * scale_[0] / std::sqrt(log2_e);
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
                                 const std::vector<long>& left_out, const Threads& threads,
                                 std::vector<double>& out) const {
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
  density.log_density(again.data(), static_cast<long>(again.size()), scores.data(), kept.data(), threads);
  for (std::size_t i = 0; i < rows.size(); i++) out[rows[i]] = scores[i];
}

// (m, d) log2 p_j(x_j); NaN where the cell is missing or no reference (but the one left out) has the column. A column
// that every reference has needs no p_j: the peak of its kernel stands in, which makes the gain zero.
template <class T>
std::vector<double> GaussianKde<T>::log2_marginals(const double* queries, long m, const long* left_out,
                                                   const Threads& threads) const {
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
    score_cells(column, cells, kept, threads, scores);
    for (std::size_t i = 0; i < rows.size(); i++) log2_marginal[rows[i] * d_ + k] = scores[i] * log2_e;
  }
  return log2_marginal;
}

template <class T>
void GaussianKde<T>::score_masked(const double* queries, long m, const long* left_out, const Threads& threads,
                                  double* out) const {
  const Packed& packed = masked();
  const std::vector<double> log2_marginal = log2_marginals(queries, m, left_out, threads);
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
    sum_in_parts(static_cast<long>(by_list.size()), threads, list_sums.data(),
                 [&](long first_tile, long last_tile, double* of_part) {
                   sum_lists(packed, list_coefficients, list_columns, list_a, kept.data(), first_tile, last_tile, of_part);
                 });
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
    sum_in_parts(count, threads, block_sums.data(), [&](long first_tile, long last_tile, double* of_part) {
      sum_blocks(packed, X.get(), block_a.get(), kept.data(), count, first_tile, last_tile, of_part);
    });
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

}  // namespace PPAL_FAST_SIMD
}  // namespace ppal_fast
