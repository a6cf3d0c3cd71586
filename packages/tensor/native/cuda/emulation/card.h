// The emulated card: its state, and how it behaves.
//
// How it behaves is set by the environment, which is read at cuInit:
//   EMULATED_GPU_CAPABILITY=9.0       compute capability
//   EMULATED_GPU_MEMORY=8589934592    bytes
//   EMULATED_GPU_DRIVER_VERSION=12090 what cuDriverGetVersion returns
//   EMULATED_GPU_COUNT=1              cards; CUDA_VISIBLE_DEVICES selects among them
//   EMULATED_GPU_POOLS=1              0: without memory pools
//   EMULATED_GPU_FRAGMENTS=0          1: the memory pool fragments (Fragments)
//   EMULATED_GPU_TRIMS=parts          all: such a pool gives nothing back unless it is asked for everything. Read at
//                                     each trim
//   EMULATED_GPU_ATTRIBUTES_FILE=PATH gets a line for each attribute that is set: kernel, attribute, value
//   EMULATED_GPU_ORDER=0              of threads: 0 as numbered, 1 reversed, else the seed of a shuffle
//   EMULATED_GPU_FAULT=17:700         launch 17 (from 1) ends with error 700; a list separated by commas
//   EMULATED_GPU_LOST_FILE=PATH       made when a fault happens; as long as it exists, no process finds a card
//   EMULATED_GPU_BREAK=NAME:skip      kernels that are broken on purpose, separated by commas: `skip` does not run,
//                                     `flip` flips the last bit of its first result every second time, `wrong` writes
//                                     a wrong number there. NAME:skip:OTHER is broken only once kernel OTHER has been
//                                     launched in the process
//   EMULATED_GPU_WORK_FILE=PATH       gets a line for each launch, `NAME WORK`: work.h
//   CUDA_LAUNCH_BLOCKING=1            a launch waits for its kernel, and returns its error
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "cuda/emulation/registry.h"

namespace emulation {

// A compiled kernel says the limits of its launches.

// ELF for CUDA, of this architecture: 90 for sm_90. 0 if it is none.
inline int CubinArchitecture(const std::string& image) {
  if (image.size() < 64 || image.compare(0, 4, "\177ELF") != 0) return 0;
  uint16_t machine;
  uint32_t flags;
  std::memcpy(&machine, image.data() + 18, sizeof(machine));
  std::memcpy(&flags, image.data() + 48, sizeof(flags));
  constexpr uint16_t kCuda = 190;
  if (machine != kCuda) return 0;
  // In the lowest byte, or in the second one in the newer form.
  const auto form = static_cast<unsigned char>(image[8]);
  return static_cast<int>(form >= 8 ? flags >> 8 & 0xff : flags & 0xff);
}

// The bytes of an ELF file in memory, whose section headers or program headers end it.
inline size_t ElfBytes(const char* image) {
  uint64_t programs, sections;
  uint16_t program_bytes, program_count, section_bytes, section_count;
  std::memcpy(&programs, image + 32, 8);
  std::memcpy(&sections, image + 40, 8);
  std::memcpy(&program_bytes, image + 54, 2);
  std::memcpy(&program_count, image + 56, 2);
  std::memcpy(&section_bytes, image + 58, 2);
  std::memcpy(&section_count, image + 60, 2);
  const uint64_t end_of_sections = sections + uint64_t{section_bytes} * section_count;
  const uint64_t end_of_programs = programs + uint64_t{program_bytes} * program_count;
  return end_of_sections > end_of_programs ? end_of_sections : end_of_programs;
}

struct Section {
  uint64_t at = 0;
  uint64_t bytes = 0;
  bool found = false;
};

inline Section FindSection(const std::string& image, const std::string& name) {
  constexpr size_t kHeaderBytes = 64;
  uint64_t headers;
  uint16_t count, names_index;
  std::memcpy(&headers, image.data() + 40, 8);
  std::memcpy(&count, image.data() + 60, 2);
  std::memcpy(&names_index, image.data() + 62, 2);
  const auto field = [&](int index, size_t at, size_t bytes) {
    uint64_t value = 0;
    std::memcpy(&value, image.data() + headers + index * kHeaderBytes + at, bytes);
    return value;
  };
  const uint64_t names = field(names_index, 24, 8);
  for (int index = 0; index < count; index++) {
    const char* own = image.data() + names + field(index, 0, 4);
    if (name == own) return {field(index, 24, 8), field(index, 32, 8), true};
  }
  return {};
}

struct LaunchLimits {
  uint32_t threads = 1024;
  uint64_t static_shared_bytes = 0;
};

// From `__launch_bounds__` and the kernel's shared variables.
inline LaunchLimits ReadLaunchLimits(const std::string& image, const std::string& kernel) {
  LaunchLimits limits;
  limits.static_shared_bytes = FindSection(image, ".nv.shared." + kernel).bytes;
  const Section info = FindSection(image, ".nv.info." + kernel);
  // Records of a form, an attribute and 16 bits: the value, or the length of what follows.
  constexpr uint8_t kWithLength = 4, kMaxThreads = 5;
  for (uint64_t at = 0; at + 4 <= info.bytes;) {
    const char* record = image.data() + info.at + at;
    uint16_t length;
    std::memcpy(&length, record + 2, sizeof(length));
    const auto form = static_cast<uint8_t>(record[0]);
    if (form == kWithLength && static_cast<uint8_t>(record[1]) == kMaxThreads) {
      std::memcpy(&limits.threads, record + 4, sizeof(limits.threads));
    }
    at += form == kWithLength ? 4 + length : 4;
  }
  return limits;
}

}  // namespace emulation

namespace emulation::card {

using Result = int;
using Address = uint64_t;

enum : Result {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNotInitialized = 3,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidImage = 200,
  kInvalidContext = 201,
  kNoBinary = 209,
  kInvalidPtx = 218,
  kUnsupportedPtx = 222,
  kInvalidHandle = 400,
  kNotFound = 500,
  kNotReady = 600,
  kIllegalAddress = 700,
  kLaunchFailed = 719,
  kNotSupported = 801,
};

inline const std::map<Result, std::pair<const char*, const char*>>& Errors() {
  static const std::map<Result, std::pair<const char*, const char*>> errors{
      {0, {"CUDA_SUCCESS", "no error"}},
      {1, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
      {2, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}},
      {3, {"CUDA_ERROR_NOT_INITIALIZED", "initialization error"}},
      {46, {"CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"}},
      {100, {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}},
      {101, {"CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"}},
      {200, {"CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"}},
      {201, {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}},
      {209, {"CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"}},
      {214, {"CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"}},
      {218, {"CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"}},
      {222, {"CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."}},
      {400, {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}},
      {500, {"CUDA_ERROR_NOT_FOUND", "named symbol not found"}},
      {600, {"CUDA_ERROR_NOT_READY", "device not ready"}},
      {700, {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"}},
      {701, {"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"}},
      {702, {"CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"}},
      {716, {"CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"}},
      {719, {"CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"}},
      {801, {"CUDA_ERROR_NOT_SUPPORTED", "operation not supported"}},
      {999, {"CUDA_ERROR_UNKNOWN", "unknown error"}},
  };
  return errors;
}

// After these the context is lost, and every call returns them.
inline bool IsSticky(Result error) {
  return error == 46 || error == 214 || error == 999 || (error >= 700 && error <= 719 && error != 701);
}

inline std::string Setting(const char* name, const char* otherwise) {
  const char* value = std::getenv((std::string("EMULATED_GPU_") + name).c_str());
  return value == nullptr || *value == '\0' ? otherwise : value;
}

inline std::vector<std::string> Split(const std::string& text, char by) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, by);) parts.push_back(part);
  return parts;
}

// A memory pool that fragments: what is freed is a block of its size, which serves requests up to that size. Blocks are
// never joined; what a request leaves of one is a block again. Only memory that the stream has been waited for after it
// was freed is used again or given back.
class Fragments {
 public:
  // Whether a free block serves the request. If none does, the memory must come from the card.
  bool Take(uint64_t bytes) {
    const auto found = free_.lower_bound(bytes);
    if (found == free_.end()) return false;
    const uint64_t rest = *found - bytes;
    free_.erase(found);
    if (rest > 0) free_.insert(rest);
    return true;
  }

  void Free(uint64_t bytes) { unseen_.push_back(bytes); }

  void Synchronize() {
    free_.insert(unseen_.begin(), unseen_.end());
    unseen_.clear();
  }

  // Gives back at most so many bytes, in whole blocks, the smallest first. Returns how many.
  uint64_t GiveBack(uint64_t most) {
    uint64_t given = 0;
    while (!free_.empty() && given + *free_.begin() <= most) {
      given += *free_.begin();
      free_.erase(free_.begin());
    }
    return given;
  }

 private:
  std::multiset<uint64_t> free_;
  std::vector<uint64_t> unseen_;
};

struct Settings {
  int capability_major = 9;
  int capability_minor = 0;
  size_t memory_bytes = 0;
  int count = 1;
  bool pools = true;
  bool fragments = false;
  bool blocking_launches = false;
  // Launch → error.
  std::map<uint64_t, Result> faults;
  struct Broken {
    std::string how;
    std::string after;  // empty, or the kernel that must have been launched before
  };
  std::map<std::string, Broken> broken;
};

struct Module {
  std::string image;
};

struct Function {
  const Kernel* kernel;
  LaunchLimits limits;
  int64_t dynamic_shared_bytes = 0;
  uint64_t launches = 0;
};

// A copy from pinned memory that has not run: a card may read the host's memory as late as it needs what is copied.
struct Upload {
  Address to;
  const void* from;
  size_t bytes;
};

constexpr int kSharedBytes = 48 << 10;     // of a block, for any kernel
constexpr int kSharedBytesOptin = 232448;  // on request, of an H100
constexpr size_t kGuardBytes = 64;
constexpr unsigned char kGuard = 0x5a;
constexpr unsigned char kUnset = 0xff;  // NaN in float32 and bfloat16

inline std::mutex mutex;
inline bool initialized = false;
inline Settings settings;
inline std::vector<int> visible;
inline Result sticky = kSuccess;
inline uint64_t launches = 0;
inline uint64_t used = 0, used_high = 0, reserved = 0, reserved_high = 0;
inline Fragments fragments;
inline std::map<Address, size_t> allocations;
inline std::map<Address, size_t> pinned;
inline std::vector<Upload> uploads;
inline std::map<std::pair<Module*, std::string>, Function> functions;
inline char the_context;
inline thread_local void* current_context = nullptr;

inline void Say(const std::string& text) { std::fprintf(stderr, "emulated GPU: %s\n", text.c_str()); }

inline std::string LostFile() { return Setting("LOST_FILE", ""); }

inline bool IsLost() {
  const std::string file = LostFile();
  return !file.empty() && std::ifstream(file).good();
}

// The card fails: this call and all later ones return the error.
inline Result Lose(Result error, const std::string& why) {
  Say(why);
  sticky = error;
  return error;
}

inline std::string UuidText(int card) {
  char text[64];
  std::snprintf(text, sizeof(text), "GPU-e0000000-0000-4000-8000-%012x", card);
  return text;
}

// The cards that CUDA_VISIBLE_DEVICES leaves: a list of numbers or UUIDs that ends at the first wrong one.
inline std::vector<int> VisibleDevices(int count) {
  std::vector<int> devices;
  const char* selection = std::getenv("CUDA_VISIBLE_DEVICES");
  if (selection == nullptr) {
    for (int card = 0; card < count; card++) devices.push_back(card);
    return devices;
  }
  for (const std::string& part : Split(selection, ',')) {
    int found = -1;
    for (int card = 0; card < count; card++) {
      const bool is_uuid = part.rfind("GPU-", 0) == 0 && UuidText(card).rfind(part, 0) == 0;
      if (part == std::to_string(card) || is_uuid) found = card;
    }
    if (found < 0 || std::find(devices.begin(), devices.end(), found) != devices.end()) break;
    devices.push_back(found);
  }
  return devices;
}

inline void ReadSettings() {
  settings = Settings();
  const std::string capability = Setting("CAPABILITY", "9.0");
  std::sscanf(capability.c_str(), "%d.%d", &settings.capability_major, &settings.capability_minor);
  settings.memory_bytes = std::strtoull(Setting("MEMORY", "8589934592").c_str(), nullptr, 10);
  settings.count = std::atoi(Setting("COUNT", "1").c_str());
  settings.pools = Setting("POOLS", "1") != "0";
  settings.fragments = Setting("FRAGMENTS", "0") != "0";
  const char* blocking = std::getenv("CUDA_LAUNCH_BLOCKING");
  settings.blocking_launches = blocking != nullptr && std::string(blocking) == "1";
  order = std::atoi(Setting("ORDER", "0").c_str());
  for (const std::string& fault : Split(Setting("FAULT", ""), ',')) {
    const std::vector<std::string> parts = Split(fault, ':');
    if (parts.size() == 2) settings.faults[std::strtoull(parts[0].c_str(), nullptr, 10)] = std::atoi(parts[1].c_str());
  }
  for (const std::string& one : Split(Setting("BREAK", ""), ',')) {
    const std::vector<std::string> parts = Split(one, ':');
    if (parts.size() >= 2) settings.broken[parts[0]] = {parts[1], parts.size() > 2 ? parts[2] : ""};
  }
  visible = VisibleDevices(settings.count);
}

// What every call that uses the card begins with.
inline Result Ready() {
  if (!initialized) return kNotInitialized;
  if (sticky != kSuccess) return sticky;
  return current_context == nullptr ? kInvalidContext : kSuccess;
}

// Whether one of the ranges of memory holds all of the bytes.
inline bool Holds(const std::map<Address, size_t>& ranges, Address at, size_t bytes) {
  auto after = ranges.upper_bound(at);
  if (after == ranges.begin()) return false;
  const auto& [first, length] = *--after;
  return at + bytes <= first + length;
}

inline bool IsOnCard(Address at, size_t bytes) { return Holds(allocations, at, bytes); }

inline bool IsGuardIntact(Address at, size_t bytes) {
  const auto* guard = reinterpret_cast<const unsigned char*>(at + bytes);
  return std::all_of(guard, guard + kGuardBytes, [](unsigned char byte) { return byte == kGuard; });
}

inline void RunUploads() {
  for (const Upload& upload : uploads) std::memcpy(reinterpret_cast<void*>(upload.to), upload.from, upload.bytes);
  uploads.clear();
}

// The first pointer to what a kernel writes, and the size of its elements.
inline std::pair<unsigned char*, size_t> FirstOutput(const Kernel& kernel, void** arguments) {
  for (size_t i = 0; i < kernel.parameters.size(); i++) {
    void* at = nullptr;
    if (!kernel.parameters[i].is_output) continue;
    std::memcpy(&at, arguments[i], sizeof(at));
    if (at != nullptr) return {static_cast<unsigned char*>(at), kernel.parameters[i].element_bytes};
  }
  return {nullptr, 0};
}

inline bool WasLaunched(const std::string& kernel) {
  return std::any_of(functions.begin(), functions.end(),
                     [&](const auto& one) { return one.second.launches > 0 && one.second.kernel->name == kernel; });
}

// How a kernel is broken now; empty if it is not.
inline const char* HowBroken(const std::string& kernel) {
  const auto found = settings.broken.find(kernel);
  if (found == settings.broken.end()) return "";
  const auto& [how, after] = found->second;
  return after.empty() || WasLaunched(after) ? how.c_str() : "";
}

// Changes what a kernel wrote, if it is broken in that way.
inline void Break(const Function& function, const std::string& how, void** arguments) {
  const auto [at, bytes] = FirstOutput(*function.kernel, arguments);
  if (at == nullptr) return;
  if (how == "flip" && function.launches % 2 == 1) at[0] ^= 1;
  // The highest bit of the mantissa: wrong by a quarter to a half.
  if (how == "wrong") at[bytes < 4 ? 0 : bytes - 2] ^= 0x40;
}

// Counts a launch. If it is to fail, `runs` becomes false, or the error is returned at once.
inline Result CountLaunch(bool* runs) {
  launches++;
  const auto fault = settings.faults.find(launches);
  if (fault == settings.faults.end()) return kSuccess;
  *runs = false;
  if (!IsSticky(fault->second)) return fault->second;
  // A kernel that fails is noticed by a later call, or by one that waits for it.
  sticky = fault->second;
  if (const std::string file = LostFile(); !file.empty()) std::ofstream(file) << sticky;
  return settings.blocking_launches ? sticky : kSuccess;
}

}  // namespace emulation::card
