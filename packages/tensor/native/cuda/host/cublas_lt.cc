#include "cuda/host/cublas_lt.h"

#include <dlfcn.h>

#include "cuda/host/driver.h"

namespace lorasmith::cuda::cublas {
namespace {

struct Opened {
  Library table;
  const Library* library = nullptr;
  std::string problem;

  Opened() {
    void* file = nullptr;
    for (const char* name : {"libcublasLt.so.12", "libcublasLt.so.13"}) {
      if (file == nullptr) file = OpenLibrary(name);
    }
    if (file == nullptr) {
      problem = "cuBLASLt is not found (libcublasLt.so.12)";
      return;
    }
    const char* missing = nullptr;
#define LORASMITH_RESOLVE(name, parameters)                                \
  table.name = reinterpret_cast<Status(*) parameters>(dlsym(file, #name)); \
  if (table.name == nullptr && missing == nullptr) missing = #name;
    LORASMITH_CUBLAS_FUNCTIONS(LORASMITH_RESOLVE)
#undef LORASMITH_RESOLVE
    if (missing != nullptr) {
      problem = std::string("cuBLASLt has no function ") + missing;
      return;
    }
    const auto version = reinterpret_cast<size_t (*)()>(dlsym(file, "cublasLtGetVersion"));
    if (version != nullptr) table.version = version();
    Dl_info info;
    if (dladdr(reinterpret_cast<void*>(table.cublasLtCreate), &info) != 0) table.file = info.dli_fname;
    const Status status = table.cublasLtCreate(&table.handle);
    if (status == kSuccess) {
      library = &table;
    } else {
      problem = "cuBLASLt does not start: " + StatusText(status);
    }
  }
};

}  // namespace

const Library* OpenCublas(std::string* problem) {
  static Opened* const opened = new Opened();
  if (opened->library == nullptr) *problem = opened->problem;
  return opened->library;
}

std::string StatusText(Status status) {
  const char* name = "CUBLAS_STATUS";
  switch (status) {
    case 1:
      name = "CUBLAS_STATUS_NOT_INITIALIZED";
      break;
    case 3:
      name = "CUBLAS_STATUS_ALLOC_FAILED";
      break;
    case 7:
      name = "CUBLAS_STATUS_INVALID_VALUE";
      break;
    case 8:
      name = "CUBLAS_STATUS_ARCH_MISMATCH";
      break;
    case 13:
      name = "CUBLAS_STATUS_EXECUTION_FAILED";
      break;
    case 14:
      name = "CUBLAS_STATUS_INTERNAL_ERROR";
      break;
    case 15:
      name = "CUBLAS_STATUS_NOT_SUPPORTED";
      break;
    default:
      break;
  }
  return std::string(name) + " (" + std::to_string(status) + ")";
}

}  // namespace lorasmith::cuda::cublas
