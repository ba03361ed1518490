"""Builds the one extension module, fasttrace.core._native; everything else about the package is in pyproject.toml.

FASTTRACE_PURE=1   no extension: a py3-none-any wheel
FASTTRACE_PURE=0   the extension is required: a failed compile fails the build (so does CIBUILDWHEEL=1)
unset              the extension where it compiles, else the pure Python core, with a message
FASTTRACE_SANITIZE=address|thread   an instrumented extension, for tests
"""

import os
import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PURE = os.environ.get("FASTTRACE_PURE", "")
REQUIRED = PURE == "0" or os.environ.get("CIBUILDWHEEL", "0") not in ("", "0")
SANITIZERS = {"address": "address,undefined", "thread": "thread"}
FALLBACK = """\
fasttrace: the native core did not compile: {error}
fasttrace: going on with the pure Python core: the same spans, at a higher cost per call.
fasttrace: install a C11 compiler to get the native core, or set FASTTRACE_PURE=0 to make this an error."""


def flags():
    if sys.platform == "win32":
        return ["/O2", "/std:c11", "/experimental:c11atomics"], []
    compile_args = ["-std=c11", "-O2", "-fvisibility=hidden"]
    sanitizer = os.environ.get("FASTTRACE_SANITIZE")
    if not sanitizer:  # a call crosses ten small files: gcc's link-time optimisation takes 6 % off it
        lto = ["-flto=auto"] if "gcc" in (os.environ.get("CC") or sysconfig.get_config_var("CC") or "") else []
        return [*compile_args, *lto], lto
    if sanitizer not in SANITIZERS:
        raise SystemExit(f"FASTTRACE_SANITIZE={sanitizer}: say {' or '.join(SANITIZERS)}")
    switch = f"-fsanitize={SANITIZERS[sanitizer]}"
    return [*compile_args, switch, "-O1", "-g", "-fno-omit-frame-pointer"], [switch]


class BuildCore(build_ext):
    """Says what a failed compile means; Extension.optional then lets the build go on without the module.

    setuptools runs Cython on the .pyx in here, on this very Extension object. A call of cythonize() in this file would
    return a copy that has lost `optional`.
    """

    def build_extension(self, ext):
        try:
            super().build_extension(ext)
        except Exception as error:
            if not REQUIRED:
                print(FALLBACK.format(error=error), file=sys.stderr, flush=True)
            raise


compile_args, link_args = flags()
native = Extension(
    "fasttrace.core._native",
    ["src/fasttrace/core/_native.pyx", *sorted(glob("csrc/src/*.c") + glob("csrc/python/*.c"))],
    include_dirs=["csrc/include", "csrc/python"],
    depends=["setup.py", *sorted(glob("csrc/**/*.h", recursive=True) + glob("csrc/**/*.inc", recursive=True))],
    extra_compile_args=compile_args,
    extra_link_args=link_args,
    optional=not REQUIRED,
)
setup(ext_modules=[] if PURE == "1" else [native], cmdclass={"build_ext": BuildCore})
