// What the emulated driver refuses and notices. `driver_test CASE` runs one case in a process, since a failure of the
// card stays. The library is found by CUDA_LIBRARY_DIR, the module is the file of the environment variable MODULE.
#include "cuda/host/driver.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>

using namespace lorasmith::cuda;

namespace {

const Driver* driver;
void* context;
void* stream;
void* pool;

void Expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::exit(1);
}
#define EXPECT(condition) Expect(condition, #condition)

DevicePointer Allocate(size_t bytes) {
  DevicePointer at = 0;
  EXPECT(driver->cuMemAllocFromPoolAsync(&at, bytes, pool, stream) == kSuccess);
  return at;
}

void Upload(DevicePointer to, const std::vector<float>& numbers) {
  EXPECT(driver->cuMemcpyHtoDAsync_v2(to, numbers.data(), 4 * numbers.size(), stream) == kSuccess);
}

std::vector<float> Download(DevicePointer from, size_t count) {
  std::vector<float> numbers(count);
  EXPECT(driver->cuMemcpyDtoHAsync_v2(numbers.data(), from, 4 * count, stream) == kSuccess);
  EXPECT(driver->cuStreamSynchronize(stream) == kSuccess);
  return numbers;
}

// The norm of one row: x [width], weight [width] → y [width].
struct Norm {
  int width = 40;
  float epsilon = 0;
  int packed = 0;
  DevicePointer x = Allocate(4 * 40), weight = Allocate(4 * 40), y = Allocate(4 * 40), inverse_rms = Allocate(4);
  void* function = nullptr;

  Norm() {
    std::ifstream file(std::getenv("MODULE"), std::ios::binary);
    std::vector<char> image{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    void* module = nullptr;
    EXPECT(driver->cuModuleLoadDataEx(&module, image.data(), 0, nullptr, nullptr) == kSuccess);
    EXPECT(driver->cuModuleGetFunction(&function, module, "NoSuchKernel") == kNotFound);
    EXPECT(driver->cuModuleGetFunction(&function, module, "RmsNormFloat32") == kSuccess);
    std::vector<float> numbers(40);
    for (int i = 0; i < 40; i++) numbers[i] = std::sin(static_cast<float>(i));
    Upload(x, numbers);
    Upload(weight, std::vector<float>(40, 1));
  }

  Result Launch(unsigned threads = 256, unsigned shared_bytes = 0, unsigned blocks = 1) {
    void* arguments[] = {&x, &weight, &width, &epsilon, &packed, &y, &inverse_rms};
    return driver->cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, shared_bytes, stream, arguments, nullptr);
  }
};

const std::map<std::string, std::function<void()>> kCases{
    {"result",
     [] {
       Norm norm;
       EXPECT(norm.Launch() == kSuccess);
       double squares = 0;
       for (int i = 0; i < 40; i++) squares += std::sin(static_cast<float>(i)) * std::sin(static_cast<float>(i));
       const std::vector<float> y = Download(norm.y, 40);
       for (int i = 0; i < 40; i++) EXPECT(std::abs(y[i] - std::sin(i) / std::sqrt(squares / 40)) < 1e-5);
     }},
    {"parameters",
     [] {
       Norm norm;
       size_t offset = 0, bytes = 0;
       EXPECT(driver->cuFuncGetParamInfo(norm.function, 4, &offset, &bytes) == kSuccess && bytes == 4 && offset == 24);
       EXPECT(driver->cuFuncGetParamInfo(norm.function, 5, &offset, &bytes) == kSuccess && bytes == 8 && offset == 32);
       EXPECT(driver->cuFuncGetParamInfo(norm.function, 7, &offset, &bytes) == kInvalidValue);
     }},
    {"launch limits",
     [] {
       Norm norm;
       // Beyond __launch_bounds__(256), and without blocks.
       EXPECT(norm.Launch(257) == kInvalidValue);
       EXPECT(norm.Launch(0) == kInvalidValue);
       EXPECT(norm.Launch(256, 0, 0) == kInvalidValue);
       // The kernel's own shared memory counts, too.
       EXPECT(norm.Launch(256, 48 << 10) == kInvalidValue);
       EXPECT(driver->cuFuncSetAttribute(norm.function, kMaxDynamicSharedBytes, 232448) == kInvalidValue);
       EXPECT(driver->cuFuncSetAttribute(norm.function, kMaxDynamicSharedBytes, 200 << 10) == kSuccess);
       EXPECT(norm.Launch(256, 200 << 10) == kSuccess);
     }},
    {"no context",
     [] {
       std::thread([] {
         EXPECT(driver->cuStreamSynchronize(stream) == 201);
         EXPECT(driver->cuCtxSetCurrent(context) == kSuccess);
         EXPECT(driver->cuStreamSynchronize(stream) == kSuccess);
       }).join();
     }},
    {"memory",
     [] {
       const DevicePointer at = Allocate(4 * 100);
       for (float number : Download(at, 100)) EXPECT(std::isnan(number));
       std::vector<float> numbers(101);
       EXPECT(driver->cuMemcpyDtoHAsync_v2(numbers.data(), at, 4 * 101, stream) == kInvalidValue);
       EXPECT(driver->cuMemcpyHtoDAsync_v2(at + 4, numbers.data(), 4 * 100, stream) == kInvalidValue);
       EXPECT(driver->cuMemsetD8Async(at, 0, 4 * 100, stream) == kSuccess);
       for (float number : Download(at, 100)) EXPECT(number == 0);
       EXPECT(driver->cuMemFreeAsync(at, stream) == kSuccess);
       EXPECT(driver->cuMemFreeAsync(at, stream) == kInvalidValue);
       EXPECT(driver->cuMemcpyDtoHAsync_v2(numbers.data(), at, 4, stream) == kInvalidValue);
       DevicePointer large = 0;
       EXPECT(driver->cuMemAllocFromPoolAsync(&large, size_t{9} << 30, pool, stream) == kOutOfMemory);
     }},
    // Pinned memory is read when the copy runs, not when it is enqueued.
    {"late upload",
     [] {
       void* pinned = nullptr;
       EXPECT(driver->cuMemHostAlloc(&pinned, 4, 0) == kSuccess);
       const DevicePointer at = Allocate(4);
       *static_cast<float*>(pinned) = 1;
       EXPECT(driver->cuMemcpyHtoDAsync_v2(at, pinned, 4, stream) == kSuccess);
       *static_cast<float*>(pinned) = 2;
       EXPECT(Download(at, 1)[0] == 2);
       // Other memory is read at once.
       std::vector<float> number{3};
       Upload(at, number);
       number[0] = 4;
       EXPECT(Download(at, 1)[0] == 3);
     }},
    // These lose the card, as a card would be lost, or says more than a card would.
    {"write beyond an allocation",
     [] {
       Norm norm;
       norm.y = Allocate(4 * 32);
       EXPECT(norm.Launch() == kSuccess);
       EXPECT(driver->cuMemFreeAsync(norm.y, stream) == 700);
       EXPECT(driver->cuStreamSynchronize(stream) == 700);
     }},
    {"host memory in a kernel",
     [] {
       Norm norm;
       std::vector<float> host(40);
       norm.y = reinterpret_cast<DevicePointer>(host.data());
       EXPECT(norm.Launch() == kSuccess);
       EXPECT(driver->cuStreamSynchronize(stream) == 700);
       EXPECT(norm.Launch() == 700);
     }},
    {"freed memory in a kernel",
     [] {
       Norm norm;
       EXPECT(driver->cuMemFreeAsync(norm.x, stream) == kSuccess);
       EXPECT(norm.Launch() == kSuccess);
       EXPECT(driver->cuStreamSynchronize(stream) == 700);
     }},
    // EMULATED_GPU_BREAK=RmsNormFloat32:…
    {"skip",
     [] {
       Norm norm;
       EXPECT(norm.Launch() == kSuccess);
       EXPECT(std::isnan(Download(norm.y, 1)[0]));
     }},
    {"flip",
     [] {
       Norm norm;
       std::vector<std::vector<float>> results;
       for (int launch = 0; launch < 3; launch++) {
         EXPECT(norm.Launch() == kSuccess);
         results.push_back(Download(norm.y, 40));
       }
       EXPECT(results[0][0] != results[1][0] && std::abs(results[0][0] - results[1][0]) < 1e-6);
       EXPECT(results[0] == results[2]);
     }},
    {"wrong",
     [] {
       Norm norm;
       const auto first = [&] {
         EXPECT(norm.Launch() == kSuccess);
         return Download(norm.y, 2);
       };
       // The first number is zero, and the row's others are right.
       EXPECT(first() == first() && first()[0] != 0 && first()[1] > 0);
     }},
    // EMULATED_GPU_BREAK=RmsNormFloat32:wrong:RmsNormFloat32
    {"wrong after a kernel",
     [] {
       Norm norm;
       const auto first = [&] {
         EXPECT(norm.Launch() == kSuccess);
         return Download(norm.y, 1)[0];
       };
       EXPECT(first() == 0 && first() != 0);
     }},
    // EMULATED_GPU_BREAK=RmsNormFloat32:wrong:AddRmsNormFloat32
    {"wrong after a kernel that is never launched",
     [] {
       Norm norm;
       EXPECT(norm.Launch() == kSuccess && norm.Launch() == kSuccess);
       EXPECT(Download(norm.y, 1)[0] == 0);
     }},
};

}  // namespace

int main(int, char** arguments) {
  std::string problem;
  driver = OpenDriver(&problem);
  int device = 0;
  EXPECT(driver != nullptr && driver->cuInit(0) == kSuccess && driver->cuDeviceGet(&device, 0) == kSuccess);
  EXPECT(driver->cuDevicePrimaryCtxRetain(&context, device) == kSuccess);
  EXPECT(driver->cuCtxSetCurrent(context) == kSuccess && driver->cuStreamCreate(&stream, 1) == kSuccess);
  const PoolProperties properties;
  EXPECT(driver->cuMemPoolCreate(&pool, &properties) == kSuccess);
  kCases.at(arguments[1])();
  std::printf("as expected\n");
}
