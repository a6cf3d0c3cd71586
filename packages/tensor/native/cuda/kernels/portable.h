// What headers need that both kernels and host code include. NVRTC has no standard headers, and compiles no function
// that is for the host only.
#pragma once

#if defined(__CUDACC_RTC__)

typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef unsigned long uintptr_t;

#define HOST_DEVICE __host__ __device__

#else

#include <cstdint>

#define HOST_DEVICE

#endif
