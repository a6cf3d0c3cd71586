#include "merged_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>

#include "convert_floats.h"
#include "mxfp4_matrix.h"
#include "quantize.h"
#include "quantized_matrix.h"

namespace lorasmith {
namespace {

// Small enough for the cache of a core, large enough for the system.
constexpr int64_t kPieceBytes = int64_t{1} << 20;
// Pieces for each thread, so that the others continue while one hashes.
constexpr int kPiecesPerThread = 8;
// The system begins to store this many bytes at once, long before they are synced.
constexpr int64_t kWriteBackBytes = int64_t{16} << 20;

Failure ReadAll(int file, char* to, int64_t bytes, int64_t offset, int64_t tensor) {
  while (bytes > 0) {
    const ssize_t count = pread(file, to, static_cast<size_t>(bytes), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Failure{errno, "read", "", tensor};
    if (count == 0) return Failure{0, "the file ended while it was read", "ERR_TRUNCATED", tensor};
    to += count;
    bytes -= count;
    offset += count;
  }
  return {};
}

Failure WriteAll(int file, const char* from, int64_t bytes, int64_t offset) {
  while (bytes > 0) {
    const ssize_t count = pwrite(file, from, static_cast<size_t>(bytes), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Failure{errno, "write"};
    from += count;
    bytes -= count;
    offset += count;
  }
  return {};
}

int64_t WrittenRows(const QuantizedSource& source) { return source.is_mxfp4 ? source.width : source.rows; }

}  // namespace

// A tensor with the right factor of its update, from the first of its pieces to the last.
struct MergedFile::Tensor {
  const SourceTensor* source;
  // The stored rows, and those of them that are written, in their order. A tensor that is copied is a column of bytes.
  int64_t stored_rows;
  std::vector<Range> row_order;
  std::once_flag packed;
  std::vector<float> panels;
  merging::Update update{};
  std::once_flag scales_read;
  Failure scales_failure;
  std::vector<uint8_t> scales;
  std::vector<float> nested_scales;
  // Of a weight that is quantized here.
  std::vector<float> module;
  // Of a weight in MXFP4, all of them: each piece has some columns of every stored row.
  std::vector<uint8_t> codes;

  // The scales of a quantized weight; once, by the thread that needs them first.
  Failure ReadScales(int64_t index) {
    std::call_once(scales_read, [&] {
      const QuantizedSource& from = *source->quantized;
      if (from.is_made_here) {
        scales_failure = MakeScales(index);
        return;
      }
      if (from.is_mxfp4) codes.resize(static_cast<size_t>(from.rows * from.width / 2));
      scales.resize(static_cast<size_t>(from.scales.bytes));
      nested_scales.resize(static_cast<size_t>(from.nested_scales.bytes) / sizeof(float));
      const auto read = [&](const FilePart& part, void* to) {
        if (!scales_failure) {
          scales_failure = ReadAll(part.file, static_cast<char*>(to), part.bytes, part.offset, index);
        }
      };
      read({source->file, source->offset, static_cast<int64_t>(codes.size())}, codes.data());
      read(from.scales, scales.data());
      read(from.nested_scales, nested_scales.data());
    });
    return scales_failure;
  }

  // Those of a weight that is quantized here: its numbers are read twice, since the scales are quantized with their
  // mean.
  Failure MakeScales(int64_t index) {
    const QuantizedSource& from = *source->quantized;
    const int64_t count = from.rows * from.width;
    const int64_t element = ElementBytes(from.numbers);
    std::vector<float> exact(static_cast<size_t>((count + kQuantizedBlock - 1) / kQuantizedBlock));
    std::vector<char> numbers(kPieceBytes);
    std::vector<uint8_t> codes(kPieceBytes / 2);
    for (int64_t begin = 0; begin < count; begin += kPieceBytes / element) {
      const int64_t read = std::min(count - begin, kPieceBytes / element);
      const int64_t at = source->offset + begin * element;
      if (Failure failure = ReadAll(source->file, numbers.data(), read * element, at, index)) return failure;
      QuantizeNumbers(from.numbers, numbers.data(), read, codes.data(), exact.data() + begin / kQuantizedBlock);
    }
    const auto blocks = static_cast<int64_t>(exact.size());
    scales.resize(exact.size());
    nested_scales.resize(static_cast<size_t>((blocks + kNestedBlock - 1) / kNestedBlock));
    const float offset = OffsetOf(exact.data(), blocks);
    QuantizeScales(exact.data(), blocks, offset, scales.data(), nested_scales.data());
    module.assign({0, 0, offset});
    module.insert(module.end(), Nf4Values(), Nf4Values() + 16);
    module.insert(module.end(), ScaleValues(), ScaleValues() + 256);
    return {};
  }

  QuantizedMatrix Quantized(const uint8_t* codes) const {
    const QuantizedSource& from = *source->quantized;
    const float* nested = nested_scales.empty() ? nullptr : nested_scales.data();
    const float* numbers = from.is_made_here ? module.data() : from.module;
    return {codes, scales.data(), nested, numbers, 1, from.rows, from.width};
  }

  // Once, by the thread that needs it first.
  void Pack() {
    std::call_once(packed, [this] {
      const TensorUpdate& from = *source->update;
      const int64_t in = from.transposed ? from.rows : from.width;
      panels.resize(static_cast<size_t>(merging::PanelFloats(from.rank, from.width)));
      update = merging::Update{from.b, from.rank, 1, panels.data(), from.rank, from.width, from.scale};
      if (from.transposed) {
        update.left = from.a;  // Aᵀ
        update.row_stride = 1;
        update.rank_stride = in;
        merging::PackPanels(from.b, 1, from.rank, from.rank, from.width, panels.data());
      } else {
        merging::PackPanels(from.a, in, 1, from.rank, from.width, panels.data());
      }
    });
  }
};

// Some rows of a tensor, or some bytes of one that is copied. Its memory is used again for later pieces.
struct MergedFile::Piece {
  std::vector<char> memory;
  // The rows in the type in which they are written, if that is another one.
  std::vector<char> converted;
  Tensor* tensor;
  int64_t tensor_index;
  int64_t first_row;
  int64_t rows;
  int64_t bytes;
  int64_t written_bytes;
  int64_t input;
  int64_t output;
  bool is_last_of_tensor;
  bool produced = false;

  const char* written() const { return tensor->source->conversion ? converted.data() : memory.data(); }
};

MergedFile::MergedFile(MergedFileOptions options)
    : options_(std::move(options)), next_output_(static_cast<int64_t>(options_.header_bytes)) {
  for (const SourceTensor& source : options_.tensors) {
    auto tensor = std::make_unique<Tensor>();
    tensor->source = &source;
    const RowConversion* conversion = source.conversion.get();
    tensor->stored_rows = conversion         ? conversion->Rows()
                          : source.update    ? source.update->rows
                          : source.quantized ? WrittenRows(*source.quantized)
                                             : source.bytes;
    if (conversion && !conversion->row_order.empty()) {
      tensor->row_order = conversion->row_order;
    } else if (source.bytes > 0) {
      tensor->row_order = {{0, tensor->stored_rows}};
    }
    tensors_.push_back(std::move(tensor));
  }
  for (int i = 0; i < options_.threads * kPiecesPerThread; i++) ring_.push_back(std::make_unique<Piece>());
}

MergedFile::~MergedFile() = default;

Failure MergedFile::Run() {
  const int64_t header_bytes = static_cast<int64_t>(options_.header_bytes);
  if (Failure failure = WriteAll(options_.output, options_.header, header_bytes, 0)) return failure;
  sha256_.Update(options_.header, options_.header_bytes);
  std::vector<std::thread> others;
  try {
    for (int i = 1; i < options_.threads; i++) others.emplace_back([this] { RunThread(); });
  } catch (const std::system_error&) {
    // The system allows no more threads. Fewer do the same.
  }
  RunThread();
  for (std::thread& other : others) other.join();
  if (!failure_) digest_ = sha256_.Finish();
  return failure_;
}

napi_value MergedFile::Result(napi_env env) {
  napi_value text;
  napi_create_string_utf8(env, digest_.c_str(), digest_.size(), &text);
  return text;
}

// Each thread hashes the next piece if nobody does: pieces are hashed in order, so that is what the others would wait
// for. Else it produces the next piece.
void MergedFile::RunThread() {
  try {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!failure_ && !(all_begun_ && hashed_ == produced_)) {
      const int64_t size = static_cast<int64_t>(ring_.size());
      if (!hashing_ && hashed_ < produced_ && ring_[hashed_ % size]->produced) {
        Hash(&lock);
        continue;
      }
      Piece* piece = ring_[produced_ % size].get();
      if (produced_ - hashed_ < size && NextPiece(piece)) {
        produced_++;
        lock.unlock();
        Produce(piece);
        lock.lock();
        piece->produced = true;
        changed_.notify_all();
        continue;
      }
      if (all_begun_ && hashed_ == produced_) break;
      changed_.wait(lock);
    }
  } catch (const std::exception& error) {
    Fail(Failure{0, error.what()});
  }
  changed_.notify_all();
}

// The next piece in the order of the file; false where there is none.
bool MergedFile::NextPiece(Piece* piece) {
  while (next_tensor_ < tensors_.size()) {
    Tensor* tensor = tensors_[next_tensor_].get();
    const SourceTensor& source = *tensor->source;
    const RowConversion* conversion = source.conversion.get();
    if (next_range_ == tensor->row_order.size()) {
      next_tensor_++;
      next_range_ = 0;
      continue;
    }
    const Range& range = tensor->row_order[next_range_];
    const int64_t row_bytes = source.bytes / tensor->stored_rows;
    const int64_t unit = conversion ? std::max(conversion->row_step, conversion->head_rows) : 1;
    const int64_t rows = std::min(range.count - next_row_, std::max<int64_t>(1, kPieceBytes / row_bytes / unit) * unit);
    piece->tensor = tensor;
    piece->tensor_index = static_cast<int64_t>(next_tensor_);
    piece->first_row = range.first + next_row_;
    piece->rows = rows;
    piece->bytes = rows * row_bytes;
    piece->written_bytes = conversion ? rows / conversion->row_step * conversion->WrittenRowBytes() : piece->bytes;
    piece->input = source.offset + piece->first_row * row_bytes;
    piece->output = next_output_;
    piece->produced = false;
    next_row_ += rows;
    next_output_ += piece->written_bytes;
    if (next_row_ == range.count) {
      next_range_++;
      next_row_ = 0;
    }
    piece->is_last_of_tensor = next_range_ == tensor->row_order.size();
    return true;
  }
  all_begun_ = true;
  return false;
}

// Reads the rows of a piece into its memory.
Failure MergedFile::Read(Piece* piece) {
  const SourceTensor& source = *piece->tensor->source;
  char* memory = piece->memory.data();
  if (source.content != nullptr) {
    std::memcpy(memory, source.content + piece->input, static_cast<size_t>(piece->bytes));
    return {};
  }
  if (source.quantized) return ReadQuantized(piece);
  const RowConversion* conversion = source.conversion.get();
  if (conversion == nullptr || !conversion->transposed) {
    return ReadAll(source.file, memory, piece->bytes, piece->input, piece->tensor_index);
  }
  // Some columns of every stored row.
  const int64_t element = ElementBytes(conversion->from);
  const int64_t column_bytes = piece->rows * element;
  std::vector<char> columns(static_cast<size_t>(piece->bytes));
  for (int64_t row = 0; row < conversion->stored_rows; row++) {
    const int64_t at = source.offset + (row * conversion->stored_width + piece->first_row) * element;
    char* to = columns.data() + row * column_bytes;
    if (Failure failure = ReadAll(source.file, to, column_bytes, at, piece->tensor_index)) return failure;
  }
  Transpose(columns.data(), conversion->stored_rows, piece->rows, element, memory);
  return {};
}

// The codes of some numbers of a quantized weight, and which byte of all codes is the first.
struct MergedFile::Codes {
  int64_t first_byte = 0;
  std::vector<uint8_t> bytes;

  Failure Read(const SourceTensor& source, int64_t begin, int64_t end, int64_t index) {
    first_byte = begin / 2;
    bytes.resize(static_cast<size_t>((end + 1) / 2 - first_byte));
    const auto count = static_cast<int64_t>(bytes.size());
    return ReadAll(source.file, reinterpret_cast<char*>(bytes.data()), count, source.offset + first_byte, index);
  }

  // Quantizes the blocks that the numbers are in.
  Failure Make(const SourceTensor& source, int64_t begin, int64_t end, int64_t index) {
    const QuantizedSource& from = *source.quantized;
    const int64_t element = ElementBytes(from.numbers);
    begin = begin / kQuantizedBlock * kQuantizedBlock;
    end = std::min((end + kQuantizedBlock - 1) / kQuantizedBlock * kQuantizedBlock, from.rows * from.width);
    const int64_t count = end - begin;
    std::vector<char> numbers(static_cast<size_t>(count * element));
    const int64_t at = source.offset + begin * element;
    if (Failure failure = ReadAll(source.file, numbers.data(), count * element, at, index)) return failure;
    std::vector<float> scales(static_cast<size_t>((count + kQuantizedBlock - 1) / kQuantizedBlock));
    first_byte = begin / 2;
    bytes.resize(static_cast<size_t>((count + 1) / 2));
    QuantizeNumbers(from.numbers, numbers.data(), count, bytes.data(), scales.data());
    return {};
  }
};

// The same of a quantized weight, as bfloat16.
Failure MergedFile::ReadQuantized(Piece* piece) {
  const SourceTensor& source = *piece->tensor->source;
  const int64_t index = piece->tensor_index;
  const int64_t begin = piece->first_row * source.quantized->width;
  const int64_t count = piece->rows * source.quantized->width;
  char* to = piece->memory.data();
  bool finite = true;
  const auto store = [to, &finite](float value, int64_t i) {
    const uint16_t rounded = Float32ToBFloat16::Convert(BitsOf(value));
    finite &= (rounded & 0x7f80) != 0x7f80;
    std::memcpy(to + i * 2, &rounded, sizeof rounded);
  };
  const Failure not_finite{0, "a number is not finite", "ERR_NOT_FINITE", index};
  if (source.quantized->blocks.scales != nullptr) {
    std::vector<uint8_t> bytes(static_cast<size_t>(count));
    auto* read = reinterpret_cast<char*>(bytes.data());
    if (Failure failure = ReadAll(source.file, read, count, source.offset + begin, index)) return failure;
    DecodeBlocks(source.quantized->blocks, bytes.data(), begin, count, store);
    return finite ? Failure{} : not_finite;
  }
  if (Failure failure = piece->tensor->ReadScales(index)) return failure;
  if (source.quantized->is_mxfp4) {
    const int64_t rows = source.quantized->rows;
    const Mxfp4Matrix matrix{piece->tensor->codes.data(), piece->tensor->scales.data(), rows, source.quantized->width};
    if (source.conversion && source.conversion->transposed) {
      const int64_t width = source.quantized->width;
      for (int64_t row = 0; row < piece->rows; row++) {
        const auto store_in_row = [&](float value, int64_t column) { store(value, row * width + column); };
        matrix.DecodeRow(piece->first_row + row, store_in_row);
      }
      return finite ? Failure{} : not_finite;
    }
    for (int64_t row = 0; row < rows; row++) {
      for (int64_t i = 0; i < piece->rows; i++) store(matrix.At(row, piece->first_row + i), i * rows + row);
    }
    return finite ? Failure{} : not_finite;
  }
  Codes codes;
  const auto decode = [&](int64_t from, int64_t numbers, const auto& store_each) -> Failure {
    if (Failure failure = source.quantized->is_made_here ? codes.Make(source, from, from + numbers, index)
                                                         : codes.Read(source, from, from + numbers, index)) {
      return failure;
    }
    // The codes as if all before them were there, too.
    const QuantizedMatrix matrix = piece->tensor->Quantized(codes.bytes.data() - codes.first_byte);
    matrix.Decode(matrix.ModuleOf(0), from, numbers, store_each);
    return {};
  };
  if (source.conversion && source.conversion->transposed) {
    // Some columns of every stored row.
    const int64_t rows = source.quantized->rows, width = source.quantized->width;
    for (int64_t row = 0; row < rows; row++) {
      const auto store_column = [&](float value, int64_t i) { store(value, i * rows + row); };
      if (Failure failure = decode(row * width + piece->first_row, piece->rows, store_column)) return failure;
    }
  } else if (Failure failure = decode(begin, count, store)) {
    return failure;
  }
  return finite ? Failure{} : not_finite;
}

// Converts the rows of a weight that is stored and written in MXFP4, bit by bit.
Failure MergedFile::Repack(Piece* piece) {
  const SourceTensor& source = *piece->tensor->source;
  const RowConversion& conversion = *source.conversion;
  if (Failure failure = piece->tensor->ReadScales(piece->tensor_index)) return failure;
  const QuantizedSource& from = *source.quantized;
  const Mxfp4Matrix matrix{piece->tensor->codes.data(), piece->tensor->scales.data(), from.rows, from.width};
  auto* to = reinterpret_cast<uint8_t*>(piece->converted.data());
  for (int64_t row = conversion.row_in_step; row < piece->rows; row += conversion.row_step) {
    matrix.RepackRow(piece->first_row + row, to);
    to += conversion.WrittenRowBytes();
  }
  return {};
}

// Reads, merges, converts and writes a piece.
void MergedFile::Produce(Piece* piece) {
  if (__atomic_load_n(options_.stop, __ATOMIC_RELAXED) != 0) return Fail(Failure{0, "stopped", "ERR_STOPPED"});
  const SourceTensor& source = *piece->tensor->source;
  const RowConversion* conversion = source.conversion.get();
  const auto grow = [](std::vector<char>* memory, int64_t bytes) {
    if (memory->size() < static_cast<size_t>(bytes)) memory->resize(static_cast<size_t>(bytes));
  };
  if (conversion) grow(&piece->converted, piece->written_bytes);
  if (conversion && conversion->to == WrittenType::kMxfp4) {
    if (Failure failure = Repack(piece)) return Fail(failure);
  } else {
    grow(&piece->memory, piece->bytes);
    if (Failure failure = Read(piece)) return Fail(failure);
    const Failure not_finite{0, "a number is not finite", "ERR_NOT_FINITE", piece->tensor_index};
    char* memory = piece->memory.data();
    if (source.update) {
      piece->tensor->Pack();
      if (!options_.merge(piece->tensor->update, source.update->dtype, piece->first_row, piece->rows, memory, memory)) {
        return Fail(not_finite);
      }
    }
    if (conversion && !ConvertRows(*conversion, memory, piece->rows, piece->converted.data())) return Fail(not_finite);
  }
  if (Failure failure = WriteAll(options_.output, piece->written(), piece->written_bytes, piece->output)) {
    return Fail(failure);
  }
  const int64_t end = piece->output + piece->written_bytes;
  if (end / kWriteBackBytes != piece->output / kWriteBackBytes) {
    // Advice: where the file system has no such call, syncing takes longer.
    sync_file_range(options_.output, end / kWriteBackBytes * kWriteBackBytes - kWriteBackBytes, kWriteBackBytes,
                    SYNC_FILE_RANGE_WRITE);
  }
}

// Hashes the pieces that are ready, without the lock.
void MergedFile::Hash(std::unique_lock<std::mutex>* lock) {
  hashing_ = true;
  const int64_t size = static_cast<int64_t>(ring_.size());
  while (!failure_ && hashed_ < produced_ && ring_[hashed_ % size]->produced) {
    const Piece* piece = ring_[hashed_ % size].get();
    lock->unlock();
    sha256_.Update(piece->written(), static_cast<size_t>(piece->written_bytes));
    if (piece->is_last_of_tensor) {
      // Every piece before is done, too.
      std::vector<float>().swap(piece->tensor->panels);
      std::vector<uint8_t>().swap(piece->tensor->codes);
      std::vector<uint8_t>().swap(piece->tensor->scales);
      std::vector<float>().swap(piece->tensor->nested_scales);
    }
    __atomic_fetch_add(options_.done_bytes, piece->written_bytes, __ATOMIC_RELAXED);
    lock->lock();
    hashed_++;
    changed_.notify_all();
  }
  hashing_ = false;
}

void MergedFile::Fail(Failure failure) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!failure_) failure_ = std::move(failure);
  changed_.notify_all();
}

}  // namespace lorasmith
