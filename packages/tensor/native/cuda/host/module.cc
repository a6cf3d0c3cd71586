// The Node addon of the CUDA engine. `start` must be called before TensorFlow's own addon is loaded, since TensorFlow
// lists its devices once.
#include <node_api.h>

#include "cuda/host/cublas_lt.h"
#include "cuda/host/device.h"
#include "cuda/host/launch.h"
#include "cuda/host/plugin.h"
#include "ops/product/multiply.h"

namespace lorasmith::cuda {
namespace {

class Object {
 public:
  explicit Object(napi_env env) : env_(env) { napi_create_object(env, &value_); }

  void Set(const char* name, napi_value value) { napi_set_named_property(env_, value_, name, value); }
  void Set(const char* name, const std::string& text) { Set(name, Text(env_, text)); }
  void Set(const char* name, double number) { Set(name, Number(env_, number)); }

  napi_value value() const { return value_; }

  static napi_value Text(napi_env env, const std::string& text) {
    napi_value value;
    napi_create_string_utf8(env, text.c_str(), text.size(), &value);
    return value;
  }

  static napi_value Number(napi_env env, double number) {
    napi_value value;
    napi_create_double(env, number, &value);
    return value;
  }

 private:
  napi_env env_;
  napi_value value_;
};

napi_value Null(napi_env env) {
  napi_value value;
  napi_get_null(env, &value);
  return value;
}

napi_value NullOrText(napi_env env, const std::string& text) {
  return text.empty() ? Null(env) : Object::Text(env, text);
}

template <typename Items, typename Make>
napi_value Array(napi_env env, const Items& items, Make make) {
  napi_value array;
  napi_create_array(env, &array);
  uint32_t index = 0;
  for (const auto& item : items) napi_set_element(env, array, index++, make(item));
  return array;
}

napi_value DeviceObject(napi_env env, const DeviceDescription& description) {
  Object object(env);
  object.Set("ordinal", description.ordinal);
  object.Set("name", description.name);
  object.Set("uuid", description.uuid);
  const int capability[] = {description.capability_major, description.capability_minor};
  object.Set("capability", Array(env, capability, [&](int part) { return Object::Number(env, part); }));
  object.Set("multiprocessors", description.multiprocessors);
  object.Set("sharedBytesPerBlock", description.shared_bytes_per_block);
  object.Set("memoryBytesPerSecond", static_cast<double>(description.memory_bytes_per_second));
  object.Set("totalBytes", static_cast<double>(description.total_bytes));
  return object.value();
}

// {driverVersion, error, devices}; makes no context.
napi_value Describe(napi_env env, napi_callback_info) {
  std::string problem;
  const std::vector<DeviceDescription> devices = DescribeDevices(&problem);
  Object object(env);
  object.Set("driverVersion", DriverVersion());
  object.Set("error", NullOrText(env, problem));
  object.Set("devices", Array(env, devices, [&](const DeviceDescription& one) { return DeviceObject(env, one); }));
  return object.value();
}

std::string RegisterKernels() {
  for (const GpuOp& op : AllGpuOps()) {
    for (const KernelDefinition& kernel : op.kernels) {
      const std::string problem = RegisterKernel(op.name, kernel);
      if (!problem.empty()) return std::string(op.name) + ": " + problem;
    }
  }
  return "";
}

// Opens the device, and shows it and its kernels to TensorFlow. Throws if there is none.
napi_value Start(napi_env env, napi_callback_info) {
  static bool started = false;
  std::string problem;
  if (!started) {
    problem = Device::Open();
    if (problem.empty()) cublas::OpenCublas(&problem);
    if (problem.empty()) problem = LoadPlugin();
    if (problem.empty()) problem = RegisterKernels();
    started = problem.empty();
  }
  if (!problem.empty()) {
    napi_throw_error(env, nullptr, problem.c_str());
    return nullptr;
  }
  return DeviceObject(env, Device::Get()->description());
}

Device* StartedDevice(napi_env env) {
  Device* device = Device::Get();
  if (device == nullptr) napi_throw_error(env, nullptr, "the CUDA engine is not started");
  return device;
}

napi_value Memory(napi_env env, napi_callback_info) {
  Device* device = StartedDevice(env);
  if (device == nullptr) return nullptr;
  const MemoryUse use = device->Memory();
  Object object(env);
  object.Set("currentBytes", static_cast<double>(use.current_bytes));
  object.Set("peakBytes", static_cast<double>(use.peak_bytes));
  object.Set("reservedBytes", static_cast<double>(use.reserved_bytes));
  object.Set("freeBytes", static_cast<double>(use.free_bytes));
  object.Set("totalBytes", static_cast<double>(use.total_bytes));
  return object.value();
}

// The bytes of the last allocation that failed since the last call, or 0.
napi_value TakeFailedAllocation(napi_env env, napi_callback_info) {
  Device* device = StartedDevice(env);
  return device == nullptr ? nullptr : Object::Number(env, static_cast<double>(device->TakeFailedAllocation()));
}

napi_value ResetPeakMemory(napi_env env, napi_callback_info) {
  if (Device* device = StartedDevice(env)) device->ResetPeak();
  return nullptr;
}

// allocateExactly(true or false): for allocations from now on.
napi_value AllocateExactly(napi_env env, napi_callback_info info) {
  Device* device = StartedDevice(env);
  if (device == nullptr) return nullptr;
  size_t count = 1;
  napi_value argument;
  bool exactly = false;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  if (count != 1 || napi_get_value_bool(env, argument, &exactly) != napi_ok) {
    napi_throw_type_error(env, nullptr, "allocateExactly takes true or false");
    return nullptr;
  }
  device->AllocateExactly(exactly);
  return nullptr;
}

napi_value Statistics(napi_env env, napi_callback_info) {
  Device* device = StartedDevice(env);
  if (device == nullptr) return nullptr;
  const Counters& counters = device->counters;
  Object object(env);
  object.Set("uploads", static_cast<double>(counters.uploads));
  object.Set("uploadedBytes", static_cast<double>(counters.uploaded_bytes));
  object.Set("downloads", static_cast<double>(counters.downloads));
  object.Set("downloadedBytes", static_cast<double>(counters.downloaded_bytes));
  object.Set("launches", static_cast<double>(counters.launches));
  object.Set("waits", static_cast<double>(counters.waits));
  object.Set("memoryWaits", static_cast<double>(counters.memory_waits));
  object.Set("partialTrims", static_cast<double>(counters.partial_trims));
  object.Set("fullTrims", static_cast<double>(counters.full_trims));
  object.Set("failedAllocations", static_cast<double>(counters.failed_allocations));
  object.Set("algorithmQueries", static_cast<double>(AlgorithmQueryCount()));
  Object kernels(env);
  for (const KernelBase* kernel : AllKernels()) {
    if (kernel->launches() > 0) kernels.Set(kernel->name().c_str(), static_cast<double>(kernel->launches()));
  }
  if (ProductCount() > 0) kernels.Set("cublasLtMatmul", static_cast<double>(ProductCount()));
  object.Set("kernels", kernels.value());
  return object.value();
}

// The message of the failure that lost the device, or null.
napi_value Failure(napi_env env, napi_callback_info) {
  Device* device = Device::Get();
  return device != nullptr && device->has_failed() ? Object::Text(env, device->failure()) : Null(env);
}

// {version, file} of cuBLASLt.
napi_value Cublas(napi_env env, napi_callback_info) {
  if (StartedDevice(env) == nullptr) return nullptr;
  std::string problem;
  const cublas::Library* library = cublas::OpenCublas(&problem);
  Object object(env);
  object.Set("version", static_cast<double>(library == nullptr ? 0 : library->version));
  object.Set("file", library == nullptr ? std::string() : library->file);
  return object.value();
}

// Waits until everything that was enqueued has run. Throws if the device failed.
napi_value Synchronize(napi_env env, napi_callback_info) {
  Device* device = StartedDevice(env);
  if (device == nullptr) return nullptr;
  device->Synchronize();
  if (device->has_failed()) napi_throw_error(env, nullptr, device->failure().c_str());
  return nullptr;
}

// The ops that have kernels for the GPU.
napi_value Ops(napi_env env, napi_callback_info) {
  return Array(env, AllGpuOps(), [&](const GpuOp& op) { return Object::Text(env, op.name); });
}

// Every kernel with its module, and what is wrong with it (null: it is loaded).
napi_value LoadKernels(napi_env env, napi_callback_info) {
  if (StartedDevice(env) == nullptr) return nullptr;
  return Array(env, AllKernels(), [&](const KernelBase* kernel) {
    Object object(env);
    object.Set("module", kernel->module());
    object.Set("name", kernel->name());
    object.Set("error", NullOrText(env, kernel->Load()));
    return object.value();
  });
}

napi_value Init(napi_env env, napi_value exports) {
  const std::pair<const char*, napi_callback> functions[] = {
      {"describe", Describe},
      {"start", Start},
      {"memory", Memory},
      {"resetPeakMemory", ResetPeakMemory},
      {"takeFailedAllocation", TakeFailedAllocation},
      {"allocateExactly", AllocateExactly},
      {"statistics", Statistics},
      {"failure", Failure},
      {"synchronize", Synchronize},
      {"ops", Ops},
      {"loadKernels", LoadKernels},
      {"cublas", Cublas},
  };
  for (const auto& [name, function] : functions) {
    napi_value value;
    napi_create_function(env, name, NAPI_AUTO_LENGTH, function, nullptr, &value);
    napi_set_named_property(env, exports, name, value);
  }
  return exports;
}

}  // namespace
}  // namespace lorasmith::cuda

NAPI_MODULE(lorasmith_cuda, lorasmith::cuda::Init)
