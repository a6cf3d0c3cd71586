#include "cuda/host/modules.h"

#include <dlfcn.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <vector>

#include "cuda/host/device.h"
#include "cuda/host/gzip.h"

namespace lorasmith::cuda {
namespace {

constexpr const char* kIntermediate = "compute_80";
// Far more than any module has: a limit for damaged files.
constexpr size_t kMostBytes = size_t{64} << 20;

// CUDA_KERNEL_DIR, or `cuda` beside this addon.
std::string KernelFolder() {
  const char* given = std::getenv("CUDA_KERNEL_DIR");
  if (given != nullptr && *given != '\0') return given;
  Dl_info own;
  if (dladdr(reinterpret_cast<void*>(&LoadModule), &own) == 0) return "cuda";
  const std::string file = own.dli_fname;
  return file.substr(0, file.rfind('/') + 1) + "cuda";
}

bool ReadFile(const std::string& path, std::vector<char>* content) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return false;
  content->assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  return true;
}

struct Image {
  std::string path;
  std::vector<char> file;
};

// A card runs machine code of its major version and a minor one up to its own. Else the driver compiles PTX.
bool FindImage(const std::string& name, const DeviceDescription& device, Image* image) {
  const std::string folder = KernelFolder();
  for (int minor = device.capability_minor; minor >= 0; minor--) {
    image->path =
        folder + "/sm_" + std::to_string(device.capability_major) + std::to_string(minor) + "/" + name + ".cubin.gz";
    if (ReadFile(image->path, &image->file)) return true;
  }
  image->path = folder + "/" + kIntermediate + "/" + name + ".ptx.gz";
  return ReadFile(image->path, &image->file);
}

void* Load(const std::string& name, std::string* problem) {
  Device& device = *Device::Get();
  Image image;
  if (!FindImage(name, device.description(), &image)) {
    *problem = "kernel module " + name + " is missing: there is no " + image.path +
               ", nor machine code for compute capability " + std::to_string(device.description().capability_major) +
               "." + std::to_string(device.description().capability_minor) + " beside it";
    return nullptr;
  }
  std::vector<char> content;
  if (const std::string damage = Decompress(image.file, kMostBytes, &content); !damage.empty()) {
    *problem = "kernel module " + name + " cannot be read (" + image.path + "): " + damage;
    return nullptr;
  }
  content.push_back('\0');  // PTX is a text that ends in a zero
  char log[4096] = {};
  const int options[] = {kJitErrorLogBuffer, kJitErrorLogBytes};
  void* const values[] = {log, reinterpret_cast<void*>(sizeof(log) - 1)};
  void* module = nullptr;
  const auto load = [&] { return device.driver().cuModuleLoadDataEx(&module, content.data(), 2, options, values); };
  Result result = load();
  if (result == kOutOfMemory) {
    device.Trim("loading kernel module " + name);
    result = load();
  }
  device.Record(result, "loading kernel module " + name);
  if (result == kSuccess) return module;
  *problem = "kernel module " + name + " does not load (" + image.path + "): " + ErrorText(result);
  if (log[0] != '\0') *problem += std::string("; ") + log;
  return nullptr;
}

}  // namespace

void* LoadModule(const std::string& name, std::string* problem) {
  static std::mutex mutex;
  static auto* const modules = new std::map<std::string, void*>();
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = modules->find(name);
  if (found != modules->end()) return found->second;
  void* module = Load(name, problem);
  if (module != nullptr) modules->emplace(name, module);
  return module;
}

}  // namespace lorasmith::cuda
