#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "cuda/host/cublas_lt.h"
#include "cuda/host/device.h"
#include "ops/product/multiply.h"

namespace lorasmith::cuda {
namespace {

using cublas::Library;

constexpr size_t kWorkspaceBytes = size_t{32} << 20;
// The lengths of rows differ from batch to batch, so the shapes of a long training are many.
constexpr size_t kMostPlans = 4096;
constexpr uint32_t kMostAlignment = 256;
// Asked for at once. cuBLASLt returns the one that it expects to be fastest first.
constexpr int kMostAlgorithms = 4;
constexpr const char* kName = "cublasLtMatmul";
constexpr const char* kLaunching = "launching cublasLtMatmul";

std::atomic<uint64_t> product_count{0};
std::atomic<uint64_t> query_count{0};

// Whether cuBLASLt may have refused because the driver had no memory for its kernel. A launch that fails is
// EXECUTION_FAILED, a failed call within the library INTERNAL_ERROR.
bool MayLackMemory(cublas::Status status) {
  return status == cublas::kAllocationFailed || status == cublas::kExecutionFailed || status == cublas::kInternalError;
}

// What an algorithm depends on.
struct Key {
  Product product;
  bool has_addend;
  uint32_t alignments[4];  // of a, b, the addend and the result

  auto Tuple() const {
    return std::make_tuple(static_cast<int>(product.type), product.batch, product.rows, product.columns, product.depth,
                           product.transpose_a, product.transpose_b, product.share_a, product.share_b, product.b_stride,
                           product.result_stride, has_addend, alignments[0], alignments[1], alignments[2],
                           alignments[3]);
  }
  bool operator<(const Key& other) const { return Tuple() < other.Tuple(); }
};

// The largest power of two that the address is a multiple of.
uint32_t Alignment(const void* at) {
  const auto address = reinterpret_cast<uintptr_t>(at);
  uint32_t alignment = kMostAlignment;
  while (address % alignment != 0) alignment /= 2;
  return alignment;
}

// cuBLASLt's description of a product, and the algorithms for it. Its matrices are column-major, so it computes the
// transposed product: its first matrix is b, its second a.
class Plan {
 public:
  explicit Plan(const Library& library) : library_(library) {}
  ~Plan() {
    if (operation_ != nullptr) library_.cublasLtMatmulDescDestroy(operation_);
    for (cublas::Layout layout : {first_, second_, result_}) {
      if (layout != nullptr) library_.cublasLtMatrixLayoutDestroy(layout);
    }
  }
  Plan(const Plan&) = delete;

  cublas::Status Make(const Key& key) {
    const Product& product = key.product;
    type_ = product.type == TF_BFLOAT16 ? cublas::kBFloat16 : cublas::kFloat32;
    const int32_t first_operation = product.transpose_b ? cublas::kTransposed : cublas::kAsIs;
    const int32_t second_operation = product.transpose_a ? cublas::kTransposed : cublas::kAsIs;
    Do(library_.cublasLtMatmulDescCreate(&operation_, cublas::kComputeFloat32, cublas::kFloat32));
    SetOperation(cublas::kTransposeA, first_operation);
    SetOperation(cublas::kTransposeB, second_operation);
    MakeLayout(&first_, product.transpose_b ? product.columns : product.depth,
               product.transpose_b ? product.depth : product.columns, product.batch, product.share_b, product.b_stride);
    MakeLayout(&second_, product.transpose_a ? product.depth : product.rows,
               product.transpose_a ? product.rows : product.depth, product.batch, product.share_a);
    MakeLayout(&result_, product.rows, product.columns, product.batch, false, product.result_stride);
    if (status_ != cublas::kSuccess) return status_;
    algorithms_ = Propose(kMostAlgorithms, kWorkspaceBytes, key.alignments);
    if (Candidate(0) == nullptr) Do(cublas::kNotSupported);
    return status_;
  }

  // Enqueues the product with the first algorithm that the library runs, always in the same order. If none runs, the
  // first refusal is returned.
  cublas::Status Run(Device& device, const void* a, const void* b, const void* addend, void* result,
                     void* workspace) const {
    const float alpha = 1;
    const float beta = addend == nullptr ? 0 : 1;
    const auto run = [&](const cublas::Algorithm& algorithm) {
      return library_.cublasLtMatmul(library_.handle, operation_, &alpha, b, first_, a, second_, &beta,
                                     addend == nullptr ? result : addend, result_, result, result_, &algorithm,
                                     workspace, kWorkspaceBytes, device.stream());
    };
    bool has_trimmed = false;
    cublas::Status refusal = cublas::kSuccess;
    for (size_t index = chosen_.load(std::memory_order_relaxed);; index++) {
      const cublas::Algorithm* algorithm = Candidate(index);
      if (algorithm == nullptr) return refusal;
      cublas::Status status = run(*algorithm);
      if (MayLackMemory(status) && !has_trimmed && !device.has_failed()) {
        // cuBLASLt loads its kernels when they are needed, for which the card may have no memory left.
        device.Trim(kLaunching);
        has_trimmed = true;
        if (!device.has_failed()) status = run(*algorithm);
      }
      if (status == cublas::kSuccess) chosen_.store(index, std::memory_order_relaxed);
      if (status == cublas::kSuccess || device.has_failed()) return status;
      if (refusal == cublas::kSuccess) refusal = status;
    }
  }

 private:
  // The first failure stays.
  bool Do(cublas::Status status) {
    if (status_ == cublas::kSuccess) status_ = status;
    return status_ == cublas::kSuccess;
  }

  void SetOperation(int attribute, int32_t value) {
    if (status_ != cublas::kSuccess) return;
    Do(library_.cublasLtMatmulDescSetAttribute(operation_, attribute, &value, sizeof(value)));
  }

  // Of a row-major matrix: for cuBLASLt its rows are columns. `row_stride` 0: the rows lie one after the other.
  void MakeLayout(cublas::Layout* layout, int64_t rows, int64_t columns, int64_t batch, bool shared,
                  int64_t row_stride = 0) {
    if (status_ != cublas::kSuccess) return;
    const int64_t leading = row_stride == 0 ? columns : row_stride;
    if (!Do(library_.cublasLtMatrixLayoutCreate(layout, type_, columns, rows, leading))) return;
    const auto count = static_cast<int32_t>(batch);
    const int64_t stride = shared ? 0 : rows * columns;
    Do(library_.cublasLtMatrixLayoutSetAttribute(*layout, cublas::kBatchCount, &count, sizeof(count)));
    Do(library_.cublasLtMatrixLayoutSetAttribute(*layout, cublas::kBatchStride, &stride, sizeof(stride)));
  }

  // Those that the library proposed, and last one without a workspace for matrices that are aligned as their numbers
  // are, which is asked for when all others were refused. Null beyond it.
  const cublas::Algorithm* Candidate(size_t index) const {
    if (index < algorithms_.size()) return &algorithms_[index];
    std::call_once(has_asked_again_, [this] {
      const uint32_t least = type_ == cublas::kBFloat16 ? 2 : 4;
      const uint32_t unaligned[4] = {least, least, least, least};
      last_ = Propose(1, 0, unaligned);
    });
    index -= algorithms_.size();
    return index < last_.size() ? &last_[index] : nullptr;
  }

  // `alignments`: of a, b, the addend and the result. None if the library refuses.
  std::vector<cublas::Algorithm> Propose(int count, uint64_t workspace, const uint32_t (&alignments)[4]) const {
    query_count.fetch_add(1, std::memory_order_relaxed);
    cublas::Preference preference = nullptr;
    cublas::Status status = library_.cublasLtMatmulPreferenceCreate(&preference);
    if (status != cublas::kSuccess) return {};
    const uint32_t reductions = cublas::kReduceInComputeType;
    const auto set = [&](int attribute, const auto& value) {
      if (status != cublas::kSuccess) return;
      status = library_.cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value));
    };
    set(cublas::kMaxWorkspaceBytes, workspace);
    set(cublas::kReductionSchemes, reductions);
    set(cublas::kAlignmentA, alignments[1]);
    set(cublas::kAlignmentB, alignments[0]);
    set(cublas::kAlignmentC, alignments[2]);
    set(cublas::kAlignmentD, alignments[3]);
    cublas::HeuristicResult found[kMostAlgorithms] = {};
    int returned = 0;
    if (status == cublas::kSuccess) {
      status = library_.cublasLtMatmulAlgoGetHeuristic(library_.handle, operation_, first_, second_, result_, result_,
                                                       preference, count, found, &returned);
    }
    library_.cublasLtMatmulPreferenceDestroy(preference);
    std::vector<cublas::Algorithm> algorithms;
    if (status != cublas::kSuccess) return algorithms;
    for (int i = 0; i < returned; i++) {
      if (found[i].state == cublas::kSuccess) algorithms.push_back(found[i].algorithm);
    }
    return algorithms;
  }

  const Library& library_;
  cublas::Status status_ = cublas::kSuccess;
  int type_ = cublas::kFloat32;
  cublas::Operation operation_ = nullptr;
  cublas::Layout first_ = nullptr;
  cublas::Layout second_ = nullptr;
  cublas::Layout result_ = nullptr;
  std::vector<cublas::Algorithm> algorithms_;
  mutable std::once_flag has_asked_again_;
  mutable std::vector<cublas::Algorithm> last_;
  // The first one that has run, or the first.
  mutable std::atomic<size_t> chosen_{0};
};

std::string Describe(const Product& product) {
  return std::string(product.type == TF_BFLOAT16 ? "bfloat16" : "float32") + " [" + std::to_string(product.rows) +
         ", " + std::to_string(product.depth) + "] · [" + std::to_string(product.depth) + ", " +
         std::to_string(product.columns) + "], batch " + std::to_string(product.batch);
}

void Fail(Context& context, const Product& product, cublas::Status status) {
  // After a failure of the card, cuBLASLt's own status says little.
  Device& device = *Device::Get();
  device.Synchronize(kLaunching);
  const std::string failure = device.failure();
  if (!failure.empty()) return context.Fail(TF_INTERNAL, failure);
  context.Fail(TF_INTERNAL, "product " + Describe(product) + ": " + cublas::StatusText(status));
}

class Plans {
 public:
  std::shared_ptr<const Plan> Find(const Library& library, const Key& key, cublas::Status* status) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = plans_.find(key);
    if (found != plans_.end()) return found->second;
    auto plan = std::make_shared<Plan>(library);
    *status = plan->Make(key);
    if (*status != cublas::kSuccess) return nullptr;
    if (plans_.size() >= kMostPlans) plans_.clear();
    plans_[key] = plan;
    return plan;
  }

 private:
  std::mutex mutex_;
  std::map<Key, std::shared_ptr<const Plan>> plans_;
};

// Memory for all products: one stream, so they never use it at once. Null as long as there is none left.
void* Workspace() {
  static std::mutex mutex;
  static void* workspace = nullptr;
  const std::lock_guard<std::mutex> lock(mutex);
  if (workspace == nullptr) workspace = Device::Get()->Allocate(kWorkspaceBytes);
  return workspace;
}

// Without a depth, a product is the addend, or zero.
void MultiplyNothing(const Product& product, const void* addend, void* result) {
  Device& device = *Device::Get();
  const size_t bytes = product.batch * product.rows * product.columns * (product.type == TF_BFLOAT16 ? 2 : 4);
  if (addend != nullptr) {
    device.Copy(result, addend, bytes);
  } else {
    device.driver().cuMemsetD8Async(reinterpret_cast<DevicePointer>(result), 0, bytes, device.stream());
  }
}

}  // namespace

void Multiply(Context& context, const Product& product, const void* a, const void* b, const void* addend,
              void* result) {
  if (context.failed() || product.batch == 0 || product.rows == 0 || product.columns == 0) return;
  if (product.depth == 0) return MultiplyNothing(product, addend, result);
  std::string problem;
  const Library* library = cublas::OpenCublas(&problem);
  if (library == nullptr) return context.Fail(TF_INTERNAL, problem);
  if (!context.Check(product.batch <= INT32_MAX, "too many matrices for one product")) return;
  void* workspace = Workspace();
  if (workspace == nullptr) {
    return context.Fail(TF_RESOURCE_EXHAUSTED,
                        "OOM when allocating the workspace of products: " + ErrorText(kOutOfMemory));
  }
  const Key key{
      product,
      addend != nullptr,
      {Alignment(a), Alignment(b), addend == nullptr ? Alignment(result) : Alignment(addend), Alignment(result)}};
  static Plans* const plans = new Plans();
  cublas::Status status = cublas::kSuccess;
  const std::shared_ptr<const Plan> plan = plans->Find(*library, key, &status);
  Device& device = *Device::Get();
  if (plan != nullptr) status = plan->Run(device, a, b, addend, result, workspace);
  if (status != cublas::kSuccess) return Fail(context, product, status);
  product_count.fetch_add(1, std::memory_order_relaxed);
  device.CountLaunch(kName);
}

uint64_t ProductCount() { return product_count.load(); }

uint64_t AlgorithmQueryCount() { return query_count.load(); }

}  // namespace lorasmith::cuda
