// The instruction sets that this build holds, and which of them this machine runs.
#pragma once

#include <ppal_fast/density_kernel.hpp>

namespace ppal_fast {

extern const Kernels baseline_kernels, avx2_kernels, avx512_kernels;

// The widest level that this machine runs; `forced` ("baseline", "avx2", "avx512", or null) asks for one of them.
// Throws std::invalid_argument, in one sentence, for a level that is unknown or that the machine or the build lacks.
const Kernels& choose_kernels(const char* forced);

}  // namespace ppal_fast
