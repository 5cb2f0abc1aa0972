// Leave-one-out likelihoods under bandwidths that share their distances. Included by density.hpp alone.
#pragma once

namespace ppal_fast {
inline namespace PPAL_FAST_SIMD {

// Exponents of a block of queries and a few tiles lie in the cache between the two kernels.
template <class T>
void GaussianKde<T>::likelihood_grid(const double* queries, long m, const long* left_out, const double* share,
                                     double* out) const {
  static_assert(sizeof(T) == sizeof(double), "squaring needs float64");
  const FlushToZero flush;
  const KernelSet<double>& doubles = kernels_.f64;
  const long width = doubles.width, rows = doubles.rows, tiles = (n_ + width - 1) / width, step = 8;
  AlignedArray<double> b(tiles * width), weights(tiles * width), t(rows * step * width), X(rows * d_), a(rows);
  for (long i = 0; i < tiles * width; i++) {  // weights apart: they must not be squared with the kernels
    const double weight = i >= n_ ? 0 : weights_.empty() ? 1 : weights_[i];
    weights[i] = weight;
    b[i] = weight > 0 && weight < 1 ? packed_.b[i] - std::max(absent, std::log2(weight)) : packed_.b[i];
  }
  double log2_peak = 0;
  for (const double peak : log2_peak_) log2_peak += peak;
  std::fill_n(out, grid_steps, 0.0);
  for (long first = 0; first < m; first += rows) {
    const long valid = std::min(rows, m - first);
    std::vector<double> norm(rows), products(rows), top(rows, impossible), sums(rows * grid_steps, 0.0);
    doubles.pack(queries + first * d_, valid, d_, packed_.triples, centre_.data(), scale_.data(), X.get(), norm.data(),
                 products.data());
    for (long r = 0; r < rows; r++) a[r] = 0.5 * norm[r] + products[r];
    for (long begin = 0; begin < tiles; begin += step) {
      const long end = std::min(tiles, begin + step), count = (end - begin) * width;
      kernels_.exponents(X.get(), a.get(), packed_.Y.get() + begin * d_ * width, b.get() + begin * width, d_,
                         packed_.triples, end - begin, t.get());
      for (long r = 0; r < valid; r++) {
        const long own = left_out[first + r] - begin * width;
        if (own >= 0 && own < count) t[r * count + own] = absent;
        kernels_.grid(t.get() + r * count, weights.get() + begin * width, count, &top[r], &sums[r * grid_steps]);
      }
    }
    for (long r = 0; r < valid; r++) {
      const double log2_weight = std::log2(weight_without(left_out[first + r]));
      for (int i = 0; i < grid_steps; i++) {
        const double log2_density = top[r] * std::exp2(0.5 * i) + std::log2(sums[r * grid_steps + i]) - log2_weight +
                                    log2_peak + 0.25 * i * static_cast<double>(d_);
        out[i] += share[first + r] * log2_density * ln_2;
      }
    }
  }
}

}  // namespace PPAL_FAST_SIMD
}  // namespace ppal_fast
