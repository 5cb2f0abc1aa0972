"""Builds the compiled kernels: C++ behind pybind11 and one Cython module. Everything else is in pyproject.toml.

The density kernels are one source, compiled once for each instruction set; the module picks one when it is loaded.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import Extension, setup

FLAGS_OF_LEVEL = {
    "density_avx2.cpp": ["-mavx2", "-mfma"],
    "density_avx512.cpp": [
        "-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mavx2", "-mfma", "-mprefer-vector-width=512",
        # GCC 12 warns of its own headers; Clang does not know the second
        "-Wno-uninitialized", "-Wno-maybe-uninitialized", "-Wno-unknown-warning-option",
    ],
}
# A universal build for macOS compiles each file for two architectures at once: only the baseline can be in it.
X86 = platform.machine().lower() in ("x86_64", "amd64") and "arm64" not in os.environ.get("ARCHFLAGS", "")
NO_COMPILER = (
    "ppal_fast needs a C++ compiler to build, and {} was not found. Install one and try again: "
    "'apt-get install g++' on Debian or Ubuntu, 'dnf install gcc-c++' on Fedora, 'xcode-select --install' on macOS."
)


class BuildLevels(build_ext):  # type: ignore[misc]
    """Adds to each file the flags of its instruction set; says in one sentence when there is no compiler."""

    def build_extensions(self) -> None:
        for name in ("compiler", "compiler_cxx"):
            program = (getattr(self.compiler, name, None) or [""])[0]
            if program and shutil.which(program) is None:
                raise SystemExit(NO_COMPILER.format(repr(program)))
        compile_one = self.compiler._compile

        def compile_with_level(obj: str, src: str, ext: str, cc_args: Any, extra: list[str], pp_opts: Any) -> None:
            compile_one(obj, src, ext, cc_args, [*extra, *FLAGS_OF_LEVEL.get(Path(src).name, [])], pp_opts)

        self.compiler._compile = compile_with_level
        super().build_extensions()


sources = sorted(str(p) for p in Path("csrc").glob("*.cpp") if X86 or p.name not in FLAGS_OF_LEVEL)
density = Pybind11Extension(
    "ppal_fast.kernels._density",
    sources,
    cxx_std=17,
    include_dirs=["src/ppal_fast/include"],
    define_macros=[("PPAL_FAST_X86", "1")] if X86 else [],
    # a product and a sum are fused only where the source says so, and the C library need not set errno
    extra_compile_args=["-O3", "-ffp-contract=off", "-fno-math-errno"],
    depends=[*map(str, Path("csrc").glob("*.hpp")), *map(str, Path("src/ppal_fast/include/ppal_fast").glob("*.hpp"))],
)
line = Extension(
    "ppal_fast.kernels._line",
    ["src/ppal_fast/kernels/_line.pyx"],
    include_dirs=["src/ppal_fast/include"],
    extra_compile_args=["-O3", "-ffp-contract=off", "-fno-math-errno"],
    depends=[str(path) for path in Path("src/ppal_fast/include/ppal_fast").glob("line*.h")],
)

setup(ext_modules=[density, *cythonize([line], build_dir="build/cython")], cmdclass={"build_ext": BuildLevels})
