#include "cuda/host/launch.h"

#include "cuda/host/modules.h"

namespace lorasmith::cuda {
namespace {

std::vector<const KernelBase*>& Kernels() {
  static auto* const kernels = new std::vector<const KernelBase*>();
  return *kernels;
}

std::vector<GpuOp>& Ops() {
  static auto* const ops = new std::vector<GpuOp>();
  return *ops;
}

// CUDA's limits.
bool Fits(const Grid& grid) { return grid.x <= INT32_MAX && grid.y <= UINT16_MAX && grid.z <= UINT16_MAX; }

}  // namespace

KernelBase::KernelBase(std::string module, std::string name, std::vector<size_t> parameter_bytes,
                       SharedMemory shared_memory)
    : module_(std::move(module)),
      name_(std::move(name)),
      parameter_bytes_(std::move(parameter_bytes)),
      shared_memory_(shared_memory) {
  Kernels().push_back(this);
}

std::string KernelBase::Load() const {
  if (function_.load(std::memory_order_acquire) != nullptr) return "";
  Device& device = *Device::Get();
  device.Enter();
  std::string problem;
  void* module = LoadModule(module_, &problem);
  if (module == nullptr) return problem;
  void* function = nullptr;
  const Result result = device.driver().cuModuleGetFunction(&function, module, name_.c_str());
  device.Record(result, "looking up kernel " + name_);
  if (result != kSuccess) return "kernel module " + module_ + " has no kernel " + name_ + ": " + ErrorText(result);
  problem = CheckParameters(function);
  // A hint: a driver that refuses it changes nothing but the speed.
  if (shared_memory_ == SharedMemory::kAll) device.driver().cuFuncSetAttribute(function, kSharedMemoryCarveout, 100);
  if (problem.empty()) function_.store(function, std::memory_order_release);
  return problem;
}

// The driver copies as many bytes of each argument as the kernel has been compiled with.
std::string KernelBase::CheckParameters(void* function) const {
  const Driver& driver = Device::Get()->driver();
  if (driver.cuFuncGetParamInfo == nullptr) return "";
  size_t offset = 0, bytes = 0, count = 0;
  while (driver.cuFuncGetParamInfo(function, count, &offset, &bytes) == kSuccess) {
    if (count < parameter_bytes_.size() && parameter_bytes_[count] == bytes) {
      count++;
      continue;
    }
    return "kernel " + name_ + ": parameter " + std::to_string(count) + " has " + std::to_string(bytes) +
           " bytes, which is not what this addon was compiled with";
  }
  if (count == parameter_bytes_.size()) return "";
  return "kernel " + name_ + " has " + std::to_string(count) + " parameters, not " +
         std::to_string(parameter_bytes_.size()) + " as this addon was compiled with";
}

std::string KernelBase::AllowSharedBytes(size_t bytes) const {
  if (bytes <= allowed_shared_bytes_.load(std::memory_order_relaxed)) return "";
  Device& device = *Device::Get();
  const Result result =
      device.driver().cuFuncSetAttribute(function_.load(), kMaxDynamicSharedBytes, static_cast<int>(bytes));
  if (result == kSuccess) {
    allowed_shared_bytes_.store(bytes, std::memory_order_relaxed);
    return "";
  }
  return "kernel " + name_ + " needs " + std::to_string(bytes) + " bytes of shared memory, and a block has at most " +
         std::to_string(device.description().shared_bytes_per_block) + ": " + ErrorText(result);
}

void KernelBase::LaunchWith(Context& context, const Grid& grid, unsigned threads, size_t shared_bytes,
                            void** arguments) const {
  if (context.failed() || grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (!Fits(grid)) return context.Fail(TF_INVALID_ARGUMENT, "kernel " + name_ + ": too many blocks for one launch");
  std::string problem = Load();
  if (problem.empty()) problem = AllowSharedBytes(shared_bytes);
  if (!problem.empty()) return context.Fail(TF_INTERNAL, problem);
  Device& device = *Device::Get();
  const auto launch = [&] {
    return device.driver().cuLaunchKernel(function_.load(std::memory_order_relaxed), static_cast<unsigned>(grid.x),
                                          static_cast<unsigned>(grid.y), static_cast<unsigned>(grid.z), threads, 1, 1,
                                          static_cast<unsigned>(shared_bytes), device.stream(), arguments, nullptr);
  };
  Result result = launch();
  if (result == kOutOfMemory) {
    // The driver needs memory of its own for some kernels.
    device.Trim("launching kernel " + name_);
    result = launch();
  }
  if (result != kSuccess) {
    device.Record(result, "launching kernel " + name_);
    const std::string failure = device.failure();
    return context.Fail(TF_INTERNAL, failure.empty() ? "kernel " + name_ + ": " + ErrorText(result) : failure);
  }
  launches_.fetch_add(1, std::memory_order_relaxed);
  device.CountLaunch(name_.c_str());
}

const std::vector<const KernelBase*>& AllKernels() { return Kernels(); }

GpuOps::GpuOps(std::initializer_list<GpuOp> ops) { Ops().insert(Ops().end(), ops.begin(), ops.end()); }

const std::vector<GpuOp>& AllGpuOps() { return Ops(); }

bool EnterOp(Context& context) {
  Device& device = *Device::Get();
  device.Enter();
  if (!device.has_failed()) return true;
  context.Fail(TF_INTERNAL, device.failure());
  return false;
}

}  // namespace lorasmith::cuda
