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
class FlushToZero {
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

template <class T>
class GaussianKde {
 public:
  // references (n, d) row-major, n > 0, finite or NaN; bandwidth (d) of at least 1e-290; weights (n) not negative with
  // a positive sum, or null for equal ones. Everything is copied.
  GaussianKde(const double* references, long n, long d, const double* bandwidth, const double* weights = nullptr,
              const Kernels& kernels = native_kernels());

  // out[i] = log density of row i of queries (m, d). Where left_out is given, the reference left_out[i] counts as
  // absent for row i (a negative number leaves none out). A row without an observed cell has log density 0.
  void log_density(const double* queries, long m, double* out, const long* left_out = nullptr) const;

 private:
  template <class>
  friend class GaussianKde;  // a column asks its density in the other precision

  struct Packed {  // the references as the fast kernels take them
    long depth = 0;
    AlignedArray<T> Y, b;
    double largest_norm = 0;  // max |y'|^2
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
  Packed pack_complete() const;
  Packed pack_masked() const;
  const Packed& masked() const;
  void score_complete(const double* queries, long m, const long* left_out, double* out) const;
  void score_masked(const double* queries, long m, const long* left_out, double* out) const;
  void score_carefully(const double* queries, const double* log2_marginal, long m, const long* left_out,
                       double* out) const;
  void fill_boxes(Column& column, const std::vector<double>& cells) const;
  void score_cells(const Column& column, const std::vector<double>& cells, const std::vector<long>& left_out,
                   std::vector<double>& out) const;
  std::vector<double> log2_marginals(const double* queries, long m, const long* left_out) const;
  void sum_blocks(const Packed& packed, const T* X, const T* a, const long* left_out, long count, double* sums) const;
  void sum_lists(const Packed& packed, const std::vector<std::vector<T>>& coefficients,
                 const std::vector<std::vector<int>>& columns, const std::vector<T>& a, const long* left_out,
                 double* sums) const;
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
