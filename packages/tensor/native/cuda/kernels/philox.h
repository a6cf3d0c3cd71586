// Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), and with it uniform numbers in
// [0, 1), bit for bit as TensorFlow's StatelessRandomUniform has them on a CPU.
#pragma once

#include "cuda/kernels/portable.h"

struct PhiloxNumbers {
  uint32_t at[4];
};

// Ten rounds over counter and key.
HOST_DEVICE constexpr PhiloxNumbers Philox(PhiloxNumbers counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; round++) {
    const uint64_t first = 0xd2511f53ull * counter.at[0];
    const uint64_t second = 0xcd9e8d57ull * counter.at[2];
    counter = {{static_cast<uint32_t>(second >> 32) ^ counter.at[1] ^ key0, static_cast<uint32_t>(second),
                static_cast<uint32_t>(first >> 32) ^ counter.at[3] ^ key1, static_cast<uint32_t>(first)}};
    key0 += 0x9e3779b9u;
    key1 += 0xbb67ae85u;
  }
  return counter;
}

// Two seeds, mixed once, so that any two pairs give unrelated numbers.
struct UniformSeed {
  uint32_t key0;
  uint32_t key1;
  uint32_t counter2;
  uint32_t counter3;
};

HOST_DEVICE constexpr UniformSeed MixSeeds(uint64_t seed0, uint64_t seed1) {
  const PhiloxNumbers mixed = Philox({{static_cast<uint32_t>(seed0), static_cast<uint32_t>(seed0 >> 32),
                                       static_cast<uint32_t>(seed1), static_cast<uint32_t>(seed1 >> 32)}},
                                     0x3ec8f720u, 0x02461e29u);
  return {mixed.at[0], mixed.at[1], mixed.at[2], mixed.at[3]};
}

// The bits of numbers 4 i … 4 i + 3.
HOST_DEVICE constexpr PhiloxNumbers UniformBits(const UniformSeed& seed, int64_t i) {
  return Philox(
      {{static_cast<uint32_t>(i), static_cast<uint32_t>(static_cast<uint64_t>(i) >> 32), seed.counter2, seed.counter3}},
      seed.key0, seed.key1);
}

// A number in [1, 2) as float32 has it; one less is the uniform number.
HOST_DEVICE constexpr uint32_t UniformPlusOne(uint32_t bits) { return 0x3f800000u | (bits & 0x7fffffu); }
