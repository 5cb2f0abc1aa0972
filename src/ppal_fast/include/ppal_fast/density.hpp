// Gaussian kernel density with exact tails and missing cells, for C++ programs. No Python, no dependencies.
//
//     #include <ppal_fast/density.hpp>
//     ppal_fast::GaussianKde<double> kde(references, n, d, bandwidth);   // row-major, NaN is a missing cell
//     kde.log_density(queries, m, log_density);                          // natural logarithms
//
// GaussianKde<double> is right to 1e-9 against a float64 log-sum-exp; GaussianKde<float> runs its sums in float32 and
// redoes in float64 the rows on which those underflow or cancel. Queries may be scored from many threads at once.
// The instruction set is that of the compiler's flags unless other kernels are handed over.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <algorithm>
#include <vector>

#include "density_kernel.hpp"
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace ppal_fast {
inline namespace PPAL_FAST_SIMD {

// Denormal numbers count as zero while this lives; they would slow float32 exponentials down several times.
class [[maybe_unused]] FlushToZero {
 public:
#if defined(__SSE2__)
  FlushToZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~FlushToZero() { _mm_setcsr(before_); }
  FlushToZero(const FlushToZero&) = delete;
  FlushToZero& operator=(const FlushToZero&) = delete;

 private:
  unsigned before_;
#endif
};

// Zeroed memory aligned for the widest registers.
template <class T>
class AlignedArray {
 public:
  explicit AlignedArray(std::size_t size = 0) {
    if (size == 0) return;
    const std::size_t bytes = (size * sizeof(T) + 63) / 64 * 64;
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, bytes) != 0) throw std::bad_alloc();
    data_.reset(static_cast<T*>(memory));
    std::fill_n(data_.get(), size, T(0));
  }
  T* get() { return data_.get(); }
  const T* get() const { return data_.get(); }
  T& operator[](std::size_t i) { return data_.get()[i]; }
  const T& operator[](std::size_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
};

// Runs part(0), ..., part(count - 1) in any order, at once or not; empty: one after another.
using Threads = std::function<void(long count, const std::function<void(long)>& part)>;

template <class T>
class GaussianKde {
 public:
  // references (n, d) row-major, n > 0, finite or NaN; bandwidth (d) of at least 1e-290; weights (n) not negative with
  // a positive sum, or null for equal ones. Everything is copied. `like` is a density with the same bandwidth that
  // prepared queries can be shared with; `prunable` lays the references out for pruning_order.
  GaussianKde(const double* references, long n, long d, const double* bandwidth, const double* weights = nullptr,
              const Kernels& kernels = native_kernels(), const GaussianKde* like = nullptr, bool prunable = false);

  // out[i] = log density of row i of queries (m, d). Where left_out is given, the reference left_out[i] counts as
  // absent for row i (a negative number leaves none out). A row without an observed cell has log density 0.
  // `threads` runs the parts into which the references of few queries are split; the result does not depend on it.
  // With rtol > 0, references far from a block of queries may be passed over: the result is too low by at most rtol.
  void log_density(const double* queries, long m, double* out, const long* left_out = nullptr,
                   const Threads& threads = {}, double rtol = 0) const;

  // The same less the log density under another set of references; queries are scaled and packed once for both where
  // the densities were made alike and nothing is missing. NaN where both densities vanish.
  void log_ratio(const GaussianKde& denominator, const double* queries, long m, double* out,
                 const long* left_out = nullptr, const Threads& threads = {}) const;

  // An order of the queries in which neighbours are near each other, for log_density with this rtol; empty where a
  // probe of a few queries says that passing references over would not pay.
  std::vector<long> pruning_order(const double* queries, long m, double rtol) const;

  // out[i] = sum_q share_q log p(query q without left_out[q]) under the bandwidths 2^(-i/4) times that of this density,
  // i < grid_steps. Complete references and queries only.
  void likelihood_grid(const double* queries, long m, const long* left_out, const double* share, double* out) const;

  const std::vector<double>& references() const { return references_; }

 private:
  template <class>
  friend class GaussianKde;  // a column asks its density in the other precision

  struct Packed {  // the references as the fast kernels take them
    long depth = 0, triples = 0;  // columns, and triples of them of which two go by Winograd's product
    AlignedArray<T> Y, b;
    double largest_norm = 0;     // max |y'|^2
    std::vector<long> position;  // where each reference is; empty: in the order given
    std::vector<double> low, high;  // (d, groups) the box of each group of tiles; empty: not laid out for pruning
  };
  struct Prepared {  // queries as the kernels take them
    AlignedArray<T> X, a;
    std::vector<double> norm, constant;  // |x'|^2; |x'|^2 / 2 + sum X_0 X_1 over the triples
  };
  struct Query {
    double shift = 0;  // log2 sum_i 2^t_i = log2(the kernel's sum) + shift
    double norm = 0;   // |x'|^2
    double gain = 0;   // upper limit of t: sum of the positive gains, 0 without missing cells
    double slack = 0;  // sum of |gain|
    long terms = 0;    // length of the chain of multiply-adds
  };
  struct Column {  // a column with missing reference cells
    std::vector<long> rows;                        // that have it
    std::unique_ptr<GaussianKde<double>> density;  // p_j, reference by reference
    std::vector<double> centres, moments;          // p_j, box by box; empty where boxes would not pay
  };

  const KernelSet<T>& set() const;
  Packed pack_complete(bool prunable) const;
  bool pairs_hold(std::vector<double> norm) const;
  static double rounding(long terms);
  Packed pack_masked() const;
  const Packed& masked() const;
  Prepared prepare(const double* queries, long m) const;
  void score_prepared(const Prepared& prepared, const double* queries, long m, const long* left_out,
                      const Threads& threads, double rtol, double* out) const;
  void score_block(const double* queries, long m, const long* left_out, const Threads& threads, double rtol,
                   double* out) const;
  double shift_of(const Prepared& prepared, long i) const;
  void find_boxes(Packed& packed) const;
  void score_masked(const double* queries, long m, const long* left_out, const Threads& threads, double* out) const;
  void score_carefully(const double* queries, const double* log2_marginal, long m, const long* left_out,
                       double* out) const;
  void fill_boxes(Column& column, const std::vector<double>& cells) const;
  void score_cells(const Column& column, const std::vector<double>& cells, const std::vector<long>& left_out,
                   const Threads& threads, std::vector<double>& out) const;
  std::vector<double> log2_marginals(const double* queries, long m, const long* left_out, const Threads& threads) const;
  void sum_blocks(const Packed& packed, const T* X, const T* a, const long* left_out, long count, long first_tile,
                  long last_tile, double* sums) const;
  void sum_one_block(const Packed& packed, const T* X, const T* a, const long* left_out, long valid, long begin,
                     long end, double* sums) const;
  template <class SumTiles>
  void sum_in_parts(long count, const Threads& threads, double* sums, const SumTiles& sum_tiles) const;
  long sum_near(const Prepared& prepared, const long* left_out, long first, long valid, double rtol, double* sums,
                std::vector<double>& squared) const;
  void sum_lists(const Packed& packed, const std::vector<std::vector<T>>& coefficients,
                 const std::vector<std::vector<int>>& columns, const std::vector<T>& a, const long* left_out,
                 long first_tile, long last_tile, double* sums) const;
  void patched_tile(const Packed& packed, long left_out, T* b) const;
  double weight_without(long left_out) const;
  double in_bandwidths(double cell) const;
  bool trusted(double sum, const Query& query, const Packed& packed) const;

  Kernels kernels_;
  long n_, d_;
  std::vector<double> references_;                // (n, d), for the careful kernel
  std::vector<double> weights_, before_, after_;  // relative to the largest; sums over the rows before and after
  std::vector<double> centre_, scale_;            // x' = (x - centre) scale
  std::vector<double> log2_peak_;                 // (d) -log2(h sqrt(2 pi))
  std::vector<Column> columns_;                   // (d) .density is null where no or every reference cell is missing
  std::vector<bool> unusable_;                    // (d) no reference has the column
  bool complete_ = true;                          // no reference cell is missing
  Packed packed_;
  mutable Packed masked_;
  mutable std::once_flag masked_once_;
};

}  // namespace PPAL_FAST_SIMD
}  // namespace ppal_fast

#include "density_impl.hpp"
#include "density_missing.hpp"
#include "density_pruning.hpp"
#include "density_grid.hpp"
