"""Compiles CUDA C++ with NVRTC, which needs neither a GPU nor its driver.

nvrtc-compile.py LIBNVRTC SOURCE OUT LOG --gpu-architecture=ARCH [OPTION...]: writes a cubin for ARCH sm_NN, PTX for compute_NN, to
OUT, and what the compiler and ptxas say to LOG. If the source does not compile, that goes to standard error instead.
"""

import ctypes
import sys

library_file, source_file, out_file, log_file, architecture, *options = sys.argv[1:]
nvrtc = ctypes.CDLL(library_file)
nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p


def call(name, *arguments):
    code = getattr(nvrtc, name)(*arguments)
    if code != 0:
        sys.exit(f"{name}: {nvrtc.nvrtcGetErrorString(code).decode()}")


def output(kind):
    size = ctypes.c_size_t()
    call(f"nvrtcGet{kind}Size", program, ctypes.byref(size))
    data = ctypes.create_string_buffer(size.value)
    call(f"nvrtcGet{kind}", program, data)
    return data.raw


def text(kind):
    return output(kind).rstrip(b"\0").decode(errors="replace")


program = ctypes.c_void_p()
with open(source_file, "rb") as source:
    call("nvrtcCreateProgram", ctypes.byref(program), source.read(), source_file.encode(), 0, None, None)
arguments = [option.encode() for option in (architecture, *options)]
code = nvrtc.nvrtcCompileProgram(program, len(arguments), (ctypes.c_char_p * len(arguments))(*arguments))
if code != 0:
    sys.exit(f"{text('ProgramLog')}\n{source_file}: {nvrtc.nvrtcGetErrorString(code).decode()}")
if "=sm_" in architecture:
    binary = output("CUBIN")
else:
    binary = output("PTX").rstrip(b"\0")
with open(log_file, "w") as log:
    log.write(text("ProgramLog"))
with open(out_file, "wb") as out:
    out.write(binary)
