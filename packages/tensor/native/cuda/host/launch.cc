#include "cuda/host/launch.h"

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

// The compiled kernels are native/build/cuda/<architecture>/NAME.cubin.gz, or compute_80/NAME.ptx.gz. They are
// decompressed with the zlib that Node exports to addons (https://nodejs.org/api/addons.html), so that nothing is
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
  if (dladdr(reinterpret_cast<void*>(&AllKernels), &own) == 0) return "cuda";
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

// The driver's handle of a module, which is loaded once. Null on failure, and `problem` says why.
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
