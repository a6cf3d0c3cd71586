// The numbers by which the input `layout` of LoRA's products describes its adapters: of each adapter the fields of
// PartField, then of each of its layers those of LayerField. A field named …Bits holds the bits of a float32.
// src/kernels/lora-products.ts writes them; a test compares the two lists.
#pragma once

namespace lorasmith {

enum PartField { kFirst, kCount, kOffset, kLayers, kRateBits, kScaleBits, kSeed0, kSeed1, kPartFields };

enum LayerField { kRank, kFirstRow, kRows, kLayerScaleBits, kLayerFields };

}  // namespace lorasmith
