// The density kernels for avx512; setup.py compiles this file alone with the flags of that instruction set.
#include "levels.hpp"

#include <ppal_fast/density_kernel.hpp>

namespace ppal_fast {
extern const Kernels avx512_kernels = native_kernels();
}
