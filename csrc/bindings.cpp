// Every Python-facing name of the C++ kernels.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <ppal_fast/density.hpp>
#include <stdexcept>

#include "levels.hpp"

namespace py = pybind11;

namespace {

using Doubles = py::array_t<double, py::array::c_style>;
using Indices = py::array_t<long, py::array::c_style>;

const ppal_fast::Kernels* kernels = nullptr;

template <class T>
class Density {
 public:
  Density(const Doubles& references, const Doubles& bandwidth, const std::optional<Doubles>& weights) {
    const double *r = references.data(), *h = bandwidth.data(), *w = weights ? weights->data() : nullptr;
    const long n = references.shape(0), d = references.shape(1);
    py::gil_scoped_release release;
    kde_ = std::make_unique<ppal_fast::GaussianKde<T>>(r, n, d, h, w, *kernels);
  }

  void log_density(const Doubles& queries, Doubles& out, const std::optional<Indices>& left_out) const {
    const double* q = queries.data();
    double* o = out.mutable_data();
    const long* l = left_out ? left_out->data() : nullptr;
    const long m = queries.shape(0);
    py::gil_scoped_release release;
    kde_->log_density(q, m, o, l);
  }

 private:
  std::unique_ptr<ppal_fast::GaussianKde<T>> kde_;
};

template <class T>
void bind(py::module_& m, const char* name, const char* doc) {
  py::class_<Density<T>>(m, name, doc)
      .def(py::init<const Doubles&, const Doubles&, const std::optional<Doubles>&>(), py::arg("references").noconvert(),
           py::arg("bandwidth").noconvert(), py::arg("weights").noconvert() = py::none(),
           "references (n, d) float64 C-contiguous, NaN is a missing cell; bandwidth (d,); weights (n,) or None.\n"
           "Everything is copied.")
      .def("log_density", &Density<T>::log_density, py::arg("queries").noconvert(), py::arg("out").noconvert(),
           py::arg("left_out").noconvert() = py::none(),
           "Write the log density of queries (m, d) into out (m,). Reference left_out[i] (intp; negative: none) is\n"
           "absent for row i. O(m n d); memory does not grow with m n. Releases the GIL; safe from many threads.");
}

}  // namespace

PYBIND11_MODULE(_density, m) {
  m.doc() = "Gaussian kernel densities with exact tails and missing cells.";
  try {
    kernels = &ppal_fast::choose_kernels(std::getenv("PPAL_SIMD"));
  } catch (const std::invalid_argument& error) {
    throw py::import_error(error.what());
  }
  m.def("simd_level", [] { return kernels->name; },
        "The instruction set in use: baseline, avx2 or avx512; the environment variable PPAL_SIMD forces one.");
  bind<double>(m, "Double", "Density in float64: log densities are right to 1e-9 against a float64 log-sum-exp.");
  bind<float>(m, "Single",
              "Density with float32 sums; rows on which those underflow or cancel are redone in float64.");
}
