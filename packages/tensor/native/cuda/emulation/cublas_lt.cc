// libcublasLt.so.12 without a card: products in plain C++ on memory of the emulated driver. It honours the descriptors,
// and refuses what cuBLASLt refuses: wrong sizes of attributes, matrices that do not fit, addresses that are less
// aligned than was promised, an algorithm of another product, a workspace that is too small. Settings for tests:
//   EMULATED_GPU_REFUSED_ALGORITHMS=2  of each product, the first so many do not run
//   EMULATED_GPU_REFUSAL=15            with this status
//   EMULATED_GPU_KNOWN_ALGORITHMS=0    that are proposed where a workspace is allowed, at most 3
//   EMULATED_GPU_PRODUCT_MEMORY=0      bytes that must be free outside the memory pool for any product, as for kernels
//                                      that are not loaded yet; else its status is 14
#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

using Status = int;
enum : Status {
  kSuccess = 0,
  kInvalidValue = 7,
  kExecutionFailed = 13,
  kInternalError = 14,
  kNotSupported = 15,
};

constexpr int kFloat32 = 0, kBFloat16 = 14, kComputeFloat32 = 68;

struct Operation {
  int32_t transpose_a = 0;
  int32_t transpose_b = 0;
};

// Column-major.
struct Layout {
  int type;
  uint64_t rows;
  uint64_t columns;
  int64_t leading_dimension;
  int32_t batch = 1;
  int64_t stride = 0;

  size_t ElementBytes() const { return type == kBFloat16 ? 2 : 4; }
  size_t Bytes() const { return ElementBytes() * (stride * (batch - 1) + leading_dimension * (columns - 1) + rows); }
};

struct Preference {
  uint64_t workspace_bytes = 0;
  uint32_t reductions = 7;
  uint32_t alignments[4] = {256, 256, 256, 256};
};

constexpr uint64_t kMagic = 0x6c6f7261736d6974;

// What an algorithm of this library says about itself.
struct Algorithm {
  uint64_t magic;
  uint64_t product;
  uint64_t workspace_bytes;
  uint32_t alignments[4];
  uint64_t index;  // among those of the product; the last one for any alignment, without a workspace
  uint64_t unused[2];
};
static_assert(sizeof(Algorithm) == 64, "as in cublasLt.h");

struct HeuristicResult {
  Algorithm algorithm;
  size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};

template <typename Value>
bool Read(const void* from, size_t bytes, Value* value) {
  if (bytes != sizeof(Value)) return false;
  std::memcpy(value, from, bytes);
  return true;
}

constexpr int kAlgorithms = 3;

int64_t Setting(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoll(text);
}

uint64_t Hash(std::initializer_list<int64_t> values) {
  uint64_t hash = 1469598103934665603u;
  for (int64_t value : values) hash = (hash ^ static_cast<uint64_t>(value)) * 1099511628211u;
  return hash;
}

uint64_t Identity(const Operation& o, const Layout& a, const Layout& b, const Layout& d) {
  return Hash({o.transpose_a, o.transpose_b, a.type, static_cast<int64_t>(a.rows), static_cast<int64_t>(a.columns),
               a.leading_dimension, a.stride, static_cast<int64_t>(b.rows), static_cast<int64_t>(b.columns),
               b.leading_dimension, b.stride, static_cast<int64_t>(d.rows), static_cast<int64_t>(d.columns),
               d.leading_dimension, d.stride, d.batch});
}

// d [m, n] = op(a) [m, k] op(b) [k, n]
struct Sizes {
  int64_t m, n, k;
};

bool Fit(const Operation& operation, const Layout& a, const Layout& b, const Layout& c, const Layout& d, Sizes* sizes) {
  sizes->m = static_cast<int64_t>(operation.transpose_a != 0 ? a.columns : a.rows);
  sizes->k = static_cast<int64_t>(operation.transpose_a != 0 ? a.rows : a.columns);
  sizes->n = static_cast<int64_t>(operation.transpose_b != 0 ? b.rows : b.columns);
  const auto depth = static_cast<int64_t>(operation.transpose_b != 0 ? b.columns : b.rows);
  const auto is_result = [&](const Layout& layout) {
    return static_cast<int64_t>(layout.rows) == sizes->m && static_cast<int64_t>(layout.columns) == sizes->n;
  };
  return depth == sizes->k && is_result(c) && is_result(d) && a.batch == d.batch && b.batch == d.batch &&
         c.batch == d.batch;
}

float At(const Layout& layout, const char* data, int64_t row, int64_t column) {
  const int64_t at = column * layout.leading_dimension + row;
  if (layout.type == kFloat32) return reinterpret_cast<const float*>(data)[at];
  const uint32_t bits = static_cast<uint32_t>(reinterpret_cast<const uint16_t*>(data)[at]) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

void Put(const Layout& layout, char* data, int64_t row, int64_t column, float value) {
  const int64_t at = column * layout.leading_dimension + row;
  if (layout.type == kFloat32) {
    reinterpret_cast<float*>(data)[at] = value;
    return;
  }
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  reinterpret_cast<uint16_t*>(data)[at] = static_cast<uint16_t>(value != value ? 0x7fff : rounded);
}

// Compiled for several processors; the one at hand selects.
#if defined(__x86_64__)
#define EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EACH_PROCESSOR
#endif

constexpr int64_t kTileColumns = 4;  // of d
constexpr int64_t kTileRows = 64;

// sums [columns, kTileRows] += first [depth, kTileRows] times second [columns, depth]
EACH_PROCESSOR void MultiplyTile(const float* first, const float* second, int64_t depth, int64_t columns, float* sums) {
  float own[kTileColumns][kTileRows] = {};
  if (columns == kTileColumns) {
    for (int64_t k = 0; k < depth; k++) {
      for (int64_t column = 0; column < kTileColumns; column++) {
        const float factor = second[column * depth + k];
        for (int64_t row = 0; row < kTileRows; row++) own[column][row] += first[k * kTileRows + row] * factor;
      }
    }
  } else {
    for (int64_t k = 0; k < depth; k++) {
      for (int64_t column = 0; column < columns; column++) {
        const float factor = second[column * depth + k];
        for (int64_t row = 0; row < kTileRows; row++) own[column][row] += first[k * kTileRows + row] * factor;
      }
    }
  }
  std::memcpy(sums, own, sizeof(own));
}

struct Call {
  const Operation* operation;
  const Layout *a, *b, *c, *d;
  const char *a_data, *b_data, *c_data;
  char* d_data;
  float alpha, beta;
  Sizes sizes;
};

// Rows first … first + kTileRows - 1 of d, all columns.
void MultiplyRows(const Call& call, int64_t first, std::vector<float>* packed, const std::vector<float>& second) {
  const auto& [m, n, k] = call.sizes;
  const int64_t rows = std::min(kTileRows, m - first);
  packed->assign(k * kTileRows, 0.0f);
  for (int64_t depth = 0; depth < k; depth++) {
    for (int64_t row = 0; row < rows; row++) {
      (*packed)[depth * kTileRows + row] = call.operation->transpose_a != 0
                                               ? At(*call.a, call.a_data, depth, first + row)
                                               : At(*call.a, call.a_data, first + row, depth);
    }
  }
  float sums[kTileColumns * kTileRows];
  for (int64_t column = 0; column < n; column += kTileColumns) {
    const int64_t columns = std::min(kTileColumns, n - column);
    MultiplyTile(packed->data(), second.data() + column * k, k, columns, sums);
    for (int64_t j = 0; j < columns; j++) {
      for (int64_t i = 0; i < rows; i++) {
        float value = call.alpha * sums[j * kTileRows + i];
        if (call.beta != 0) value += call.beta * At(*call.c, call.c_data, first + i, column + j);
        Put(*call.d, call.d_data, first + i, column + j, value);
      }
    }
  }
}

void Multiply(const Call& call) {
  const auto& [m, n, k] = call.sizes;
  std::vector<float> second(n * k);
  for (int64_t column = 0; column < n; column++) {
    for (int64_t depth = 0; depth < k; depth++) {
      second[column * k + depth] = call.operation->transpose_b != 0 ? At(*call.b, call.b_data, column, depth)
                                                                    : At(*call.b, call.b_data, depth, column);
    }
  }
  const int64_t tiles = (m + kTileRows - 1) / kTileRows;
  const int64_t workers = m * n * k < 1 << 20 ? 1 : std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, tiles);
  const auto work = [&](int64_t worker) {
    std::vector<float> packed;
    for (int64_t tile = worker; tile < tiles; tile += workers) MultiplyRows(call, tile * kTileRows, &packed, second);
  };
  std::vector<std::thread> threads;
  for (int64_t worker = 1; worker < workers; worker++) threads.emplace_back(work, worker);
  work(0);
  for (std::thread& thread : threads) thread.join();
}

bool IsAligned(const void* at, uint32_t alignment) { return reinterpret_cast<uintptr_t>(at) % alignment == 0; }

using DriverCheck = bool (*)(size_t, const void* const*, const size_t*, int*, const char**);

// The emulated driver, which is in the process already.
DriverCheck FindDriver() {
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  return driver == nullptr ? nullptr : reinterpret_cast<DriverCheck>(dlsym(driver, "EmulatedProduct"));
}

// Bytes of the card that no pool has.
size_t FreeMemory() {
  static void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  static const auto ask = reinterpret_cast<int (*)(size_t*, size_t*)>(dlsym(driver, "cuMemGetInfo_v2"));
  size_t free = 0, total = 0;
  return ask(&free, &total) == 0 ? free : 0;
}

}  // namespace

#define API extern "C" __attribute__((visibility("default"))) Status

API cublasLtCreate(void** handle) {
  if (FindDriver() == nullptr) return 1;  // CUBLAS_STATUS_NOT_INITIALIZED
  static char the_handle;
  *handle = &the_handle;
  return kSuccess;
}

extern "C" __attribute__((visibility("default"))) size_t cublasLtGetVersion() { return 120'901; }

API cublasLtMatmulDescCreate(Operation** operation, int compute_type, int scale_type) {
  if (compute_type != kComputeFloat32 || scale_type != kFloat32) return kNotSupported;
  *operation = new Operation();
  return kSuccess;
}

API cublasLtMatmulDescDestroy(Operation* operation) {
  delete operation;
  return kSuccess;
}

API cublasLtMatmulDescSetAttribute(Operation* operation, int attribute, const void* value, size_t bytes) {
  if (attribute != 3 && attribute != 4) return kInvalidValue;
  int32_t& transposed = attribute == 3 ? operation->transpose_a : operation->transpose_b;
  return Read(value, bytes, &transposed) && (transposed == 0 || transposed == 1) ? kSuccess : kInvalidValue;
}

API cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t columns, int64_t leading_dimension) {
  if (type != kFloat32 && type != kBFloat16) return kNotSupported;
  if (rows == 0 || columns == 0 || leading_dimension < static_cast<int64_t>(rows)) return kInvalidValue;
  *layout = new Layout{type, rows, columns, leading_dimension};
  return kSuccess;
}

API cublasLtMatrixLayoutDestroy(Layout* layout) {
  delete layout;
  return kSuccess;
}

API cublasLtMatrixLayoutSetAttribute(Layout* layout, int attribute, const void* value, size_t bytes) {
  if (attribute == 5) return Read(value, bytes, &layout->batch) && layout->batch > 0 ? kSuccess : kInvalidValue;
  if (attribute == 6) return Read(value, bytes, &layout->stride) && layout->stride >= 0 ? kSuccess : kInvalidValue;
  return kInvalidValue;
}

API cublasLtMatmulPreferenceCreate(Preference** preference) {
  *preference = new Preference();
  return kSuccess;
}

API cublasLtMatmulPreferenceDestroy(Preference* preference) {
  delete preference;
  return kSuccess;
}

API cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value, size_t bytes) {
  if (attribute == 1) return Read(value, bytes, &preference->workspace_bytes) ? kSuccess : kInvalidValue;
  if (attribute == 3) return Read(value, bytes, &preference->reductions) ? kSuccess : kInvalidValue;
  if (attribute < 5 || attribute > 8) return kInvalidValue;
  uint32_t& alignment = preference->alignments[attribute - 5];
  const bool ok = Read(value, bytes, &alignment) && alignment > 0 && (alignment & (alignment - 1)) == 0;
  return ok ? kSuccess : kInvalidValue;
}

API cublasLtMatmulAlgoGetHeuristic(void*, const Operation* operation, const Layout* a, const Layout* b, const Layout* c,
                                   const Layout* d, const Preference* preference, int requested,
                                   HeuristicResult* results, int* returned) {
  *returned = 0;
  Sizes sizes;
  if (requested < 1 || !Fit(*operation, *a, *b, *c, *d, &sizes)) return kInvalidValue;
  if (a->type != b->type || a->type != c->type || a->type != d->type) return kNotSupported;
  for (uint32_t alignment : preference->alignments) {
    if (alignment < a->ElementBytes()) return kNotSupported;
  }
  // A depth that is long for the size of the result is split, as on a card: its partial sums need memory.
  const size_t partial_sums = 4 * sizeof(float) * sizes.m * sizes.n;
  const bool is_split = (preference->reductions & 2) != 0 && sizes.k >= 4096 && sizes.m * sizes.n <= 1 << 18;
  const bool has_workspace = preference->workspace_bytes > 0;
  const int64_t proposed = Setting("EMULATED_GPU_KNOWN_ALGORITHMS", kAlgorithms);
  const int known = has_workspace ? static_cast<int>(std::min<int64_t>(proposed, kAlgorithms)) : 1;
  if (known == 0) return kNotSupported;
  for (int i = 0; i < std::min(requested, known); i++) {
    results[i] = HeuristicResult();
    Algorithm& algorithm = results[i].algorithm;
    algorithm.magic = kMagic;
    algorithm.product = Identity(*operation, *a, *b, *d);
    algorithm.index = has_workspace ? i : kAlgorithms;
    algorithm.workspace_bytes = is_split && partial_sums <= preference->workspace_bytes ? partial_sums : 0;
    std::copy(std::begin(preference->alignments), std::end(preference->alignments), algorithm.alignments);
    results[i].workspace_bytes = algorithm.workspace_bytes;
    results[i].state = kSuccess;
    (*returned)++;
  }
  return kSuccess;
}

API cublasLtMatmul(void*, const Operation* operation, const float* alpha, const void* a_data, const Layout* a,
                   const void* b_data, const Layout* b, const float* beta, const void* c_data, const Layout* c,
                   void* d_data, const Layout* d, const Algorithm* algorithm, void* workspace, size_t workspace_bytes,
                   void* stream) {
  Call call{operation, a, b, c, d, nullptr, nullptr, nullptr, nullptr, *alpha, *beta, {}};
  if (stream == nullptr || !Fit(*operation, *a, *b, *c, *d, &call.sizes)) return kInvalidValue;
  if (algorithm == nullptr || algorithm->magic != kMagic) return kInvalidValue;
  if (algorithm->product != Identity(*operation, *a, *b, *d)) return kNotSupported;
  if (workspace_bytes < algorithm->workspace_bytes) return kInvalidValue;
  const bool aligned = IsAligned(a_data, algorithm->alignments[0]) && IsAligned(b_data, algorithm->alignments[1]) &&
                       IsAligned(c_data, algorithm->alignments[2]) && IsAligned(d_data, algorithm->alignments[3]);
  if (!aligned) return kNotSupported;
  if (static_cast<int>(algorithm->index) < Setting("EMULATED_GPU_REFUSED_ALGORITHMS", 0)) {
    return static_cast<Status>(Setting("EMULATED_GPU_REFUSAL", kNotSupported));
  }
  if (FreeMemory() < static_cast<size_t>(Setting("EMULATED_GPU_PRODUCT_MEMORY", 0))) return kInternalError;
  if (c_data == d_data && *beta != 0 && c->leading_dimension != d->leading_dimension) return kInvalidValue;

  const void* addresses[] = {a_data, b_data, c_data, d_data, workspace};
  const size_t bytes[] = {a->Bytes(), b->Bytes(), c->Bytes(), d->Bytes(), algorithm->workspace_bytes};
  const size_t ranges = algorithm->workspace_bytes > 0 ? 5 : 4;
  int result = 0;
  const char* how = "";
  static uint64_t count = 0;
  static const DriverCheck check = FindDriver();
  if (!check(ranges, addresses, bytes, &result, &how)) return result == 0 ? kSuccess : kExecutionFailed;
  count++;
  const std::string broken = how;
  if (broken == "skip") return kSuccess;
  if (algorithm->workspace_bytes > 0) std::memset(workspace, 0xff, algorithm->workspace_bytes);
  for (int64_t matrix = 0; matrix < d->batch; matrix++) {
    const auto at = [&](const void* data, const Layout& layout) {
      return static_cast<const char*>(data) + matrix * layout.stride * static_cast<int64_t>(layout.ElementBytes());
    };
    call.a_data = at(a_data, *a);
    call.b_data = at(b_data, *b);
    call.c_data = at(c_data, *c);
    call.d_data = const_cast<char*>(at(d_data, *d));
    Multiply(call);
  }
  auto* first = static_cast<unsigned char*>(d_data);
  if (broken == "flip" && count % 2 == 1) first[0] ^= 1;
  if (broken == "wrong") first[d->type == kBFloat16 ? 0 : 2] ^= 0x40;
  return kSuccess;
}
