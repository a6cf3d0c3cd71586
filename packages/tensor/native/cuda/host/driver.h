// The functions of NVIDIA's driver that this library uses. libcuda.so.1 is opened when the process asks for a GPU, so
// nothing is linked to it and no header of CUDA is needed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace lorasmith::cuda {

using Result = int;
using DevicePointer = uint64_t;

struct Uuid {
  unsigned char bytes[16];
};

// CUmemPoolProps.
struct PoolProperties {
  int allocation_type = 1;  // CU_MEM_ALLOCATION_TYPE_PINNED: memory of the device
  int handle_types = 0;
  int location_type = 1;  // CU_MEM_LOCATION_TYPE_DEVICE
  int location_id = 0;
  void* security_attributes = nullptr;
  size_t max_size = 0;
  unsigned short usage = 0;
  unsigned char reserved[54] = {};
};
static_assert(sizeof(PoolProperties) == 88, "as in cuda.h");

enum : Result {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kNotFound = 500,
  kNotReady = 600,
};

// CUdevice_attribute.
enum : int {
  kMultiprocessorCount = 16,
  kMemoryClockKilohertz = 36,
  kMemoryBusBits = 37,
  kCapabilityMajor = 75,
  kCapabilityMinor = 76,
  kSharedMemoryPerBlockOptin = 97,
  kMemoryPoolsSupported = 115,
};

// CUmemPool_attribute.
enum : int {
  kReleaseThreshold = 4,
  kReservedCurrent = 5,
  kReservedHigh = 6,
  kUsedCurrent = 7,
  kUsedHigh = 8,
};

// CUfunction_attribute.
enum : int {
  kMaxDynamicSharedBytes = 8,
  // Percent of a multiprocessor's memory that blocks share rather than have as a cache. A hint.
  kSharedMemoryCarveout = 9,
};

// CUjit_option.
enum : int {
  kJitErrorLogBuffer = 5,
  kJitErrorLogBytes = 6,
};

// name, parameters
#define LORASMITH_DRIVER_FUNCTIONS(FUNCTION)                                                                       \
  FUNCTION(cuInit, (unsigned flags))                                                                               \
  FUNCTION(cuDriverGetVersion, (int* version))                                                                     \
  FUNCTION(cuGetErrorName, (Result error, const char** name))                                                      \
  FUNCTION(cuGetErrorString, (Result error, const char** text))                                                    \
  FUNCTION(cuDeviceGetCount, (int* count))                                                                         \
  FUNCTION(cuDeviceGet, (int* device, int ordinal))                                                                \
  FUNCTION(cuDeviceGetName, (char* name, int size, int device))                                                    \
  FUNCTION(cuDeviceGetUuid_v2, (Uuid * uuid, int device))                                                          \
  FUNCTION(cuDeviceGetAttribute, (int* value, int attribute, int device))                                          \
  FUNCTION(cuDeviceTotalMem_v2, (size_t* bytes, int device))                                                       \
  FUNCTION(cuDevicePrimaryCtxRetain, (void** context, int device))                                                 \
  FUNCTION(cuDevicePrimaryCtxRelease_v2, (int device))                                                             \
  FUNCTION(cuCtxSetCurrent, (void* context))                                                                       \
  FUNCTION(cuMemGetInfo_v2, (size_t* free, size_t* total))                                                         \
  FUNCTION(cuMemPoolCreate, (void** pool, const PoolProperties* properties))                                       \
  FUNCTION(cuMemPoolSetAttribute, (void* pool, int attribute, void* value))                                        \
  FUNCTION(cuMemPoolGetAttribute, (void* pool, int attribute, void* value))                                        \
  FUNCTION(cuMemPoolTrimTo, (void* pool, size_t bytes))                                                            \
  FUNCTION(cuMemAllocFromPoolAsync, (DevicePointer * at, size_t bytes, void* pool, void* stream))                  \
  FUNCTION(cuMemFreeAsync, (DevicePointer at, void* stream))                                                       \
  FUNCTION(cuMemHostAlloc, (void** at, size_t bytes, unsigned flags))                                              \
  FUNCTION(cuMemFreeHost, (void* at))                                                                              \
  FUNCTION(cuMemcpyHtoDAsync_v2, (DevicePointer to, const void* from, size_t bytes, void* stream))                 \
  FUNCTION(cuMemcpyDtoHAsync_v2, (void* to, DevicePointer from, size_t bytes, void* stream))                       \
  FUNCTION(cuMemcpyDtoDAsync_v2, (DevicePointer to, DevicePointer from, size_t bytes, void* stream))               \
  FUNCTION(cuMemsetD8Async, (DevicePointer at, unsigned char value, size_t count, void* stream))                   \
  FUNCTION(cuMemsetD32Async, (DevicePointer at, unsigned value, size_t count, void* stream))                       \
  FUNCTION(cuStreamCreate, (void** stream, unsigned flags))                                                        \
  FUNCTION(cuStreamSynchronize, (void* stream))                                                                    \
  FUNCTION(cuEventCreate, (void** event, unsigned flags))                                                          \
  FUNCTION(cuEventDestroy_v2, (void* event))                                                                       \
  FUNCTION(cuEventRecord, (void* event, void* stream))                                                             \
  FUNCTION(cuEventQuery, (void* event))                                                                            \
  FUNCTION(cuEventSynchronize, (void* event))                                                                      \
  FUNCTION(cuEventElapsedTime, (float* milliseconds, void* start, void* end))                                      \
  FUNCTION(cuModuleLoadDataEx,                                                                                     \
           (void** module, const void* image, unsigned options, const int* names, void* const* values))            \
  FUNCTION(cuModuleGetFunction, (void** function, void* module, const char* name))                                 \
  FUNCTION(cuFuncSetAttribute, (void* function, int attribute, int value))                                         \
  FUNCTION(cuLaunchKernel,                                                                                         \
           (void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, \
            unsigned block_z, unsigned shared_bytes, void* stream, void** parameters, void** extra))

// The table of these functions: driver->cuInit(0).
struct Driver {
  // Since CUDA 12.4; null before.
  Result (*cuFuncGetParamInfo)(void* function, size_t index, size_t* offset, size_t* bytes) = nullptr;

#define LORASMITH_DECLARE(name, parameters) Result(*name) parameters = nullptr;
  LORASMITH_DRIVER_FUNCTIONS(LORASMITH_DECLARE)
#undef LORASMITH_DECLARE
};

// Opens the driver once. Null when there is none, or a function is missing; `problem` says why.
const Driver* OpenDriver(std::string* problem);

// CUDA's version that the driver supports, such as 12040; 0 without a driver.
int DriverVersion();

// Opens a library of NVIDIA: in the folder that CUDA_LIBRARY_DIR names if it is there, else where the system has it,
// else in `cuda/lib` beside this addon.
void* OpenLibrary(const std::string& name);

// "CUDA_ERROR_ILLEGAL_ADDRESS (700): an illegal memory access was encountered"
std::string ErrorText(Result error);

// Errors after which the context is lost: every later call of this process fails with the same one.
bool IsSticky(Result error);

}  // namespace lorasmith::cuda
