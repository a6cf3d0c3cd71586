#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "async_work.h"
#include "convert_floats.h"
#include "module.h"
#include "quantize.h"
#include "quantized_matrix.h"
#include "region.h"
#include "scaled_blocks.h"
#include "sha256.h"

namespace lorasmith {
namespace {

// Read, hashed and converted while it is in the cache of a core.
constexpr size_t kChunkBytes = size_t{512} << 10;
constexpr size_t kNumbersPerPiece = 12;

constexpr napi_type_tag kShaTag{0x6c6f7261736d6974, 0x682d736861323536};

struct Chunk;

struct Conversion {
  void (*convert)(const Chunk& chunk, const void* from, size_t count);  // null: the bytes are copied
  size_t from_bytes;                                                    // of an element
  size_t to_bits;
  bool makes_scales;
  bool has_blocks;

  size_t ToBytes(size_t from) const { return (from / from_bytes * to_bits + 7) / 8; }
  size_t Scales(size_t from) const { return (from / from_bytes + kQuantizedBlock - 1) / kQuantizedBlock; }
};

// A part of the file that one thread reads at once: of a piece, or of what lies between pieces.
struct Chunk {
  uint64_t offset;
  size_t bytes;
  char* target;                  // null: for the hash alone
  const Conversion* conversion;  // null: the bytes are copied
  float* scales;                 // null where the conversion makes none
  BlockScales blocks;            // where the conversion has blocks
  int64_t first;                 // its first number in the matrix that these are of
};

template <typename Elements>
void Convert(const Chunk& chunk, const void* from, size_t count) {
  ConvertAll<Elements>(from, chunk.target, count);
}

template <StoredDtype dtype>
void Quantize(const Chunk& chunk, const void* from, size_t count) {
  auto* codes = reinterpret_cast<uint8_t*>(chunk.target);
  QuantizeNumbers(dtype, from, static_cast<int64_t>(count), codes, chunk.scales);
}

void DecodeToFloat32(const Chunk& chunk, const void* from, size_t count) {
  auto* to = reinterpret_cast<float*>(chunk.target);
  DecodeBlocks(chunk.blocks, static_cast<const uint8_t*>(from), chunk.first, static_cast<int64_t>(count),
               [to](float value, int64_t i) { to[i] = value; });
}

void DecodeToBFloat16(const Chunk& chunk, const void* from, size_t count) {
  auto* to = reinterpret_cast<uint16_t*>(chunk.target);
  DecodeBlocks(chunk.blocks, static_cast<const uint8_t*>(from), chunk.first, static_cast<int64_t>(count),
               [to](float value, int64_t i) { to[i] = Float32ToBFloat16::Convert(BitsOf(value)); });
}

// In the order of CONVERSIONS in src/read-ranges.ts.
constexpr Conversion kConversions[] = {
    {nullptr, 1, 8, false, false},
    {&Convert<BFloat16ToFloat32>, 2, 32, false, false},
    {&Convert<Float16ToFloat32>, 2, 32, false, false},
    {&Convert<Float32ToBFloat16>, 4, 16, false, false},
    {&Convert<Float16ToBFloat16>, 2, 16, false, false},
    {&Quantize<StoredDtype::kFloat32>, 4, 4, true, false},
    {&Quantize<StoredDtype::kFloat16>, 2, 4, true, false},
    {&Quantize<StoredDtype::kBFloat16>, 2, 4, true, false},
    {&DecodeToFloat32, 1, 32, false, true},
    {&DecodeToBFloat16, 1, 16, false, true},
};

struct Piece {
  uint64_t offset;
  size_t bytes;
  std::shared_ptr<Region> region;
  char* target;
  const Conversion* conversion;
  std::shared_ptr<Region> scales_region;
  float* scales;  // null where the conversion makes none
  BlockScales blocks;
  int64_t first;
};

class Reading : public AsyncWork {
 public:
  Reading(int file, uint64_t begin, uint64_t end, std::vector<Piece> pieces, std::shared_ptr<Sha256> sha256,
          int threads)
      : file_(file), pieces_(std::move(pieces)), sha256_(std::move(sha256)), threads_(threads) {
    uint64_t position = begin;
    for (const Piece& piece : pieces_) {
      if (sha256_ != nullptr) Split(Between(position, piece.offset));
      Split(piece);
      position = piece.offset + piece.bytes;
    }
    if (sha256_ != nullptr) Split(Between(position, end));
    is_read_.resize(chunks_.size());
  }

  Failure Run() override {
    const int others = std::min<int>(threads_, static_cast<int>(chunks_.size())) - 1;
    std::vector<std::thread> threads;
    try {
      for (int i = 0; i < others; i++) threads.emplace_back([this] { ReadChunks(); });
    } catch (const std::system_error&) {
      // Those that could be started do it.
    }
    ReadChunks();
    for (std::thread& thread : threads) thread.join();
    return failure_;
  }

  napi_value Result(napi_env env) override {
    napi_value complete;
    napi_get_boolean(env, !ended_early_, &complete);
    return complete;
  }

 private:
  // Bytes that are hashed and not kept.
  static Piece Between(uint64_t begin, uint64_t end) {
    return {begin, static_cast<size_t>(end - begin), nullptr, nullptr, &kConversions[0], nullptr, nullptr, {}, 0};
  }

  void Split(const Piece& piece) {
    const Conversion& by = *piece.conversion;
    // Whole blocks of a weight that is quantized.
    for (size_t done = 0; done < piece.bytes; done += kChunkBytes) {
      Chunk chunk{};
      chunk.offset = piece.offset + done;
      chunk.bytes = std::min(kChunkBytes, piece.bytes - done);
      chunk.target = piece.target == nullptr ? nullptr : piece.target + by.ToBytes(done);
      chunk.conversion = by.convert == nullptr ? nullptr : &by;
      chunk.scales = piece.scales == nullptr ? nullptr : piece.scales + by.Scales(done);
      chunk.blocks = piece.blocks;
      chunk.first = piece.first + static_cast<int64_t>(done / by.from_bytes);
      chunks_.push_back(chunk);
    }
  }

  // On each of the threads.
  void ReadChunks() {
    const std::unique_ptr<char[]> scratch(new char[kChunkBytes]);
    for (size_t i = next_++; i < chunks_.size() && !stopped_; i = next_++) {
      const Chunk& chunk = chunks_[i];
      if (chunk.target == nullptr) {
        // Read where it is hashed.
      } else if (chunk.conversion == nullptr) {
        Populate(chunk.target, chunk.bytes);
        Read(chunk, chunk.target);
      } else if (Read(chunk, scratch.get())) {
        Populate(chunk.target, chunk.conversion->ToBytes(chunk.bytes));
        chunk.conversion->convert(chunk, scratch.get(), chunk.bytes / chunk.conversion->from_bytes);
      }
      if (sha256_ != nullptr) HashInOrder(i, scratch.get());
    }
  }

  // A hash takes its bytes in order: one thread at a time hashes what has been read up to the first gap. A chunk that
  // was converted is hashed by the thread that has its bytes, which waits for its turn; the others read on.
  void HashInOrder(size_t read, char* scratch) {
    std::unique_lock<std::mutex> lock(mutex_);
    is_read_[read] = true;
    if (chunks_[read].conversion != nullptr) {
      turn_.wait(lock, [&] { return (hashed_ == read && !is_hashing_) || stopped_; });
    }
    if (is_hashing_) return;
    is_hashing_ = true;
    while (hashed_ < chunks_.size() && is_read_[hashed_] && !stopped_) {
      const Chunk& chunk = chunks_[hashed_];
      if (chunk.conversion != nullptr && hashed_ != read) break;
      lock.unlock();
      const char* bytes = chunk.conversion != nullptr ? scratch : chunk.target;
      if (bytes == nullptr && Read(chunk, scratch)) bytes = scratch;
      if (bytes != nullptr) sha256_->Update(bytes, chunk.bytes);
      lock.lock();
      hashed_ += 1;
    }
    is_hashing_ = false;
    turn_.notify_all();
  }

  bool Read(const Chunk& chunk, char* to) {
    for (size_t done = 0; done < chunk.bytes;) {
      const ssize_t count = pread(file_, to + done, chunk.bytes - done, static_cast<off_t>(chunk.offset + done));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) {
        const int error = errno;
        const std::lock_guard<std::mutex> lock(failure_mutex_);
        if (count < 0 && !failure_) failure_ = Failure{error, "read"};
        if (count == 0) ended_early_ = true;
        stopped_ = true;
        return false;
      }
      done += static_cast<size_t>(count);
    }
    return true;
  }

  const int file_;
  const std::vector<Piece> pieces_;
  const std::shared_ptr<Sha256> sha256_;
  const int threads_;
  std::vector<Chunk> chunks_;

  std::atomic<size_t> next_{0};
  std::atomic<bool> stopped_{false};
  std::mutex failure_mutex_;
  Failure failure_;
  bool ended_early_ = false;

  std::mutex mutex_;  // of what follows
  std::condition_variable turn_;
  std::vector<bool> is_read_;
  size_t hashed_ = 0;
  bool is_hashing_ = false;
};

// The scales of a piece, from where its array is among the values, and three sizes; false where there is none.
bool BlocksOf(napi_env env, napi_value values, const double* numbers, BlockScales* blocks) {
  napi_value array;
  bool is_array = false;
  void* data = nullptr;
  napi_get_element(env, values, static_cast<uint32_t>(numbers[0]), &array);
  if (napi_is_typedarray(env, array, &is_array) != napi_ok || !is_array) return false;
  napi_get_typedarray_info(env, array, nullptr, nullptr, &data, nullptr, nullptr);
  *blocks = {static_cast<const float*>(data), static_cast<int64_t>(numbers[1]), static_cast<int64_t>(numbers[2]),
             static_cast<int64_t>(numbers[3])};
  return true;
}

std::shared_ptr<Sha256> Sha256Of(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  bool is_sha256 = false;
  void* data = nullptr;
  if (napi_typeof(env, value, &type) != napi_ok || type != napi_external) return nullptr;
  if (napi_check_object_type_tag(env, value, &kShaTag, &is_sha256) != napi_ok || !is_sha256) return nullptr;
  napi_get_value_external(env, value, &data);
  return *static_cast<std::shared_ptr<Sha256>*>(data);
}

}  // namespace

napi_value CreateSha256(napi_env env, napi_callback_info) {
  napi_value result;
  auto* sha256 = new std::shared_ptr<Sha256>(std::make_shared<Sha256>());
  const auto release = [](napi_env, void* data, void*) { delete static_cast<std::shared_ptr<Sha256>*>(data); };
  napi_create_external(env, sha256, release, nullptr, &result);
  napi_type_tag_object(env, result, &kShaTag);
  return result;
}

napi_value FinishSha256(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, result;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  const std::shared_ptr<Sha256> sha256 = Sha256Of(env, argument);
  if (sha256 == nullptr) {
    napi_throw_type_error(env, nullptr, "no hash");
    return nullptr;
  }
  const std::string digest = sha256->Finish();
  napi_create_string_utf8(env, digest.c_str(), digest.size(), &result);
  return result;
}

napi_value ReadPieces(napi_env env, napi_callback_info info) {
  size_t count = 7;
  napi_value arguments[7];
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  int32_t file = -1;
  int64_t begin = 0;
  int64_t end = 0;
  int32_t threads = 1;
  napi_get_value_int32(env, arguments[0], &file);
  napi_get_value_int64(env, arguments[1], &begin);
  napi_get_value_int64(env, arguments[2], &end);
  napi_get_value_int32(env, arguments[6], &threads);
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  napi_get_typedarray_info(env, arguments[3], &type, &length, &data, nullptr, nullptr);
  const auto* numbers = static_cast<const double*>(data);

  std::vector<Piece> pieces;
  auto position = static_cast<uint64_t>(begin);
  for (size_t i = 0; i + kNumbersPerPiece <= length; i += kNumbersPerPiece) {
    const auto region_at = [&](double index) {
      napi_value value;
      napi_get_element(env, arguments[4], static_cast<uint32_t>(index), &value);
      return RegionOf(env, value);
    };
    const auto offset = static_cast<uint64_t>(numbers[i]);
    const auto bytes = static_cast<size_t>(numbers[i + 1]);
    const auto region_offset = static_cast<size_t>(numbers[i + 3]);
    const auto conversion = static_cast<size_t>(numbers[i + 4]);
    std::shared_ptr<Region> region = region_at(numbers[i + 2]);
    std::shared_ptr<Region> scales;
    const auto scales_offset = static_cast<size_t>(numbers[i + 6]);
    const bool in_order = offset >= position && offset + bytes <= static_cast<uint64_t>(end);
    bool fits = region != nullptr && region->data() != nullptr && in_order && conversion < std::size(kConversions);
    if (fits) {
      const Conversion& by = kConversions[conversion];
      fits = bytes % by.from_bytes == 0 && region_offset % std::max<size_t>(by.to_bits / 8, 1) == 0 &&
             region_offset + by.ToBytes(bytes) <= region->bytes();
      if (fits && by.makes_scales) {
        scales = region_at(numbers[i + 5]);
        fits = scales != nullptr && scales->data() != nullptr && scales_offset % sizeof(float) == 0 &&
               scales_offset + by.Scales(bytes) * sizeof(float) <= scales->bytes();
      }
    }
    BlockScales blocks{};
    const auto first = static_cast<int64_t>(numbers[i + 11]);
    if (fits && kConversions[conversion].has_blocks) fits = BlocksOf(env, arguments[4], numbers + i + 7, &blocks);
    if (!fits) {
      napi_throw_range_error(env, nullptr, "a piece is outside of the file or of its region, or out of order");
      return nullptr;
    }
    char* target = region->data() + region_offset;
    float* to_scales = scales == nullptr ? nullptr : reinterpret_cast<float*>(scales->data() + scales_offset);
    pieces.push_back({offset, bytes, std::move(region), target, &kConversions[conversion], std::move(scales), to_scales,
                      blocks, first});
    position = offset + bytes;
  }
  auto reading = std::make_unique<Reading>(file, static_cast<uint64_t>(begin), static_cast<uint64_t>(end),
                                           std::move(pieces), Sha256Of(env, arguments[5]), threads);
  return StartWork(env, std::move(reading), arguments[4]);
}

}  // namespace lorasmith
