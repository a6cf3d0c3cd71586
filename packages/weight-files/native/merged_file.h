// Writes the tensors of one weight file, some of them merged with an adapter, in one pass: each piece is read, merged,
// written and hashed while it is in the processor's cache.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "async_work.h"
#include "convert_rows.h"
#include "merge_kernel.h"
#include "merge_rows.h"
#include "scaled_blocks.h"
#include "sha256.h"

namespace lorasmith {

// scale · B A, which is added to a tensor of [rows, width]. A is [rank, in], B [out, rank]. Where a conversion
// transposes the tensor, it is transposed before.
struct TensorUpdate {
  StoredDtype dtype;
  int64_t rows;
  int64_t width;
  const float* a;
  const float* b;
  int64_t rank;
  float scale;
  // Whether the tensor is [in, out] instead of [out, in].
  bool transposed;
};

// Where a part of a file is.
struct FilePart {
  int file;
  int64_t offset;
  int64_t bytes;
};

// A weight [rows, width] in 8 bits, or in 4 bits; see scaled_blocks.h, quantized_matrix.h and mxfp4_matrix.h. Its codes
// are the tensor's own part of a file; or that part has numbers that are quantized here, as they are when a model is
// loaded for training. One in MXFP4 is read as [width, rows].
struct QuantizedSource {
  int64_t rows;
  int64_t width;
  // Without scales where it is in 4 bits.
  BlockScales blocks;
  bool is_made_here;
  bool is_mxfp4;
  // All below are of a weight that is stored in 4 bits, this of one that is made here.
  StoredDtype numbers;
  FilePart scales;
  // Without bytes where there is no double quantization.
  FilePart nested_scales;
  // QuantizedModule::kNumbers
  const float* module;
};

struct SourceTensor {
  int file;
  int64_t offset;
  // Of a quantized weight: as bfloat16, which it is decoded to when it is read.
  int64_t bytes;
  // Bytes in memory instead of a file; or null.
  const char* content;
  std::unique_ptr<TensorUpdate> update;
  std::unique_ptr<RowConversion> conversion;
  std::unique_ptr<QuantizedSource> quantized;
};

struct MergedFileOptions {
  int output;
  const char* header;
  size_t header_bytes;
  std::vector<SourceTensor> tensors;
  int threads;
  MergeKernel merge;
  // Bytes of tensors that are done; and, set by the caller, whether to stop.
  int64_t* done_bytes;
  const int64_t* stop;
};

class MergedFile : public AsyncWork {
 public:
  explicit MergedFile(MergedFileOptions options);
  ~MergedFile() override;

  Failure Run() override;
  napi_value Result(napi_env env) override;

 private:
  struct Tensor;
  struct Piece;
  struct Codes;

  void RunThread();
  bool NextPiece(Piece* piece);
  void Produce(Piece* piece);
  Failure Read(Piece* piece);
  Failure ReadQuantized(Piece* piece);
  Failure Repack(Piece* piece);
  void Hash(std::unique_lock<std::mutex>* lock);
  void Fail(Failure failure);

  const MergedFileOptions options_;
  std::vector<std::unique_ptr<Tensor>> tensors_;
  std::vector<std::unique_ptr<Piece>> ring_;

  std::mutex mutex_;
  std::condition_variable changed_;
  // All below are guarded by mutex_.
  size_t next_tensor_ = 0;
  size_t next_range_ = 0;
  int64_t next_row_ = 0;  // in the range
  int64_t next_output_;
  int64_t produced_ = 0;  // pieces that were begun
  int64_t hashed_ = 0;    // pieces that are done
  bool hashing_ = false;
  bool all_begun_ = false;
  Failure failure_;

  // Of the thread that hashes.
  Sha256 sha256_;
  std::string digest_;
};

}  // namespace lorasmith
