// The GPU as a pluggable device of TensorFlow: the functions that its StreamExecutor C API asks for.
//
// All of TensorFlow's streams are the device's one stream. TensorFlow ends the process when a copy reports an error
// (pluggable_device_util.cc), so a failure is kept by the device instead, every later op reports it, and what is read
// is filled with NaN.
#include "cuda/host/plugin.h"

#include <dlfcn.h>

#include <chrono>
#include <cstring>

#include "cuda/host/device.h"
#include "tensorflow/c/c_api_experimental.h"
#include "tensorflow/c/experimental/stream_executor/stream_executor.h"

struct SP_Stream_st {
  // The last thing on it was a copy from or to the host: for the host, that is over when the call returns, since what
  // it uploads is in pinned memory and later work follows on the same stream.
  bool ended_with_host_copy = false;
};

struct SP_Event_st {
  void* event = nullptr;
  bool is_over = false;
};

struct SP_Timer_st {
  std::chrono::steady_clock::time_point start;
  uint64_t nanoseconds = 0;
};

namespace lorasmith::cuda {
namespace {

constexpr unsigned kNoTiming = 2;  // CU_EVENT_DISABLE_TIMING

Device& TheDevice() { return *Device::Get(); }

void Ok(TF_Status* status) { TF_SetStatus(status, TF_OK, ""); }

void Report(Result result, TF_Status* status) {
  if (result == kSuccess) {
    Ok(status);
  } else {
    TF_SetStatus(status, TF_INTERNAL, ErrorText(result).c_str());
  }
}

void Allocate(const SP_Device*, uint64_t bytes, int64_t, SP_DeviceMemoryBase* memory) {
  void* at = TheDevice().Allocate(bytes);
  *memory = {SP_DEVICE_MEMORY_BASE_STRUCT_SIZE, nullptr, at, at == nullptr ? 0 : bytes, 0};
}

void Deallocate(const SP_Device*, SP_DeviceMemoryBase* memory) {
  TheDevice().Free(memory->opaque);
  memory->opaque = nullptr;
  memory->size = 0;
}

void* AllocateHost(const SP_Device*, uint64_t bytes) {
  Device& device = TheDevice();
  device.Enter();
  void* at = nullptr;
  return device.driver().cuMemHostAlloc(&at, bytes, 0) == kSuccess ? at : nullptr;
}

void DeallocateHost(const SP_Device*, void* at) {
  Device& device = TheDevice();
  device.Enter();
  device.driver().cuMemFreeHost(at);
}

TF_Bool AllocatorStatistics(const SP_Device*, SP_AllocatorStats* statistics) {
  const MemoryUse use = TheDevice().Memory();
  statistics->struct_size = SP_ALLOCATORSTATS_STRUCT_SIZE;
  statistics->bytes_in_use = static_cast<int64_t>(use.current_bytes);
  statistics->peak_bytes_in_use = static_cast<int64_t>(use.peak_bytes);
  statistics->bytes_reserved = static_cast<int64_t>(use.reserved_bytes);
  statistics->has_bytes_limit = 1;
  statistics->bytes_limit = static_cast<int64_t>(use.total_bytes);
  return 1;
}

TF_Bool MemoryUsage(const SP_Device*, int64_t* free, int64_t* total) {
  const MemoryUse use = TheDevice().Memory();
  *free = static_cast<int64_t>(use.free_bytes);
  *total = static_cast<int64_t>(use.total_bytes);
  return 1;
}

void CreateStream(const SP_Device*, SP_Stream* stream, TF_Status* status) {
  *stream = new SP_Stream_st();
  Ok(status);
}

void DestroyStream(const SP_Device*, SP_Stream stream) { delete stream; }

void DependOn(const SP_Device*, SP_Stream, SP_Stream, TF_Status* status) { Ok(status); }

void StreamStatus(const SP_Device*, SP_Stream, TF_Status* status) { Ok(status); }

void CreateEvent(const SP_Device*, SP_Event* event, TF_Status* status) {
  Device& device = TheDevice();
  device.Enter();
  *event = new SP_Event_st();
  Report(device.driver().cuEventCreate(&(*event)->event, kNoTiming), status);
}

void DestroyEvent(const SP_Device*, SP_Event event) {
  Device& device = TheDevice();
  device.Enter();
  device.driver().cuEventDestroy_v2(event->event);
  delete event;
}

SE_EventStatus EventStatus(const SP_Device*, SP_Event event) {
  Device& device = TheDevice();
  if (event->is_over || device.has_failed()) return SE_EVENT_COMPLETE;
  device.Enter();
  const Result result = device.driver().cuEventQuery(event->event);
  device.Record(result, "waiting for the GPU");
  return result == kNotReady ? SE_EVENT_PENDING : SE_EVENT_COMPLETE;
}

void RecordEvent(const SP_Device*, SP_Stream stream, SP_Event event, TF_Status* status) {
  Ok(status);
  event->is_over = stream->ended_with_host_copy;
  if (event->is_over) return;
  Device& device = TheDevice();
  device.Enter();
  device.Record(device.driver().cuEventRecord(event->event, device.stream()), "recording an event");
}

void WaitForEvent(const SP_Device* const, SP_Stream, SP_Event, TF_Status* const status) { Ok(status); }

void CreateTimer(const SP_Device*, SP_Timer* timer, TF_Status* status) {
  *timer = new SP_Timer_st();
  Ok(status);
}

void DestroyTimer(const SP_Device*, SP_Timer timer) { delete timer; }

void StartTimer(const SP_Device*, SP_Stream, SP_Timer timer, TF_Status* status) {
  TheDevice().Synchronize();
  timer->start = std::chrono::steady_clock::now();
  Ok(status);
}

void StopTimer(const SP_Device*, SP_Stream, SP_Timer timer, TF_Status* status) {
  TheDevice().Synchronize();
  timer->nanoseconds =
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - timer->start).count();
  Ok(status);
}

uint64_t Nanoseconds(SP_Timer timer) { return timer->nanoseconds; }

void SynchronousDownload(const SP_Device*, void* to, const SP_DeviceMemoryBase* from, uint64_t bytes,
                         TF_Status* status) {
  if (TheDevice().Download(to, from->opaque, bytes) != kSuccess) std::memset(to, 0xff, bytes);
  Ok(status);
}

void SynchronousUpload(const SP_Device*, SP_DeviceMemoryBase* to, const void* from, uint64_t bytes, TF_Status* status) {
  TheDevice().Upload(to->opaque, from, bytes);
  Ok(status);
}

void SynchronousCopy(const SP_Device*, SP_DeviceMemoryBase* to, const SP_DeviceMemoryBase* from, uint64_t bytes,
                     TF_Status* status) {
  TheDevice().Copy(to->opaque, from->opaque, bytes);
  TheDevice().Synchronize();
  Ok(status);
}

void Download(const SP_Device* device, SP_Stream stream, void* to, const SP_DeviceMemoryBase* from, uint64_t bytes,
              TF_Status* status) {
  SynchronousDownload(device, to, from, bytes, status);
  stream->ended_with_host_copy = true;
}

void Upload(const SP_Device* device, SP_Stream stream, SP_DeviceMemoryBase* to, const void* from, uint64_t bytes,
            TF_Status* status) {
  SynchronousUpload(device, to, from, bytes, status);
  stream->ended_with_host_copy = true;
}

void Copy(const SP_Device*, SP_Stream stream, SP_DeviceMemoryBase* to, const SP_DeviceMemoryBase* from, uint64_t bytes,
          TF_Status* status) {
  TheDevice().Copy(to->opaque, from->opaque, bytes);
  stream->ended_with_host_copy = false;
  Ok(status);
}

void WaitForEventOnHost(const SP_Device*, SP_Event event, TF_Status* status) {
  Ok(status);
  if (!event->is_over) TheDevice().WaitFor(event->event);
}

void WaitForStream(const SP_Device*, SP_Stream, TF_Status* status) {
  TheDevice().Synchronize();
  Ok(status);
}

void WaitForAll(const SP_Device*, TF_Status* status) {
  TheDevice().Synchronize();
  Ok(status);
}

TF_Bool CallOnHost(const SP_Device*, SP_Stream, SE_StatusCallbackFn function, void* argument) {
  TheDevice().Synchronize();
  TF_Status* status = TF_NewStatus();
  function(argument, status);
  const bool ok = TF_GetCode(status) == TF_OK;
  TF_DeleteStatus(status);
  return ok;
}

void Fill(SP_Stream stream, const SP_DeviceMemoryBase* at, unsigned char value, uint64_t bytes, TF_Status* status) {
  Device& device = TheDevice();
  device.Enter();
  const auto to = reinterpret_cast<DevicePointer>(at->opaque);
  device.Record(device.driver().cuMemsetD8Async(to, value, bytes, device.stream()), "filling memory");
  stream->ended_with_host_copy = false;
  Ok(status);
}

void Zero(const SP_Device*, SP_Stream stream, SP_DeviceMemoryBase* at, uint64_t bytes, TF_Status* status) {
  Fill(stream, at, 0, bytes, status);
}

void FillBytes(const SP_Device*, SP_Stream stream, SP_DeviceMemoryBase* at, uint8_t value, uint64_t bytes,
               TF_Status* status) {
  Fill(stream, at, value, bytes, status);
}

void FillWords(const SP_Device*, SP_Stream stream, SP_DeviceMemoryBase* at, uint32_t value, uint64_t bytes,
               TF_Status* status) {
  Device& device = TheDevice();
  device.Enter();
  const auto to = reinterpret_cast<DevicePointer>(at->opaque);
  device.Record(device.driver().cuMemsetD32Async(to, value, bytes / 4, device.stream()), "filling memory");
  stream->ended_with_host_copy = false;
  Ok(status);
}

void CreateExecutor(const SP_Platform*, SE_CreateStreamExecutorParams* parameters, TF_Status* status) {
  SP_StreamExecutor& executor = *parameters->stream_executor;
  executor.struct_size = SP_STREAMEXECUTOR_STRUCT_SIZE;
  executor.allocate = Allocate;
  executor.deallocate = Deallocate;
  executor.host_memory_allocate = AllocateHost;
  executor.host_memory_deallocate = DeallocateHost;
  executor.get_allocator_stats = AllocatorStatistics;
  executor.device_memory_usage = MemoryUsage;
  executor.create_stream = CreateStream;
  executor.destroy_stream = DestroyStream;
  executor.create_stream_dependency = DependOn;
  executor.get_stream_status = StreamStatus;
  executor.create_event = CreateEvent;
  executor.destroy_event = DestroyEvent;
  executor.get_event_status = EventStatus;
  executor.record_event = RecordEvent;
  executor.wait_for_event = WaitForEvent;
  executor.create_timer = CreateTimer;
  executor.destroy_timer = DestroyTimer;
  executor.start_timer = StartTimer;
  executor.stop_timer = StopTimer;
  executor.memcpy_dtoh = Download;
  executor.memcpy_htod = Upload;
  executor.memcpy_dtod = Copy;
  executor.sync_memcpy_dtoh = SynchronousDownload;
  executor.sync_memcpy_htod = SynchronousUpload;
  executor.sync_memcpy_dtod = SynchronousCopy;
  executor.block_host_for_event = WaitForEventOnHost;
  executor.block_host_until_done = WaitForStream;
  executor.synchronize_all_activity = WaitForAll;
  executor.mem_zero = Zero;
  executor.memset = FillBytes;
  executor.memset32 = FillWords;
  executor.host_callback = CallOnHost;
  Ok(status);
}

// TensorFlow sees the device that was opened, and no other.
void CountDevices(const SP_Platform*, int* count, TF_Status* status) {
  *count = 1;
  Ok(status);
}

void CreateDevice(const SP_Platform*, SE_CreateDeviceParams* parameters, TF_Status* status) {
  SP_Device& device = *parameters->device;
  device.struct_size = SP_DEVICE_STRUCT_SIZE;
  device.ordinal = parameters->ordinal;
  device.hardware_name = TheDevice().description().name.c_str();
  device.device_vendor = "NVIDIA";
  Ok(status);
}

void CreateDeviceFunctions(const SP_Platform*, SE_CreateDeviceFnsParams* parameters, TF_Status* status) {
  parameters->device_fns->struct_size = SP_DEVICE_FNS_STRUCT_SIZE;
  parameters->device_fns->get_numa_node = [](const SP_Device*) -> int32_t { return 0; };
  Ok(status);
}

void CreateTimerFunctions(const SP_Platform*, SP_TimerFns* functions, TF_Status* status) {
  functions->struct_size = SP_TIMER_FNS_STRUCT_SIZE;
  functions->nanoseconds = Nanoseconds;
  Ok(status);
}

}  // namespace

std::string LoadPlugin() {
  // TensorFlow calls SE_InitPlugin of the file that it is given: this one.
  Dl_info own;
  if (dladdr(reinterpret_cast<void*>(&LoadPlugin), &own) == 0) return "the addon does not know its own file";
  TF_Status* status = TF_NewStatus();
  TF_LoadPluggableDeviceLibrary(own.dli_fname, status);
  std::string problem = TF_GetCode(status) == TF_OK ? "" : TF_Message(status);
  TF_DeleteStatus(status);
  return problem;
}

void DescribePlugin(SE_PlatformRegistrationParams* parameters) {
  SP_Platform& platform = *parameters->platform;
  platform.struct_size = SP_PLATFORM_STRUCT_SIZE;
  platform.name = "LORASMITH";
  platform.type = "GPU";
  platform.use_bfc_allocator = 0;
  SP_PlatformFns& functions = *parameters->platform_fns;
  functions.struct_size = SP_PLATFORM_FNS_STRUCT_SIZE;
  functions.get_device_count = CountDevices;
  functions.create_device = CreateDevice;
  functions.destroy_device = [](const SP_Platform*, SP_Device*) {};
  functions.create_device_fns = CreateDeviceFunctions;
  functions.destroy_device_fns = [](const SP_Platform*, SP_DeviceFns*) {};
  functions.create_stream_executor = CreateExecutor;
  functions.destroy_stream_executor = [](const SP_Platform*, SP_StreamExecutor*) {};
  functions.create_timer_fns = CreateTimerFunctions;
  functions.destroy_timer_fns = [](const SP_Platform*, SP_TimerFns*) {};
  parameters->destroy_platform = [](SP_Platform*) {};
  parameters->destroy_platform_fns = [](SP_PlatformFns*) {};
}

}  // namespace lorasmith::cuda

extern "C" __attribute__((visibility("default"))) void SE_InitPlugin(SE_PlatformRegistrationParams* parameters,
                                                                     TF_Status* status) {
  lorasmith::cuda::DescribePlugin(parameters);
  TF_SetStatus(status, TF_OK, "");
}
