// The functions of cuBLASLt that this library uses, opened when the first product runs. No header of CUDA is needed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace lorasmith::cuda::cublas {

using Status = int;
using Handle = void*;
using Operation = void*;
using Layout = void*;
using Preference = void*;

// cublasStatus_t.
enum : Status {
  kSuccess = 0,
  kAllocationFailed = 3,
  kExecutionFailed = 13,
  kInternalError = 14,
  kNotSupported = 15,
};

// cudaDataType.
enum : int { kFloat32 = 0, kBFloat16 = 14 };

// cublasComputeType_t: products and sums in float32, without TF32.
constexpr int kComputeFloat32 = 68;

// cublasOperation_t.
enum : int32_t { kAsIs = 0, kTransposed = 1 };

// cublasLtMatmulDescAttributes_t.
enum : int { kTransposeA = 3, kTransposeB = 4 };

// cublasLtMatrixLayoutAttribute_t.
enum : int { kBatchCount = 5, kBatchStride = 6 };

// cublasLtMatmulPreferenceAttributes_t.
enum : int {
  kMaxWorkspaceBytes = 1,
  kReductionSchemes = 3,
  kAlignmentA = 5,
  kAlignmentB = 6,
  kAlignmentC = 7,
  kAlignmentD = 8,
};

// cublasLtReductionScheme_t. Partial sums of a split depth are kept in float32 and added in a fixed order.
constexpr uint32_t kReduceInComputeType = 2;

struct Algorithm {
  uint64_t data[8];
};

// cublasLtMatmulHeuristicResult_t.
struct HeuristicResult {
  Algorithm algorithm;
  size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(HeuristicResult) == 96, "as in cublasLt.h");

// name, parameters
#define LORASMITH_CUBLAS_FUNCTIONS(FUNCTION)                                                                      \
  FUNCTION(cublasLtCreate, (Handle * handle))                                                                     \
  FUNCTION(cublasLtMatmulDescCreate, (Operation * operation, int compute_type, int scale_type))                   \
  FUNCTION(cublasLtMatmulDescDestroy, (Operation operation))                                                      \
  FUNCTION(cublasLtMatmulDescSetAttribute, (Operation operation, int attribute, const void* value, size_t bytes)) \
  FUNCTION(cublasLtMatrixLayoutCreate,                                                                            \
           (Layout * layout, int type, uint64_t rows, uint64_t columns, int64_t leading_dimension))               \
  FUNCTION(cublasLtMatrixLayoutDestroy, (Layout layout))                                                          \
  FUNCTION(cublasLtMatrixLayoutSetAttribute, (Layout layout, int attribute, const void* value, size_t bytes))     \
  FUNCTION(cublasLtMatmulPreferenceCreate, (Preference * preference))                                             \
  FUNCTION(cublasLtMatmulPreferenceDestroy, (Preference preference))                                              \
  FUNCTION(cublasLtMatmulPreferenceSetAttribute,                                                                  \
           (Preference preference, int attribute, const void* value, size_t bytes))                               \
  FUNCTION(cublasLtMatmulAlgoGetHeuristic,                                                                        \
           (Handle handle, Operation operation, Layout a, Layout b, Layout c, Layout d, Preference preference,    \
            int requested, HeuristicResult* results, int* returned))                                              \
  FUNCTION(cublasLtMatmul,                                                                                        \
           (Handle handle, Operation operation, const void* alpha, const void* a, Layout a_layout, const void* b, \
            Layout b_layout, const void* beta, const void* c, Layout c_layout, void* d, Layout d_layout,          \
            const Algorithm* algorithm, void* workspace, size_t workspace_bytes, void* stream))

struct Library {
  Handle handle = nullptr;
#define LORASMITH_DECLARE(name, parameters) Status(*name) parameters = nullptr;
  LORASMITH_CUBLAS_FUNCTIONS(LORASMITH_DECLARE)
#undef LORASMITH_DECLARE
  // cublasLtGetVersion: 120901 is 12.9.1; 0 if the library does not say.
  size_t version = 0;
  // The file that was opened.
  std::string file;
};

// Opens the library once, with a handle for the current context. Null on failure, and `problem` says why.
const Library* OpenCublas(std::string* problem);

// "CUBLAS_STATUS_NOT_SUPPORTED (15)"
std::string StatusText(Status status);

}  // namespace lorasmith::cuda::cublas
