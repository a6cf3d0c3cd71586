// SwiGLU (Shazeer 2020, arXiv:2002.05202): silu(gate) * up, gate and up side by side in one row.
#include "kernel.h"
#include "parallel.h"

namespace lorasmith {
namespace {

constexpr int64_t kRowsPerPiece = 8;

inline float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }

// gate_up [tokens, 2 * intermediate] → [tokens, intermediate]
template <typename Number>
void SwiGlu(Context& context) {
  const int64_t rows = context.Dim(0, 0);
  const int64_t width = context.Dim(0, 1) / 2;
  const Number* gate_up = context.Input<Number>(0);
  Number* result = context.Output<Number>(0, {rows, width});
  if (context.failed()) return;
  ParallelRanges(rows, kRowsPerPiece, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const Number* gate = gate_up + row * 2 * width;
      const Number* up = gate + width;
      Number* to = result + row * width;
#pragma omp simd
      for (int64_t i = 0; i < width; i++) {
        const float g = ToFloat(gate[i]);
        Store(g * Sigmoid(g) * ToFloat(up[i]), to + i);
      }
    }
  });
}

// gradient [tokens, intermediate], gate_up [tokens, 2 * intermediate] → [tokens, 2 * intermediate]
template <typename Number>
void SwiGluGradient(Context& context) {
  const int64_t rows = context.Dim(1, 0);
  const int64_t width = context.Dim(1, 1) / 2;
  const Number* gradient = context.Input<Number>(0);
  const Number* gate_up = context.Input<Number>(1);
  if (!context.Check(context.Size(0) == rows * width, "gradient must be half as wide as gate_up")) return;
  Number* result = context.Output<Number>(0, {rows, 2 * width});
  if (context.failed()) return;
  ParallelRanges(rows, kRowsPerPiece, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const Number* gate = gate_up + row * 2 * width;
      const Number* up = gate + width;
      const Number* from = gradient + row * width;
      Number* by_gate = result + row * 2 * width;
      Number* by_up = by_gate + width;
#pragma omp simd
      for (int64_t i = 0; i < width; i++) {
        const float g = ToFloat(gate[i]);
        const float sigmoid = Sigmoid(g);
        const float silu = g * sigmoid;
        const float d = ToFloat(from[i]);
        // d silu / d gate = sigmoid + silu (1 - sigmoid)
        Store(d * ToFloat(up[i]) * (sigmoid + silu * (1.0f - sigmoid)), by_gate + i);
        Store(d * silu, by_up + i);
      }
    }
  });
}

}  // namespace

std::vector<OpDefinition> SwiGluOps() {
  return {
      {"LorasmithSwiGlu", {"gate_up: T"}, {"result: T"}, {}, {}, &SwiGlu<float>, &SwiGlu<BFloat16>},
      {"LorasmithSwiGluGradient",
       {"gradient: T", "gate_up: T"},
       {"result: T"},
       {},
       {},
       &SwiGluGradient<float>,
       &SwiGluGradient<BFloat16>},
  };
}

}  // namespace lorasmith
