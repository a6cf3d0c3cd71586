// Kernels of native/build/cuda by module and name, and how an op launches them.
//
//   const Kernel<void(const float* x, BFloat16* y, int64_t size)> kRound{"cast", "RoundBFloat16"};
//   kRound.Launch(context, {blocks}, 256, 0, x, y, size);
//
// The signature is the kernel's own; arguments convert to its types as in a call. A module is loaded when one of its
// kernels is launched for the first time.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "cpu/kernel.h"
#include "cuda/host/device.h"
#include "cuda/kernels/portable.h"

namespace lorasmith::cuda {

// Blocks of a launch. None: nothing is launched.
struct Grid {
  int64_t x = 1;
  int64_t y = 1;
  int64_t z = 1;
};

inline int64_t DivideUp(int64_t value, int64_t by) { return (value + by - 1) / by; }

// A kernel's name ends in its element type.
template <typename Number>
std::string TypeName();
template <>
inline std::string TypeName<float>() {
  return "Float32";
}
template <>
inline std::string TypeName<BFloat16>() {
  return "BFloat16";
}
template <>
inline std::string TypeName<int32_t>() {
  return "Int32";
}

// How much of a multiprocessor's memory is shared memory for a kernel.
enum class SharedMemory { kByDriver, kAll };

// Threads of a block that has a row of vectors: no more than there are vectors, in whole warps.
template <typename Number>
unsigned ThreadsOfRow(int64_t width) {
  const int64_t vectors = DivideUp(width, 16 / static_cast<int64_t>(sizeof(Number)));
  return static_cast<unsigned>(std::clamp<int64_t>(RoundUp(vectors, 32), 32, 256));
}

class KernelBase {
 public:
  // `parameter_bytes`: the sizes of the kernel's parameters.
  KernelBase(std::string module, std::string name, std::vector<size_t> parameter_bytes, SharedMemory shared_memory);
  KernelBase(const KernelBase&) = delete;

  const std::string& module() const { return module_; }
  const std::string& name() const { return name_; }
  uint64_t launches() const { return launches_.load(std::memory_order_relaxed); }

  // Loads the module if it is not loaded. Empty on success, else what is wrong.
  std::string Load() const;

 protected:
  void LaunchWith(Context& context, const Grid& grid, unsigned threads, size_t shared_bytes, void** arguments) const;

 private:
  std::string CheckParameters(void* function) const;
  std::string AllowSharedBytes(size_t bytes) const;

  std::string module_;
  std::string name_;
  std::vector<size_t> parameter_bytes_;
  SharedMemory shared_memory_;
  mutable std::atomic<void*> function_{nullptr};
  mutable std::atomic<size_t> allowed_shared_bytes_{0};
  mutable std::atomic<uint64_t> launches_{0};
};

template <typename Signature>
class Kernel;

template <typename... Parameters>
class Kernel<void(Parameters...)> : public KernelBase {
 public:
  Kernel(std::string module, std::string name, SharedMemory shared_memory = SharedMemory::kByDriver)
      : KernelBase(std::move(module), std::move(name), {sizeof(Parameters)...}, shared_memory) {}

  // `threads`: of each block. `shared_bytes`: of dynamic shared memory.
  void Launch(Context& context, const Grid& grid, unsigned threads, size_t shared_bytes,
              Parameters... arguments) const {
    void* pointers[] = {const_cast<void*>(static_cast<const void*>(&arguments))...};
    LaunchWith(context, grid, threads, shared_bytes, pointers);
  }
};

// Every kernel that the ops of this library may launch.
const std::vector<const KernelBase*>& AllKernels();

// The GPU's kernels of an op.
struct GpuOp {
  const char* name;
  std::vector<KernelDefinition> kernels;
};

// Declares GPU kernels at the end of a file:  const GpuOps kOps{{"LorasmithRmsNorm", GpuKernels<RmsNorm>()}, …};
class GpuOps {
 public:
  GpuOps(std::initializer_list<GpuOp> ops);
};

// All that were declared.
const std::vector<GpuOp>& AllGpuOps();

// Whether the op may use the GPU: after a failure, every op ends with that failure's message.
bool EnterOp(Context& context);

// As KernelOn, for the GPU.
template <typename Op>
KernelDefinition GpuKernelOn(std::vector<TypeConstraint> types, std::vector<const char*> host_memory = {}) {
  KernelDefinition definition = KernelOn<Op>("GPU", std::move(types), std::move(host_memory));
  definition.compute = [](void* op, TF_OpKernelContext* tf_context) {
    Context context(tf_context);
    if (EnterOp(context)) static_cast<const Op*>(op)->Compute(context);
  };
  return definition;
}

// The kernels of a class template for both element types T.
template <template <typename Number> class Op>
std::vector<KernelDefinition> GpuKernels(std::vector<const char*> host_memory = {}) {
  return {GpuKernelOn<Op<float>>({{"T", TF_FLOAT}}, host_memory),
          GpuKernelOn<Op<BFloat16>>({{"T", TF_BFLOAT16}}, host_memory)};
}

// Launches a kernel that has a table among its parameters (cuda/kernels/portable.h), for each part of the entries
// that a table holds. `blocks_of` gives the blocks of an entry; without
// any, nothing is launched.
template <typename Table, typename Entry, typename BlocksOf, typename Launch>
void ForEachTable(const std::vector<Entry>& entries, const BlocksOf& blocks_of, const Launch& launch) {
  Table table{};
  int64_t blocks = 0;
  const auto flush = [&] {
    if (table.count > 0) launch(table, blocks);
    table.count = 0;
    blocks = 0;
  };
  for (const Entry& entry : entries) {
    const int64_t own = blocks_of(entry);
    if (own == 0) continue;
    if (table.count == Table::kMost || blocks + own > INT32_MAX) flush();
    table.at[table.count] = entry;
    table.at[table.count++].first_block = static_cast<int>(blocks);
    blocks += own;
  }
  flush();
}

}  // namespace lorasmith::cuda
