"""Builds the compiled kernels: C++ behind pybind11 and one Cython module. Everything else is in pyproject.toml."""

from __future__ import annotations

from pathlib import Path

from Cython.Build import cythonize
from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import Extension, setup

extensions = [
    Pybind11Extension("ppal_fast.kernels._density", sorted(map(str, Path("csrc").glob("*.cpp"))), cxx_std=17),
    *cythonize([Extension("ppal_fast.kernels._line", ["src/ppal_fast/kernels/_line.pyx"])]),
]

setup(ext_modules=extensions, cmdclass={"build_ext": build_ext})
