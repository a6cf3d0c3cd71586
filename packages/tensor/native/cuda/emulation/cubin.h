// What a compiled kernel says about itself, as the driver reads it: the limits of its launches.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

namespace emulation {

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
