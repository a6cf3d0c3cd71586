import type { PeftAdapter } from '@lorasmith/lora';
import { DTYPE_NAMES, type ModelFolder } from '@lorasmith/model-folder';
import type { FloatDtype } from '@lorasmith/safetensors';
import type { MergedLayer } from './merged-projection.js';

/** What is merged into each layer, and the dtype that its weight has in the base's files. */
export function mergedLayers({ modules }: PeftAdapter, { linears, tensors }: ModelFolder): Map<string, MergedLayer> {
  return new Map(
    [...modules].map(([name, module]) => {
      const { dtype } = tensors.get(linears.get(name)!.weight)!.entry;
      // The folder's own check has seen that every linear layer has a float dtype.
      return [name, { module, storedDtype: DTYPE_NAMES[dtype as FloatDtype] }];
    }),
  );
}
