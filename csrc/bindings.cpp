// Every Python-facing name of the C++ kernels.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <cstdlib>
#include <future>
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

// Parts are taken by whichever thread is free.
ppal_fast::Threads run_on(long threads) {
  if (threads <= 1) return {};
  return [threads](long count, const std::function<void(long)>& part) {
    std::atomic<long> next{0};
    const auto work = [&] {
      for (long p = next++; p < count; p = next++) part(p);
    };
    std::vector<std::future<void>> others;
    for (long t = 1; t < std::min(threads, count); t++) others.push_back(std::async(std::launch::async, work));
    work();
    for (auto& other : others) other.get();
  };
}

template <class T>
class Density {
 public:
  Density(const Doubles& references, const Doubles& bandwidth, const std::optional<Doubles>& weights,
          const Density* like, bool prunable) {
    const double *r = references.data(), *h = bandwidth.data(), *w = weights ? weights->data() : nullptr;
    const long n = references.shape(0), d = references.shape(1);
    const ppal_fast::GaussianKde<T>* other = like ? like->kde_.get() : nullptr;
    shape_ = {n, d};
    py::gil_scoped_release release;
    kde_ = std::make_unique<ppal_fast::GaussianKde<T>>(r, n, d, h, w, *kernels, other, prunable);
  }

  void log_density(const Doubles& queries, Doubles& out, const std::optional<Indices>& left_out, long threads,
                   double rtol) const {
    const double* q = queries.data();
    double* o = out.mutable_data();
    const long* l = left_out ? left_out->data() : nullptr;
    const long m = queries.shape(0);
    py::gil_scoped_release release;
    kde_->log_density(q, m, o, l, run_on(threads), rtol);
  }

  void log_ratio(const Density& denominator, const Doubles& queries, Doubles& out,
                 const std::optional<Indices>& left_out, long threads) const {
    const double* q = queries.data();
    double* o = out.mutable_data();
    const long* l = left_out ? left_out->data() : nullptr;
    const long m = queries.shape(0);
    py::gil_scoped_release release;
    kde_->log_ratio(*denominator.kde_, q, m, o, l, run_on(threads));
  }

  std::optional<Indices> pruning_order(const Doubles& queries, double rtol) const {
    const double* q = queries.data();
    const long m = queries.shape(0);
    std::vector<long> order;
    {
      py::gil_scoped_release release;
      order = kde_->pruning_order(q, m, rtol);
    }
    if (order.empty()) return std::nullopt;
    return Indices(static_cast<py::ssize_t>(order.size()), order.data());
  }

  Doubles likelihood_grid(const Doubles& queries, const Indices& left_out, const Doubles& share) const {
    Doubles out(ppal_fast::grid_steps);
    const double *q = queries.data(), *s = share.data();
    double* o = out.mutable_data();
    const long *l = left_out.data(), m = queries.shape(0);
    py::gil_scoped_release release;
    kde_->likelihood_grid(q, m, l, s, o);
    return out;
  }

  static py::array references(const py::object& self) {
    const Density& density = self.cast<const Density&>();
    py::array_t<double> view(density.shape_, density.kde_->references().data(), self);
    py::detail::array_proxy(view.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    return view;
  }

 private:
  std::unique_ptr<ppal_fast::GaussianKde<T>> kde_;
  std::vector<py::ssize_t> shape_;
};

template <class T>
void bind(py::module_& m, const char* name, const char* doc) {
  py::class_<Density<T>> bound(m, name, doc);
  bound
      .def(py::init<const Doubles&, const Doubles&, const std::optional<Doubles>&, const Density<T>*, bool>(),
           py::arg("references").noconvert(), py::arg("bandwidth").noconvert(),
           py::arg("weights").noconvert() = py::none(), py::arg("like") = py::none(), py::arg("prunable") = false,
           "references (n, d) float64 C-contiguous, NaN is a missing cell; bandwidth (d,); weights (n,) or None.\n"
           "Everything is copied. like: a density with the same bandwidth, to share prepared queries with; prunable:\n"
           "for pruning_order.")
      .def("log_density", &Density<T>::log_density, py::arg("queries").noconvert(), py::arg("out").noconvert(),
           py::arg("left_out").noconvert() = py::none(), py::arg("threads") = 1, py::arg("rtol") = 0.0,
           "Write the log density of queries (m, d) into out (m,). Reference left_out[i] (intp; negative: none) is\n"
           "absent for row i. Few queries split the references over threads, with the same result. rtol > 0: too low\n"
           "by at most that; for queries in pruning_order. O(m n d); memory does not grow with m n. Releases the GIL;\n"
           "safe from many threads.")
      .def("log_ratio", &Density<T>::log_ratio, py::arg("denominator"), py::arg("queries").noconvert(),
           py::arg("out").noconvert(), py::arg("left_out").noconvert() = py::none(), py::arg("threads") = 1,
           "log_density less that of the denominator, with queries prepared once for both.")
      .def("pruning_order", &Density<T>::pruning_order, py::arg("queries").noconvert(), py::arg("rtol"),
           "(m,) an order of the queries for log_density with rtol; None where a probe says that it would not pay.")
      .def_property_readonly("references", &Density<T>::references, "(n, d) read-only view.");
  if constexpr (std::is_same_v<T, double>)
    bound.def("likelihood_grid", &Density<T>::likelihood_grid, py::arg("queries").noconvert(),
              py::arg("left_out").noconvert(), py::arg("share").noconvert(),
              "(25,) sum over q of share[q] times the log density of query q without reference left_out[q], under the\n"
              "bandwidth times 2^(-i / 4). Nothing may be missing.");
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
  m.def(
      "all_finite",
      [](const Doubles& table) {
        const double* cells = table.data();
        const py::ssize_t count = table.size(), whole = count / 8 * 8;
        double zero[8] = {};  // becomes NaN at a cell that is infinite or NaN
        for (py::ssize_t i = 0; i < whole; i += 8)
          for (int lane = 0; lane < 8; lane++) zero[lane] += 0 * cells[i + lane];
        for (py::ssize_t i = whole; i < count; i++) zero[0] += 0 * cells[i];
        return std::all_of(zero, zero + 8, [](double z) { return z == 0; });
      },
      py::arg("table").noconvert(), "Whether no cell is infinite or NaN; for one row in a fraction of numpy's time.");
  bind<double>(m, "Double", "Density in float64: log densities are right to 1e-9 against a float64 log-sum-exp.");
  bind<float>(m, "Single",
              "Density with float32 sums; rows on which those underflow or cancel are redone in float64.");
}
