#include "merge_kernel.h"

#include "merge_stored.h"

namespace lorasmith {

bool MergeGeneric(const merging::Update& update, StoredDtype dtype, int64_t row, int64_t rows, const void* base,
                  void* merged) {
  return MergeStored(update, dtype, row, rows, base, merged);
}

namespace {

struct Kernel {
  const char* instructions;
  MergeKernel merge;
};

std::vector<Kernel> Kernels() {
  std::vector<Kernel> kernels;
#if defined(__x86_64__)
  // All of x86-64-v3 and v4 that a compiler may use.
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                  __builtin_cpu_supports("f16c") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("lzcnt") &&
                  __builtin_cpu_supports("movbe");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  if (v4) kernels.push_back({"avx512", &MergeAvx512});
  if (v3) kernels.push_back({"avx2", &MergeAvx2});
#endif
  kernels.push_back({"generic", &MergeGeneric});
  return kernels;
}

}  // namespace

std::vector<std::string> MergeInstructions() {
  std::vector<std::string> names;
  for (const Kernel& kernel : Kernels()) names.emplace_back(kernel.instructions);
  return names;
}

MergeKernel MergeKernelOf(const std::string& instructions) {
  const std::vector<Kernel> kernels = Kernels();
  for (const Kernel& kernel : kernels) {
    if (kernel.instructions == instructions) return kernel.merge;
  }
  return kernels.front().merge;
}

}  // namespace lorasmith
