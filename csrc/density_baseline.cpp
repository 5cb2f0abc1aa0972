// The density kernels for baseline; setup.py compiles this file alone with the flags of that instruction set.
#include "levels.hpp"

#include <ppal_fast/density_kernel.hpp>

namespace ppal_fast {
extern const Kernels baseline_kernels = native_kernels();
}
