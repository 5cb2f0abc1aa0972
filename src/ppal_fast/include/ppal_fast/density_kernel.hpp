// The arithmetic of the Gaussian kernel density: plain arrays in, plain arrays out, for one instruction set.
//
// Everything is in base-2 logarithms of pre-scaled data x' = (x - c) sqrt(log2 e) / h, in which
//     log2 K(x, y) = -|x' - y'|^2 / 2 = x'.y' - |x'|^2 / 2 - |y'|^2 / 2.
// The fast kernels run the right-hand form as one chain of fused multiply-adds over a block of queries times a
// tile of references held in registers, raise 2 to it and add up; the n x m matrix never exists. A table with
// missing cells has the same form at depth 3d. The careful kernel runs the left-hand form on raw data with a
// running maximum, for the few rows on which the fast form overflows, underflows or cancels.
#pragma once

#include "density_simd.hpp"

namespace ppal_fast {

// The kernels of one precision. T* operands are aligned to 64 bytes and packed as
//   X  [block][depth][rows]    queries       a [query]              subtracted from every exponent of that query
//   Y  [tile][depth][width]    references    b [tile][width]        added to every exponent of that reference
// and what is summed is 2^(sum_k X_k Y_k + b - a). The first two of each of the first `triples` triples of columns go
// by Winograd's product
//     (X_0 + Y_1)(X_1 + Y_0) = X_0 Y_0 + X_1 Y_1 + X_0 X_1 + Y_0 Y_1,
// the last two terms of which are in a and b: one multiply-add and two additions for two multiply-adds, which is
// quicker where additions have ports of their own (S. Winograd 1968, doi:10.1109/TC.1968.227420).
template <class T>
struct KernelSet {
  int rows;   // queries held in registers at a time
  int width;  // references held in registers at a time
  bool pairs;  // whether there may be triples
  // Scale and interleave `count` queries (row-major, d columns); the last block is filled up with the last query.
  // products[i] = sum X_0 X_1 over the triples of query i.
  void (*pack)(const double* queries, long count, long d, long triples, const double* centre, const double* scale, T* X,
               double* squared_norm, double* products);
  // Add the sums over `tiles` tiles to sums[rows]; `single` does it for a block of one query.
  void (*block)(const T* X, const T* a, const T* Y, const T* b, long depth, long triples, long tiles, double* sums);
  void (*single)(const T* X, const T* a, const T* Y, const T* b, long depth, long triples, long tiles, double* sums);
  // One query given by its `count` observed columns: three coefficients a column, on the depth-3d packing of Y.
  void (*listed)(const T* coefficients, const int* columns, long count, T a, const T* Y, const T* b, long depth,
                 long tiles, double* sum);
};

// The base-2 logarithm that stands for "contributes nothing": finite, so that no infinity meets a zero.
constexpr double impossible = -1e305;

// Boxes of a column are one bandwidth wide; 28 moments leave out less than 4e-24 of a box's weight wherever u lies:
// exp(-v^2 / 2) (v / 2)^28 / 28! at its maximum v^2 = 28, and the terms after it.
constexpr int series_terms = 28, series_lanes = 32;

// Bandwidths that share their distances: each is 2^(1/4) below the one before.
constexpr int grid_steps = 25;

struct Kernels {
  const char* name;
  KernelSet<double> f64;
  KernelSet<float> f32;
  // sums[i] = sum_b exp(-v^2 / 2) sum_p v^p moments[b][p] with v = u_i - centres[b]: the sums of Gaussians of a sorted
  // column, box by box. count is a multiple of series_lanes, u and sums are aligned.
  void (*series)(const double* u, long count, const double* centres, const double* moments, long boxes, double* sums);
  // out[q][tiles * width] = the exponents of one block of f64.rows queries.
  void (*exponents)(const double* X, const double* a, const double* Y, const double* b, long depth, long triples,
                    long tiles, double* out);
  // Keeps the maximum and, for each i < grid_steps, sum_j weights_j 2^((t_j - maximum) 2^(i / 2)) of all t seen so far.
  // count is a multiple of the lanes.
  void (*grid)(const double* t, const double* weights, long count, double* maximum, double* sums);
  // One tile (of f64.width references) for one query, on raw data: over the `count` listed columns,
  // t = b + sum_k o_k (gain_k - (scale_k (x_k - y_k))^2 / 2); observed (o) and gain may be null, meaning 1 and 0. Keeps
  // maximum and sum 2^(t - maximum) of all tiles seen so far.
  void (*careful)(const double* x, const double* scale, const double* gain, const int* columns, long count,
                  const double* y, const double* observed, const double* b, double* maximum, double* sum);
};

inline namespace PPAL_FAST_SIMD {

template <class T>
void pack(const double* queries, long count, long d, long triples, const double* centre, const double* scale, T* X,
          double* squared_norm, double* products) {
  constexpr int rows = Lanes<T>::rows;
  for (long first = 0; first < count; first += rows, X += rows * d) {
    const double* source[rows];
    double norm[rows] = {}, product[rows] = {};
    for (int r = 0; r < rows; r++) source[r] = queries + (first + r < count ? first + r : count - 1) * d;
    for (long k = 0; k < d; k++) {
      PPAL_FAST_UNROLL
      for (int r = 0; r < rows; r++) {
        const T x = (T)((source[r][k] - centre[k]) * scale[k]);
        X[k * rows + r] = x;
        norm[r] += (double)x * (double)x;
      }
    }
    for (long k = 0; k < 3 * triples; k += 3) {
      PPAL_FAST_UNROLL
      for (int r = 0; r < rows; r++) product[r] += (double)X[k * rows + r] * (double)X[(k + 1) * rows + r];
    }
    for (int r = 0; r < rows; r++) squared_norm[first + r] = norm[r], products[first + r] = product[r];
  }
}

// acc += X Y of one column.
template <class T, int rows>
PPAL_FAST_INLINE void add_column(const T* x, const T* y, typename Lanes<T>::V (&acc)[rows][Lanes<T>::vectors]) {
  using S = Lanes<T>;
  constexpr int vectors = S::vectors;
  typename S::V yv[vectors];
  PPAL_FAST_UNROLL
  for (int v = 0; v < vectors; v++) yv[v] = S::load(y + v * S::lanes);
  PPAL_FAST_UNROLL
  for (int q = 0; q < rows; q++) {
    const typename S::V xq = S::all(x[q]);
    PPAL_FAST_UNROLL
    for (int v = 0; v < vectors; v++) acc[q][v] = S::fma(xq, yv[v], acc[q][v]);
  }
}

// acc += Winograd's product of two columns.
template <class T, int rows>
PPAL_FAST_INLINE void add_pair(const T* x, const T* y, typename Lanes<T>::V (&acc)[rows][Lanes<T>::vectors]) {
  using S = Lanes<T>;
  constexpr int vectors = S::vectors;
  typename S::V y0[vectors], y1[vectors];
  PPAL_FAST_UNROLL
  for (int v = 0; v < vectors; v++) {
    y0[v] = S::load(y + v * S::lanes);
    y1[v] = S::load(y + (vectors + v) * S::lanes);
  }
  PPAL_FAST_UNROLL
  for (int q = 0; q < rows; q++) {
    const typename S::V x0 = S::all(x[q]), x1 = S::all(x[rows + q]);
    PPAL_FAST_UNROLL
    for (int v = 0; v < vectors; v++) acc[q][v] = S::fma(S::add(x0, y1[v]), S::add(x1, y0[v]), acc[q][v]);
  }
}

// acc = b - a + X Y over one tile: all the multiplications of a block of queries.
template <class T, int rows>
PPAL_FAST_INLINE void fill_tile(const T* x, const T* a, const T* y, const T* b, long depth, long triples,
                                typename Lanes<T>::V (&acc)[rows][Lanes<T>::vectors]) {
  using S = Lanes<T>;
  constexpr int vectors = S::vectors, lanes = S::lanes, width = vectors * lanes;
  PPAL_FAST_UNROLL
  for (int q = 0; q < rows; q++) {
    PPAL_FAST_UNROLL
    for (int v = 0; v < vectors; v++) acc[q][v] = S::sub(S::load(b + v * lanes), S::all(a[q]));
  }
  if constexpr (S::pairs)
    for (long k = 0; k < triples; k++, x += 3 * rows, y += 3 * width) {
      add_pair<T, rows>(x, y, acc);
      add_column<T, rows>(x + 2 * rows, y + 2 * width, acc);
    }
  for (long k = 3 * triples; k < depth; k++, x += rows, y += width) add_column<T, rows>(x, y, acc);
}

template <class T, int rows>
void sum_block(const T* X, const T* a, const T* Y, const T* b, long depth, long triples, long tiles, double* sums) {
  using S = Lanes<T>;
  using V = typename S::V;
  constexpr int vectors = S::vectors, width = vectors * S::lanes;
  V total[rows];
  for (int q = 0; q < rows; q++) total[q] = S::all(0);
  for (long t = 0; t < tiles; t++, Y += depth * width, b += width) {
    asm volatile("" : : : "memory");  // keeps a and the coefficients in memory: registers are few (measured)
    V acc[rows][vectors];
    fill_tile<T, rows>(X, a, Y, b, depth, triples, acc);
    PPAL_FAST_UNROLL
    for (int q = 0; q < rows; q++) total[q] = add_exp2(total[q], acc[q]);
  }
  for (int q = 0; q < rows; q++) sums[q] += horizontal_sum<T>(total[q]);
}

inline void store_exponents(const double* X, const double* a, const double* Y, const double* b, long depth,
                            long triples, long tiles, double* out) {
  using S = Lanes<double>;
  constexpr int rows = S::rows, vectors = S::vectors, width = vectors * S::lanes;
  for (long t = 0; t < tiles; t++, Y += depth * width, b += width) {
    S::V acc[rows][vectors];
    fill_tile<double, rows>(X, a, Y, b, depth, triples, acc);
    for (int q = 0; q < rows; q++)
      for (int v = 0; v < vectors; v++) S::store(out + (q * tiles + t) * width + v * S::lanes, acc[q][v]);
  }
}

// Every second bandwidth squares the kernel of the one before it, so two exponentials serve all of them. Squaring
// doubles the relative error, at most 12 times: 2.1e-16 becomes 1e-12.
inline void sum_grid(const double* t, const double* weights, long count, double* maximum, double* sums) {
  using S = Lanes<double>;
  using V = S::V;
  V highest[4] = {S::all(*maximum), S::all(*maximum), S::all(*maximum), S::all(*maximum)};  // four chains
  for (long j = 0; j < count; j += S::lanes) {
    V& chain = highest[j / S::lanes % 4];
    chain = S::max(chain, S::load(t + j));
  }
  alignas(64) double lane[S::lanes];
  S::store(lane, S::max(S::max(highest[0], highest[1]), S::max(highest[2], highest[3])));
  double top = lane[0];
  for (int l = 1; l < S::lanes; l++) top = lane[l] > top ? lane[l] : top;
  if (top > *maximum) {
    double even = *maximum - top, odd = 1.4142135623730951 * even;
    for (int i = 0; i < grid_steps; i++) {
      double& below = i % 2 ? odd : even;
      S::store(lane, S::exp2(S::max(S::all(below), S::all(-2000.0)), exp2_exact));
      sums[i] *= lane[0];
      below *= 2;
    }
    *maximum = top;
  }
  V total[grid_steps];
  PPAL_FAST_UNROLL_GRID
  for (int i = 0; i < grid_steps; i++) total[i] = S::all(0);
  for (long j = 0; j < count; j += S::lanes) {
    const V below = S::max(S::sub(S::load(t + j), S::all(top)), S::all(-2000.0)), w = S::load(weights + j);
    V even = S::exp2(below, exp2_exact), odd = S::exp2(S::mul(below, S::all(1.4142135623730951)), exp2_exact);
    PPAL_FAST_UNROLL_GRID
    for (int i = 0; i < grid_steps; i++) {
      V& u = i % 2 ? odd : even;
      total[i] = S::fma(u, w, total[i]);
      u = S::mul(u, u);
    }
  }
  for (int i = 0; i < grid_steps; i++) sums[i] += horizontal_sum<double>(total[i]);
}

template <class T>
void sum_listed(const T* coefficients, const int* columns, long count, T a, const T* Y, const T* b, long depth,
                long tiles, double* sum) {
  using S = Lanes<T>;
  using V = typename S::V;
  constexpr int vectors = S::vectors, lanes = S::lanes, width = vectors * lanes;
  V total = S::all(0);
  const V shift = S::all(a);
  for (long t = 0; t < tiles; t++, Y += depth * width, b += width) {
    V acc[vectors];
    PPAL_FAST_UNROLL
    for (int v = 0; v < vectors; v++) acc[v] = S::sub(S::load(b + v * lanes), shift);
    for (long k = 0; k < count; k++) {
      const T* y = Y + 3L * columns[k] * width;
      PPAL_FAST_UNROLL
      for (int z = 0; z < 3; z++) {
        const V x = S::all(coefficients[3 * k + z]);
        PPAL_FAST_UNROLL
        for (int v = 0; v < vectors; v++) acc[v] = S::fma(x, S::load(y + z * width + v * lanes), acc[v]);
      }
    }
    total = add_exp2(total, acc);
  }
  *sum += horizontal_sum<T>(total);
}

inline void careful_tile(const double* x, const double* scale, const double* gain, const int* columns, long count,
                         const double* y, const double* observed, const double* b, double* maximum, double* sum) {
  using S = Lanes<double>;
  using V = S::V;
  constexpr int vectors = S::vectors, lanes = S::lanes, width = vectors * lanes;
  V acc[vectors];
  for (int v = 0; v < vectors; v++) acc[v] = S::load(b + v * lanes);
  for (long k = 0; k < count; k++) {
    const long column = columns[k];
    const V xk = S::all(x[column]), half = S::all(-0.5), sk = S::all(scale[column]);
    const V gk = S::all(gain ? gain[column] : 0.0);
    for (int v = 0; v < vectors; v++) {
      const V difference = S::mul(S::sub(xk, S::load(y + column * width + v * lanes)), sk);
      V t = S::max(S::fma(S::mul(difference, half), difference, gk), S::all(impossible));
      if (observed) t = S::mul(t, S::load(observed + column * width + v * lanes));
      acc[v] = S::add(acc[v], t);
    }
  }
  alignas(64) double t[width];
  for (int v = 0; v < vectors; v++) S::store(t + v * lanes, acc[v]);
  double top = *maximum;
  for (int j = 0; j < width; j++) top = t[j] > top ? t[j] : top;
  if (top > *maximum) {
    alignas(64) double rescale[lanes];
    S::store(rescale, S::exp2(S::max(S::all(*maximum - top), S::all(-2000.0)), exp2_exact));
    *sum *= rescale[0];
    *maximum = top;
  }
  V total = S::all(0);
  for (int v = 0; v < vectors; v++)
    total = S::add(total, S::exp2(S::max(S::sub(acc[v], S::all(top)), S::all(-2000.0)), exp2_exact));
  *sum += horizontal_sum<double>(total);
}

inline void sum_series(const double* u, long count, const double* centres, const double* moments, long boxes,
                       double* sums) {
  using S = Lanes<double>;
  using V = S::V;
  constexpr int vectors = 4, width = vectors * S::lanes;
  const V far = S::all(38.0), minus_far = S::all(-38.0);  // exp(-38^2 / 2) is zero in float64
  const V half_log2_e = S::all(-0.72134752044448170368);
  for (long first = 0; first < count; first += width) {
    V x[vectors], sum[vectors];
    for (int v = 0; v < vectors; v++) {
      x[v] = S::load(u + first + v * S::lanes);
      sum[v] = S::all(0);
    }
    for (long b = 0; b < boxes; b++) {
      const double* moment = moments + b * series_terms;
      V offset[vectors], p[vectors];
      PPAL_FAST_UNROLL
      for (int v = 0; v < vectors; v++) {
        offset[v] = S::min(S::max(S::sub(x[v], S::all(centres[b])), minus_far), far);
        p[v] = S::all(moment[series_terms - 1]);
      }
      for (int k = series_terms - 2; k >= 0; k--) {
        const V m = S::all(moment[k]);
        PPAL_FAST_UNROLL
        for (int v = 0; v < vectors; v++) p[v] = S::fma(p[v], offset[v], m);
      }
      PPAL_FAST_UNROLL
      for (int v = 0; v < vectors; v++) {
        const V t = S::mul(S::mul(offset[v], offset[v]), half_log2_e);
        sum[v] = S::fma(S::exp2(t, exp2_exact), p[v], sum[v]);
      }
    }
    for (int v = 0; v < vectors; v++) S::store(sums + first + v * S::lanes, sum[v]);
  }
}

template <class T>
constexpr KernelSet<T> kernel_set() {
  return {Lanes<T>::rows, Lanes<T>::vectors * Lanes<T>::lanes, Lanes<T>::pairs, &pack<T>, &sum_block<T, Lanes<T>::rows>,
          &sum_block<T, 1>, &sum_listed<T>};
}

// The kernels for the instruction set that this file is compiled for.
constexpr Kernels native_kernels() {
  return {PPAL_FAST_SIMD_NAME, kernel_set<double>(), kernel_set<float>(), &sum_series,
          &store_exponents,    &sum_grid,            &careful_tile};
}

}  // namespace PPAL_FAST_SIMD
}  // namespace ppal_fast
