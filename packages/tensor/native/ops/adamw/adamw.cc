// AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) with clipping, in one pass over the parameters.
//
// Every result is rounded after each operation and in this order, as when each is an op of its own: so no product and
// sum become one instruction here.
#pragma GCC optimize("-ffp-contract=off")

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "cpu/kernel.h"
#include "cpu/parallel.h"
#include "ops/adamw/adamw_operands.h"

namespace lorasmith {
namespace {

constexpr int64_t kNumbersPerPiece = 1 << 14;

// Numbers whose squares are added one after the other, in this many sums side by side.
constexpr int64_t kSquaresPerBlock = 1 << 12;
constexpr int64_t kSquareSums = 16;

double BlockSquareSum(const float* x, int64_t count, float factor) {
  double sums[kSquareSums] = {};
  for (int64_t i = 0; i + kSquareSums <= count; i += kSquareSums) {
#pragma omp simd
    for (int64_t k = 0; k < kSquareSums; k++) {
      const float scaled = x[i + k] * factor;
      sums[k] += static_cast<double>(scaled) * scaled;
    }
  }
  for (int64_t i = count / kSquareSums * kSquareSums; i < count; i++) {
    const float scaled = x[i] * factor;
    sums[0] += static_cast<double>(scaled) * scaled;
  }
  return std::accumulate(sums, sums + kSquareSums, 0.0);
}

// The blocks are the same for any number of threads, and so is the result.
struct SquareSum {
  void Compute(Context& context) const {
    const SquareSumOperands o(context);
    if (context.failed()) return;
    std::vector<double> blocks((o.count + kSquaresPerBlock - 1) / kSquaresPerBlock);
    ParallelRanges(static_cast<int64_t>(blocks.size()), 4, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; block++) {
        const int64_t first = block * kSquaresPerBlock;
        blocks[block] = BlockSquareSum(o.x + first, std::min(kSquaresPerBlock, o.count - first), *o.factor);
      }
    });
    *o.result = static_cast<float>(std::accumulate(blocks.begin(), blocks.end(), 0.0));
  }
};

// As torch.nn.utils.clip_grad_norm_ has it.
float ClippingFactor(float square_sum, float max_norm) {
  const double norm = std::sqrt(static_cast<double>(square_sum));
  return static_cast<float>(std::min(1.0, max_norm / (norm + 1e-6)));
}

// Some of the numbers, and where their moments are in float32.
struct Numbers {
  const float* parameters;
  const float* gradient;
  const float* first;
  const float* second;
  const float* rate_factors;
  float* new_parameters;
  float* new_first;
  float* new_second;
};

template <bool kHasFactors, bool kDecays>
void Update(const Numbers& v, const AdamWStep& step, float clipping, int64_t begin, int64_t end) {
#pragma omp simd
  for (int64_t i = begin; i < end; i++) {
    const float gradient = v.gradient[i] * step.gradient_scale * clipping;
    const float first = v.first[i] * step.beta1 + gradient * step.one_minus_beta1;
    const float second = v.second[i] * step.beta2 + gradient * gradient * step.one_minus_beta2;
    const float denominator = std::sqrt(second) / step.root_correction + step.epsilon;
    float step_size = step.step_size;
    float decayed = v.parameters[i];
    if constexpr (kHasFactors) {
      step_size = v.rate_factors[i] * step_size;
      if constexpr (kDecays) decayed = decayed * (1.0f - v.rate_factors[i] * step.decay_rate);
    } else if constexpr (kDecays) {
      decayed = decayed * step.kept;
    }
    v.new_parameters[i] = decayed - first / denominator * step_size;
    v.new_first[i] = first;
    v.new_second[i] = second;
  }
}

auto UpdateFor(bool has_factors, const AdamWStep& step) {
  const bool decays = step.decay_rate != 0;
  return has_factors ? (decays ? &Update<true, true> : &Update<true, false>)
                     : (decays ? &Update<false, true> : &Update<false, false>);
}

struct AdamW {
  void Compute(Context& context) const {
    const AdamWOperands<float> o(context);
    if (context.failed()) return;
    const float clipping = ClippingFactor(*o.square_sum, o.step->max_norm);
    const auto update = UpdateFor(o.rate_factors != nullptr, *o.step);
    const Numbers all{o.parameters,   o.gradient,       o.first,     o.second,
                      o.rate_factors, o.new_parameters, o.new_first, o.new_second};
    ParallelRanges(o.count, kNumbersPerPiece,
                   [&](int64_t begin, int64_t end) { update(all, *o.step, clipping, begin, end); });
  }
};

// What the codes of a moment stand for, and the middles between them.
struct MomentTable {
  explicit MomentTable(const float* of) : values(of) {
    for (int code = 0; code + 1 < kMomentCodes; code++) middles[code] = MomentMiddle(of, code);
  }

  const float* values;
  float middles[kMomentCodes - 1];
};

void DecodeBlock(const uint8_t* block, const MomentTable& table, int64_t count, float* numbers) {
  float scale;
  std::memcpy(&scale, block + kMomentBlock, sizeof(scale));
#pragma omp simd
  for (int64_t i = 0; i < count; i++) numbers[i] = table.values[block[i]] * scale;
}

void EncodeBlock(const float* numbers, const MomentTable& table, int64_t count, uint8_t* block) {
  float scale = 0;
#pragma omp simd reduction(max : scale)
  for (int64_t i = 0; i < count; i++) scale = std::max(scale, std::abs(numbers[i]));
  std::fill(block, block + kMomentBlock, uint8_t{0});
  const float* const middles = table.middles;
  if (scale != 0) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
      block[i] = static_cast<uint8_t>(MomentCode(numbers[i], scale, [=](int code) { return middles[code]; }));
    }
  }
  std::memcpy(block + kMomentBlock, &scale, sizeof(scale));
}

// Decodes a block of both moments, updates its numbers as AdamW does, and encodes the moments again.
struct AdamW8bit {
  void Compute(Context& context) const {
    const AdamWOperands<uint8_t> o(context);
    if (context.failed()) return;
    const float clipping = ClippingFactor(*o.square_sum, o.step->max_norm);
    const auto update = UpdateFor(o.rate_factors != nullptr, *o.step);
    const MomentTable of_first(o.tables), of_second(o.tables + kMomentCodes);
    ParallelRanges(MomentBlocks(o.count), kNumbersPerPiece / kMomentBlock, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; block++) {
        const int64_t from = block * kMomentBlock;
        const int64_t bytes = block * kMomentBlockBytes;
        const int64_t count = std::min<int64_t>(kMomentBlock, o.count - from);
        float first[kMomentBlock], second[kMomentBlock];
        DecodeBlock(o.first + bytes, of_first, count, first);
        DecodeBlock(o.second + bytes, of_second, count, second);
        const float* const factors = o.rate_factors == nullptr ? nullptr : o.rate_factors + from;
        const Numbers own{
            o.parameters + from, o.gradient + from, first, second, factors, o.new_parameters + from, first, second};
        update(own, *o.step, clipping, 0, count);
        EncodeBlock(first, of_first, count, o.new_first + bytes);
        EncodeBlock(second, of_second, count, o.new_second + bytes);
      }
    });
  }
};

}  // namespace

std::vector<OpDefinition> AdamWOps() {
  return {
      {"LorasmithSquareSum", {"x: T", "factor: T"}, {"result: T"}, {}, {KernelOn<SquareSum>("CPU", TF_FLOAT)}},
      {"LorasmithAdamW",
       {"parameters: T", "gradient: T", "first: T", "second: T", "rate_factors: T", "square_sum: T", "step: T"},
       {"new_parameters: T", "new_first: T", "new_second: T"},
       {},
       {KernelOn<AdamW>("CPU", TF_FLOAT)}},
      {"LorasmithAdamW8bit",
       {"parameters: T", "gradient: T", "first: uint8", "second: uint8", "rate_factors: T", "square_sum: T", "step: T",
        "tables: T"},
       {"new_parameters: T", "new_first: uint8", "new_second: uint8"},
       {},
       {KernelOn<AdamW8bit>("CPU", TF_FLOAT)}},
  };
}

}  // namespace lorasmith
