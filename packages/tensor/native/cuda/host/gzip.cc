#include "cuda/host/gzip.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace lorasmith::cuda {
namespace {

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

}  // namespace

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

}  // namespace lorasmith::cuda
