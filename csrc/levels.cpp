#include "levels.hpp"

#include <stdexcept>
#include <string>

namespace ppal_fast {

namespace {

// Null where this machine lacks the level; PPAL_FAST_X86 is set where setup.py compiles the x86 variants.
const Kernels* available(const std::string& level) {
  if (level == "baseline") return &baseline_kernels;
#ifdef PPAL_FAST_X86
  // GCC and Clang ask both the processor and the operating system (XGETBV)
  if (level == "avx2" && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &avx2_kernels;
  if (level == "avx512" && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
    return &avx512_kernels;
#endif
  return nullptr;
}

}  // namespace

const Kernels& choose_kernels(const char* forced) {
#ifdef PPAL_FAST_X86
  __builtin_cpu_init();
#endif
  if (forced == nullptr || *forced == '\0') {
    for (const char* level : {"avx512", "avx2"})
      if (const Kernels* kernels = available(level)) return *kernels;
    return baseline_kernels;
  }
  const std::string level = forced;
  if (level != "baseline" && level != "avx2" && level != "avx512")
    throw std::invalid_argument("PPAL_SIMD was '" + level + "'; expected baseline, avx2 or avx512");
  if (const Kernels* kernels = available(level)) return *kernels;
  throw std::invalid_argument("PPAL_SIMD was '" + level + "', which this machine cannot run; unset it or use baseline");
}

}  // namespace ppal_fast
