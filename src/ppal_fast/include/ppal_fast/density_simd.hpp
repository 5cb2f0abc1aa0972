// One vector register of each precision, and 2^t in it, for the instruction set that this file is compiled for.
//
// Every name, here and in density_kernel.hpp, lies in a namespace of that set: two builds can be linked into one program
// and the linker can never take a function of one for the other. That is also why neither uses the C++ library.
#pragma once

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
#define PPAL_FAST_SIMD simd_avx512
#define PPAL_FAST_SIMD_NAME "avx512"
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define PPAL_FAST_SIMD simd_avx2
#define PPAL_FAST_SIMD_NAME "avx2"
#else
#define PPAL_FAST_SIMD simd_baseline
#define PPAL_FAST_SIMD_NAME "baseline"
#endif

#if defined(__GNUC__) && !defined(__clang__)
#define PPAL_FAST_UNROLL _Pragma("GCC unroll 8")
#define PPAL_FAST_UNROLL_GRID _Pragma("GCC unroll 25")
#else
#define PPAL_FAST_UNROLL _Pragma("unroll")
#define PPAL_FAST_UNROLL_GRID _Pragma("unroll")
#endif
#define PPAL_FAST_INLINE inline __attribute__((always_inline))  // registers cannot be handed over in a call

namespace ppal_fast {
inline namespace PPAL_FAST_SIMD {

// 2^f on one unit interval by the minimax polynomial of relative error (Remez): 4.0e-11 at degree 7, 7.5e-8 at degree 5
// for the fast kernels; 2.1e-16 at degree 10 for the others.
#if defined(__AVX512F__) && defined(__AVX512DQ__)
// on [0, 1), for instructions that take the floor; the fast kernel in float64 looks eighths up in a register, which
// leaves [0, 1/8): 7.9e-11 at degree 4
constexpr double exp2_in_eighth[5] = {1.000000000079468643, 0.6931471483664980327, 0.240228582176313098,
                                      0.05545748985352547639, 0.01004317466842718346};
alignas(64) constexpr double exp2_of_eighths[8] = {1.0,
                                                   1.0905077326652576592,
                                                   1.1892071150027210667,
                                                   1.2968395546510096659,
                                                   1.4142135623730950488,
                                                   1.5422108254079408236,
                                                   1.6817928305074290861,
                                                   1.8340080864093424635};
constexpr double exp2_exact[11] = {1.000000000000000211,     0.693147180559891271,     0.2402265069613608358,
                                   0.05550410862824452822,   0.00961812940917762816,   0.001333354373088199915,
                                   0.0001540395749235675935, 0.00001524465963144262702, 1.331272018943449996e-6,
                                   9.460944679437102341e-8,  9.952216154360768651e-9};
constexpr float exp2_float[6] = {0.9999999250637599349f, 0.6931530732070962291f, 0.2401536169827235783f,
                                 0.05582631823168337682f, 0.008989339876598735766f, 0.001877576765658014964f};
#else
// on [-1/2, 1/2], for rounding by a large constant
constexpr double exp2_double[8] = {0.9999999999616817594, 0.6931471807284445731, 0.2402265119815788942,
                                   0.05550410353456923501, 0.009618027253643810689, 0.001333392255629435137,
                                   0.000154692911488946333, 0.00001520192322788691706};
constexpr double exp2_exact[11] = {1.000000000000000066,     0.6931471805599497751,    0.240226506959087678,
                                   0.05550410866445883319,   0.009618129108034588692,  0.001333355822856147553,
                                   0.0001540352996113595545, 0.00001525265811656138433, 1.321566283184610283e-6,
                                   1.02085379045521639e-7,   7.03727953058280352e-9};
constexpr float exp2_float[6] = {1.000000071654714145f, 0.6931469670650352143f, 0.2402211972371071963f,
                                 0.05550713271855644202f, 0.00967554134312132739f, 0.001327647263195087605f};
#endif

// Lanes<T>: one vector register of T. rows x vectors accumulators are what the register file holds; pairs: whether
// Winograd's product (density_kernel.hpp) can pay: neither without fused multiply-adds nor in float32, whose error it
// would double.
// exp2 takes the coefficients of its polynomial; below 2^-1021 (float: 2^-125) it may return that instead.
template <class T>
struct Lanes;

#if defined(__AVX512F__) && defined(__AVX512DQ__)

template <>
struct Lanes<double> {
  using V = __m512d;
  static constexpr int lanes = 8, rows = 6, vectors = 3;
  static constexpr bool pairs = true;
  static V load(const double* p) { return _mm512_load_pd(p); }
  static void store(double* p, V v) { _mm512_store_pd(p, v); }
  static V all(double a) { return _mm512_set1_pd(a); }
  static V add(V a, V b) { return _mm512_add_pd(a, b); }
  static V sub(V a, V b) { return _mm512_sub_pd(a, b); }
  static V mul(V a, V b) { return _mm512_mul_pd(a, b); }
  static V fma(V a, V b, V c) { return _mm512_fmadd_pd(a, b, c); }
  static V max(V a, V b) { return _mm512_max_pd(a, b); }
  static V min(V a, V b) { return _mm512_min_pd(a, b); }
  template <int terms>
  static V exp2(V t, const double (&coefficients)[terms]) {
    const V f = _mm512_reduce_pd(t, 1);  // t - floor(t)
    V p = all(coefficients[terms - 1]);
    PPAL_FAST_UNROLL
    for (int i = terms - 2; i >= 0; i--) p = fma(p, f, all(coefficients[i]));
    return _mm512_scalef_pd(p, t);  // p 2^floor(t)
  }
  // t - e and 2^e for e = floor(8 t) / 8
  static V after_eighths(V t) { return _mm512_reduce_pd(t, 3 << 4 | 1); }
  static V exp2_eighths(V t) {
    const V low_bits = _mm512_add_round_pd(t, all(0x1.8p49), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // floor(8 t)
    const V power = _mm512_permutexvar_pd(_mm512_castpd_si512(low_bits), load(exp2_of_eighths));
    return _mm512_scalef_pd(power, t);
  }
};

template <>
struct Lanes<float> {
  using V = __m512;
  static constexpr int lanes = 16, rows = 6, vectors = 4;
  static constexpr bool pairs = false;
  static V load(const float* p) { return _mm512_load_ps(p); }
  static void store(float* p, V v) { _mm512_store_ps(p, v); }
  static V all(float a) { return _mm512_set1_ps(a); }
  static V add(V a, V b) { return _mm512_add_ps(a, b); }
  static V sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  template <int terms>
  static V exp2(V t, const float (&coefficients)[terms]) {
    const V f = _mm512_reduce_ps(t, 1);
    V p = all(coefficients[terms - 1]);
    PPAL_FAST_UNROLL
    for (int i = terms - 2; i >= 0; i--) p = fma(p, f, all(coefficients[i]));
    return _mm512_scalef_ps(p, t);
  }
};

#else

// Rounding by a large constant: t + big holds round(t) in its low bits, which are moved into the exponent of p.
#if defined(__AVX2__) && defined(__FMA__)

template <>
struct Lanes<double> {
  using V = __m256d;
  static constexpr int lanes = 4, rows = 4, vectors = 2;
  static constexpr bool pairs = true;
  static V load(const double* p) { return _mm256_load_pd(p); }
  static void store(double* p, V v) { _mm256_store_pd(p, v); }
  static V all(double a) { return _mm256_set1_pd(a); }
  static V add(V a, V b) { return _mm256_add_pd(a, b); }
  static V sub(V a, V b) { return _mm256_sub_pd(a, b); }
  static V mul(V a, V b) { return _mm256_mul_pd(a, b); }
  static V fma(V a, V b, V c) { return _mm256_fmadd_pd(a, b, c); }
  static V max(V a, V b) { return _mm256_max_pd(a, b); }
  static V min(V a, V b) { return _mm256_min_pd(a, b); }
  static V add_exponent(V p, V r) {
    return _mm256_castsi256_pd(
        _mm256_add_epi64(_mm256_castpd_si256(p), _mm256_slli_epi64(_mm256_castpd_si256(r), 52)));
  }
  template <int terms>
  static V exp2(V t, const double (&coefficients)[terms]);
};

template <>
struct Lanes<float> {
  using V = __m256;
  static constexpr int lanes = 8, rows = 4, vectors = 2;
  static constexpr bool pairs = false;
  static V load(const float* p) { return _mm256_load_ps(p); }
  static void store(float* p, V v) { _mm256_store_ps(p, v); }
  static V all(float a) { return _mm256_set1_ps(a); }
  static V add(V a, V b) { return _mm256_add_ps(a, b); }
  static V sub(V a, V b) { return _mm256_sub_ps(a, b); }
  static V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  static V max(V a, V b) { return _mm256_max_ps(a, b); }
  static V add_exponent(V p, V r) {
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(r), 23)));
  }
  template <int terms>
  static V exp2(V t, const float (&coefficients)[terms]);
};

#else

template <>
struct Lanes<double> {
  typedef double V __attribute__((vector_size(16)));
  typedef long long I __attribute__((vector_size(16)));
  static constexpr int lanes = 2, rows = 4, vectors = 2;
  static constexpr bool pairs = false;
  static V load(const double* p) { return *reinterpret_cast<const V*>(p); }
  static void store(double* p, V v) { *reinterpret_cast<V*>(p) = v; }
  static V all(double a) { return V{a, a}; }
  static V add(V a, V b) { return a + b; }
  static V sub(V a, V b) { return a - b; }
  static V mul(V a, V b) { return a * b; }
  static V fma(V a, V b, V c) { return a * b + c; }
  static V min(V a, V b) { return a < b ? a : b; }
  static V max(V a, V b) { return a > b ? a : b; }
  static V add_exponent(V p, V r) { return (V)((I)p + ((I)r << 52)); }
  template <int terms>
  static V exp2(V t, const double (&coefficients)[terms]);
};

template <>
struct Lanes<float> {
  typedef float V __attribute__((vector_size(16)));
  typedef int I __attribute__((vector_size(16)));
  static constexpr int lanes = 4, rows = 4, vectors = 2;
  static constexpr bool pairs = false;
  static V load(const float* p) { return *reinterpret_cast<const V*>(p); }
  static void store(float* p, V v) { *reinterpret_cast<V*>(p) = v; }
  static V all(float a) { return V{a, a, a, a}; }
  static V add(V a, V b) { return a + b; }
  static V sub(V a, V b) { return a - b; }
  static V fma(V a, V b, V c) { return a * b + c; }
  static V max(V a, V b) { return a > b ? a : b; }
  static V add_exponent(V p, V r) { return (V)((I)p + ((I)r << 23)); }
  template <int terms>
  static V exp2(V t, const float (&coefficients)[terms]);
};

#endif

template <int terms>
inline Lanes<double>::V Lanes<double>::exp2(V t, const double (&coefficients)[terms]) {
  t = max(t, all(-1021.0));
  const V big = all(6755399441055744.0);  // 1.5 x 2^52
  const V r = add(t, big), f = sub(t, sub(r, big));
  V p = all(coefficients[terms - 1]);
  PPAL_FAST_UNROLL
  for (int i = terms - 2; i >= 0; i--) p = fma(p, f, all(coefficients[i]));
  return add_exponent(p, r);
}

template <int terms>
inline Lanes<float>::V Lanes<float>::exp2(V t, const float (&coefficients)[terms]) {
  t = max(t, all(-125.0f));
  const V big = all(12582912.0f);  // 1.5 x 2^23
  const V r = add(t, big), f = sub(t, sub(r, big));
  V p = all(coefficients[terms - 1]);
  PPAL_FAST_UNROLL
  for (int i = terms - 2; i >= 0; i--) p = fma(p, f, all(coefficients[i]));
  return add_exponent(p, r);
}

#endif

// total + sum_v 2^t[v] as the fast kernels of each precision take it.
template <class S, int vectors, class T, int terms>
PPAL_FAST_INLINE typename S::V add_exp2(typename S::V total, const typename S::V (&t)[vectors], const T (&c)[terms]) {
  typename S::V u = S::exp2(t[0], c);
  PPAL_FAST_UNROLL
  for (int v = 1; v < vectors; v++) u = S::add(u, S::exp2(t[v], c));
  return S::add(total, u);
}

template <int vectors>
PPAL_FAST_INLINE Lanes<float>::V add_exp2(Lanes<float>::V total, const Lanes<float>::V (&t)[vectors]) {
  return add_exp2<Lanes<float>>(total, t, exp2_float);
}

template <int vectors>
PPAL_FAST_INLINE Lanes<double>::V add_exp2(Lanes<double>::V total, const Lanes<double>::V (&t)[vectors]) {
  using S = Lanes<double>;
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  // step by step for all registers: written one after the other they wait for each other's steps (measured)
  S::V f[vectors], power[vectors], p[vectors];
  PPAL_FAST_UNROLL
  for (int v = 0; v < vectors; v++) {
    f[v] = S::after_eighths(t[v]);
    power[v] = S::exp2_eighths(t[v]);
    p[v] = S::all(exp2_in_eighth[4]);
  }
  PPAL_FAST_UNROLL
  for (int i = 3; i >= 0; i--) {
    PPAL_FAST_UNROLL
    for (int v = 0; v < vectors; v++) p[v] = S::fma(p[v], f[v], S::all(exp2_in_eighth[i]));
  }
  PPAL_FAST_UNROLL
  for (int v = 0; v < vectors; v++) total = S::fma(p[v], power[v], total);
  return total;
#else
  return add_exp2<S>(total, t, exp2_double);
#endif
}

template <class T>
inline double horizontal_sum(typename Lanes<T>::V v) {
  alignas(64) T lane[Lanes<T>::lanes];
  Lanes<T>::store(lane, v);
  PPAL_FAST_UNROLL
  for (int half = Lanes<T>::lanes / 2; half > 0; half /= 2)
    for (int l = 0; l < half; l++) lane[l] += lane[l + half];
  return lane[0];
}

}  // namespace PPAL_FAST_SIMD
}  // namespace ppal_fast
