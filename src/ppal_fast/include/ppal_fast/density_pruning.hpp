// Passing over references that are too far from a block of queries to matter, within a relative tolerance: boxes around
// groups of references and around blocks of queries, and the probe that says whether it pays. Included by density.hpp
// alone.
//
// Let K be what a query's sum S loses. Every kernel of a group is at most 2^(-distance^2 / 2), the distance being that
// of the two boxes, and a group is passed over only where n times that is at most rtol / (1 + rtol) times the sum over
// the groups nearest to the block, itself a part of S. So K <= S rtol / (1 + rtol), and the logarithm is too low by at
// most log(1 + rtol) <= rtol.
// Rounding is on the safe side: see sum_near.
#pragma once

namespace ppal_fast {
inline namespace PPAL_FAST_SIMD {

constexpr long groups_first = 2;
constexpr long fewest_groups = 16, fewest_queries = 48;  // below, what is spared does not pay for the boxes
constexpr int probes = 4;
constexpr double pays_below = 0.45;  // share of the pairs that remain; order, boxes and short runs cost too (measured)

// Rows in an order in which runs of `leaf` lie near each other: halved at whole leaves across the widest column.
inline std::vector<long> spatial_order(const double* rows, long n, long d, const double* scale, long leaf) {
  std::vector<long> order(n);
  for (long i = 0; i < n; i++) order[i] = i;
  std::vector<std::pair<long, long>> open{{0, n}};
  while (!open.empty()) {
    const auto [begin, end] = open.back();
    open.pop_back();
    if (end - begin <= leaf) continue;
    long widest = 0;
    double width = -1;
    for (long k = 0; k < d; k++) {
      double low = rows[order[begin] * d + k], high = low;
      for (long i = begin + 1; i < end; i++) {
        low = std::min(low, rows[order[i] * d + k]);
        high = std::max(high, rows[order[i] * d + k]);
      }
      if ((high - low) * scale[k] > width) width = (high - low) * scale[k], widest = k;
    }
    const long middle = begin + (end - begin + 2 * leaf - 1) / (2 * leaf) * leaf;
    // ties by number: the order is the same everywhere
    std::nth_element(order.begin() + begin, order.begin() + middle, order.begin() + end, [&](long i, long j) {
      const double a = rows[i * d + widest], b = rows[j * d + widest];
      return a < b || (a == b && i < j);
    });
    open.push_back({begin, middle});
    open.push_back({middle, end});
  }
  return order;
}

// Boxes of the references as the kernel sees them, that is rounded to T.
template <class T>
void GaussianKde<T>::find_boxes(Packed& packed) const {
  const long width = set().width, in_group = tiles_a_group * width, groups = (n_ + in_group - 1) / in_group;
  if (groups < fewest_groups) return;
  packed.low.assign(d_ * groups, std::numeric_limits<double>::infinity());
  packed.high.assign(d_ * groups, minus_infinity);
  for (long i = 0; i < n_; i++)
    for (long k = 0; k < d_; k++) {
      const double y = static_cast<double>(packed.Y[(i / width * d_ + k) * width + i % width]);
      double &low = packed.low[k * groups + i / in_group], &high = packed.high[k * groups + i / in_group];
      low = std::min(low, y);
      high = std::max(high, y);
    }
}

// Add the kernels of the groups that count to the sums of one block of queries; returns how many groups those are.
//
// Rounding: distances are of numbers rounded to T, so each may be off by `fuzz`; the squares and their sum are off by
// less than (d + 4) 2^-52 of themselves; the sum over the nearest groups is off by less than 2 % where `trusted` lets
// the row's result pass, and a row that it does not let pass is computed again from all references.
template <class T>
long GaussianKde<T>::sum_near(const Prepared& prepared, const long* left_out, long first, long valid, double rtol,
                              double* sums, std::vector<double>& squared) const {
  const long width = set().width, block_rows = set().rows, tiles = (n_ + width - 1) / width;
  const long groups = static_cast<long>(packed_.low.size()) / d_;
  const T* X = prepared.X.get() + first * d_;
  squared.assign(groups, 0.0);
  double largest = 0;
  for (long r = 0; r < valid; r++) largest = std::max(largest, prepared.norm[first + r]);
  for (long k = 0; k < d_; k++) {
    double low = static_cast<double>(X[k * block_rows]), high = low;
    for (long r = 1; r < valid; r++) {
      low = std::min(low, static_cast<double>(X[k * block_rows + r]));
      high = std::max(high, static_cast<double>(X[k * block_rows + r]));
    }
    const double *group_low = packed_.low.data() + k * groups, *group_high = packed_.high.data() + k * groups;
    double* out = squared.data();
    for (long g = 0; g < groups; g++) {
      const double below = group_low[g] - high, above = low - group_high[g];
      const double apart = std::max(0.0, std::max(below, above));
      out[g] += apart * apart;
    }
  }
  const auto run = [&](long from, long to) {
    sum_one_block(packed_, X, prepared.a.get() + first, left_out ? left_out + first : nullptr, valid,
                  from * tiles_a_group, std::min(tiles, to * tiles_a_group), sums + first);
  };
  for (long i = 0; i < groups_first; i++) {
    const long g = std::min_element(squared.begin(), squared.end()) - squared.begin();
    run(g, g + 1);
    squared[g] = std::numeric_limits<double>::infinity();  // done
  }
  double log2_sum = std::numeric_limits<double>::infinity();  // the smallest of the block
  for (long i = first; i < first + valid; i++)
    log2_sum = std::min(log2_sum, sums[i] > 0 ? std::log2(0.98 * sums[i]) + shift_of(prepared, i) : minus_infinity);
  const double fuzz = 8 * Precision<T>::unit * (std::sqrt(largest) + std::sqrt(packed_.largest_norm));
  const double all_over_allowed = static_cast<double>(n_) * (1 + rtol) / rtol;
  const double reach = std::sqrt(std::max(0.0, 2 * (std::log2(all_over_allowed) - log2_sum)));
  const double limit = (reach + fuzz) * (reach + fuzz) / (1 - static_cast<double>(d_ + 4) * 0x1p-52);
  long used = groups_first;
  for (long g = 0; g < groups; g++) {
    const long begin = g;
    while (g < groups && squared[g] < limit) g++;
    if (g > begin) run(begin, g);
    used += g - begin;
  }
  return used;
}

template <class T>
std::vector<long> GaussianKde<T>::pruning_order(const double* queries, long m, double rtol) const {
  if (packed_.low.empty() || m < fewest_queries || any_missing(queries, m * d_)) return {};
  const FlushToZero flush;
  const long rows = set().rows, groups = static_cast<long>(packed_.low.size()) / d_;
  std::vector<double> block(rows * d_), squared;
  // the share of the groups that is used by the block of queries which starts at row(i, 0)
  const auto share = [&](const auto& row) {
    long used = 0;
    for (int i = 0; i < probes; i++) {
      for (long r = 0; r < rows; r++) std::copy_n(queries + row(i, r) * d_, d_, block.data() + r * d_);
      std::vector<double> sums(rows, 0.0);
      used += sum_near(prepare(block.data(), rows), nullptr, 0, rows, rtol, sums.data(), squared);
    }
    return static_cast<double>(used) / static_cast<double>(probes * groups);
  };
  // a block of equal queries is the best case and needs no order; what it promises must hold for real blocks too
  if (share([&](int i, long) { return (2 * i + 1) * m / (2 * probes); }) > pays_below) return {};
  std::vector<long> order = spatial_order(queries, m, d_, scale_.data(), rows);
  const long blocks = m / rows;
  const auto in_order = [&](int i, long r) { return order[(2 * i + 1) * blocks / (2 * probes) * rows + r]; };
  if (share(in_order) > pays_below) return {};
  return order;
}

}  // namespace PPAL_FAST_SIMD
}  // namespace ppal_fast
