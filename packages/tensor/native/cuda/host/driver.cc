#include "cuda/host/driver.h"

#include <dlfcn.h>

#include <cstdlib>

namespace lorasmith::cuda {
namespace {

constexpr int kLeastVersion = 12000;

std::string VersionText(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

struct Opened {
  Driver table;
  const Driver* driver = nullptr;
  int version = 0;
  std::string problem;

  Opened() {
    void* library = OpenLibrary("libcuda.so.1");
    if (library == nullptr) {
      problem = "NVIDIA's driver is not found (libcuda.so.1)";
      return;
    }
    table.cuDriverGetVersion = reinterpret_cast<Result (*)(int*)>(dlsym(library, "cuDriverGetVersion"));
    if (table.cuDriverGetVersion == nullptr || table.cuDriverGetVersion(&version) != kSuccess) {
      problem = "libcuda.so.1 is not NVIDIA's driver: it has no version";
      return;
    }
    if (version < kLeastVersion) {
      problem = "NVIDIA's driver is too old: it has CUDA " + VersionText(version) +
                ", and at least CUDA 12.0 is needed (driver 525 or later)";
      return;
    }
    const char* missing = nullptr;
#define LORASMITH_RESOLVE(name, parameters)                                   \
  table.name = reinterpret_cast<Result(*) parameters>(dlsym(library, #name)); \
  if (table.name == nullptr && missing == nullptr) missing = #name;
    LORASMITH_DRIVER_FUNCTIONS(LORASMITH_RESOLVE)
#undef LORASMITH_RESOLVE
    table.cuFuncGetParamInfo =
        reinterpret_cast<Result (*)(void*, size_t, size_t*, size_t*)>(dlsym(library, "cuFuncGetParamInfo"));
    if (missing != nullptr) {
      problem = std::string("NVIDIA's driver has no function ") + missing;
      return;
    }
    driver = &table;
  }
};

Opened& TheDriver() {
  // Never destroyed: threads of TensorFlow may still call it when the process ends.
  static Opened* const opened = new Opened();
  return *opened;
}

}  // namespace

const Driver* OpenDriver(std::string* problem) {
  const Opened& opened = TheDriver();
  if (problem != nullptr) *problem = opened.problem;
  return opened.driver;
}

int DriverVersion() { return TheDriver().version; }

void* OpenLibrary(const std::string& name) {
  const auto open = [](const std::string& file) { return dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL); };
  void* library = nullptr;
  const char* folder = std::getenv("CUDA_LIBRARY_DIR");
  if (folder != nullptr && *folder != '\0') library = open(std::string(folder) + "/" + name);
  if (library == nullptr) library = open(name);
  Dl_info own;
  if (library == nullptr && dladdr(reinterpret_cast<void*>(&OpenLibrary), &own) != 0) {
    const std::string addon = own.dli_fname;
    library = open(addon.substr(0, addon.rfind('/') + 1) + "cuda/lib/" + name);
  }
  return library;
}

std::string ErrorText(Result error) {
  const char* name = nullptr;
  const char* text = nullptr;
  const Driver* driver = TheDriver().driver;
  if (driver != nullptr) {
    driver->cuGetErrorName(error, &name);
    driver->cuGetErrorString(error, &text);
  }
  return std::string(name == nullptr ? "CUDA_ERROR" : name) + " (" + std::to_string(error) + ")" +
         (text == nullptr ? "" : std::string(": ") + text);
}

bool IsSticky(Result error) {
  switch (error) {
    case 4:    // CUDA_ERROR_DEINITIALIZED
    case 46:   // CUDA_ERROR_DEVICE_UNAVAILABLE
    case 214:  // CUDA_ERROR_ECC_UNCORRECTABLE
    case 220:  // CUDA_ERROR_NVLINK_UNCORRECTABLE
    case 226:  // CUDA_ERROR_CONTAINED
    case 700:  // CUDA_ERROR_ILLEGAL_ADDRESS
    case 702:  // CUDA_ERROR_LAUNCH_TIMEOUT
    case 709:  // CUDA_ERROR_CONTEXT_IS_DESTROYED
    case 999:  // CUDA_ERROR_UNKNOWN
      return true;
    default:  // from CUDA_ERROR_ASSERT to CUDA_ERROR_LAUNCH_FAILED
      return error >= 710 && error <= 719 && error != 712 && error != 713;
  }
}

}  // namespace lorasmith::cuda
