"""The compiled loop; everything else about the package is in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(
    ext_modules=cythonize(
        [
            Extension(
                "anvil_engine._ioloop",
                ["anvil_engine/_ioloop.pyx"],
                depends=["anvil_engine/_clock.h", "anvil_engine/_uring.h"],
                # Offsets are drawn in floating point too, and must be the same on every host.
                extra_compile_args=[
                    "-O3",
                    "-std=gnu11",
                    "-ffp-contract=off",
                    "-Wall",
                    "-Wno-unused-function",
                ],
            )
        ]
    )
)
