// Every Python-facing name of the C++ kernels.
#include <pybind11/pybind11.h>
PYBIND11_MODULE(_density, m) { m.doc() = "Gaussian kernel densities"; }
