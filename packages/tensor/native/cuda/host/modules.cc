#include "cuda/host/modules.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <type_traits>
#include <vector>

#include "cuda/host/device.h"

namespace lorasmith::cuda {
namespace {

// gzip, decompressed with the zlib that Node exports to addons (https://nodejs.org/api/addons.html), so that nothing is
// linked and no header of zlib is needed.

// z_stream.
struct Stream {
  const unsigned char* next_in = nullptr;
  unsigned available_in = 0;
  unsigned long total_in = 0;
  unsigned char* next_out = nullptr;
  unsigned available_out = 0;
  unsigned long total_out = 0;
  const char* message = nullptr;
  void* state = nullptr;
  void* (*allocate)(void*, unsigned, unsigned) = nullptr;
  void (*free)(void*, void*) = nullptr;
  void* opaque = nullptr;
  int data_type = 0;
  unsigned long checksum = 0;
  unsigned long reserved = 0;
};
static_assert(sizeof(void*) != 8 || sizeof(Stream) == 112, "as in zlib.h");

constexpr int kOk = 0, kStreamEnd = 1;
constexpr int kNoFlush = 0;
constexpr int kGzip = 15 + 16;  // the largest window, and gzip's header with its checksum
constexpr size_t kLeastBytes = size_t{1} << 16;

struct Zlib {
  int (*inflateInit2_)(Stream* stream, int window_bits, const char* version, int stream_bytes);
  int (*inflate)(Stream* stream, int flush);
  int (*inflateEnd)(Stream* stream);

  Zlib() {
    const auto find = [](auto* function, const char* name) {
      *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(dlsym(RTLD_DEFAULT, name));
    };
    find(&inflateInit2_, "inflateInit2_");
    find(&inflate, "inflate");
    find(&inflateEnd, "inflateEnd");
  }

  bool is_there() const { return inflateInit2_ != nullptr && inflate != nullptr && inflateEnd != nullptr; }
};

// The content of one gzip file, of at most `most_bytes`. Empty on success, else what is wrong with it.
std::string Decompress(const std::vector<char>& file, size_t most_bytes, std::vector<char>* content) {
  static const Zlib zlib;
  if (!zlib.is_there()) return "this Node does not export zlib, which decompresses it";
  if (file.size() > UINT32_MAX) return "it is too large";
  Stream stream;
  stream.next_in = reinterpret_cast<const unsigned char*>(file.data());
  stream.available_in = static_cast<unsigned>(file.size());
  if (zlib.inflateInit2_(&stream, kGzip, "1", sizeof(stream)) != kOk) return "zlib does not start";
  int status = kOk;
  size_t bytes = 0;
  while (status == kOk && bytes < most_bytes) {
    content->resize(std::min(most_bytes, std::max({kLeastBytes, 8 * file.size(), 2 * bytes})));
    stream.next_out = reinterpret_cast<unsigned char*>(content->data()) + bytes;
    const size_t space = std::min<size_t>(content->size() - bytes, UINT32_MAX);
    stream.available_out = static_cast<unsigned>(space);
    status = zlib.inflate(&stream, kNoFlush);
    bytes += space - stream.available_out;
  }
  const std::string message = stream.message == nullptr ? "" : std::string(": ") + stream.message;
  const bool is_whole = status == kStreamEnd && stream.available_in == 0;
  zlib.inflateEnd(&stream);
  content->resize(bytes);
  if (is_whole) return "";
  return "it is damaged" + (status == kOk && bytes == most_bytes ? ": it is too large" : message);
}

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
